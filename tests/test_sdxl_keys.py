"""Names of SDXL's weights in both layouts."""

from __future__ import annotations

import json

import pytest
from conftest import REFERENCE
from reduced_model import UNET_NAMES, VAE_LEVELS, full_size_shapes

from engine.sdxl import keys

FULL_SIZE = full_size_shapes()
UNET = [name[len(keys.UNET_PREFIX) :] for name in FULL_SIZE if name.startswith(keys.UNET_PREFIX)]
VAE = [name[len(keys.VAE_PREFIX) :] for name in FULL_SIZE if name.startswith(keys.VAE_PREFIX)]


def test_unet_names_go_there_and_back():
    there = [keys.unet_from_ldm(name, UNET_NAMES) for name in UNET]
    assert len(set(there)) == len(UNET)
    assert [keys.unet_to_ldm(name, UNET_NAMES) for name in there] == UNET


def test_vae_names_go_there_and_back():
    there = [keys.vae_from_ldm(name, VAE_LEVELS) for name in VAE]
    assert len(set(there)) == len(VAE)
    assert [keys.vae_to_ldm(name, VAE_LEVELS) for name in there] == VAE


def test_diffusers_vae_names_stay_as_they_are():
    there = [keys.vae_from_ldm(name, VAE_LEVELS) for name in VAE]
    assert [keys.vae_from_ldm(name, VAE_LEVELS) for name in there] == there


def test_old_diffusers_names_of_the_vae_attention_are_known():
    root = "decoder.mid_block.attentions.0."
    old = ["query.weight", "key.bias", "value.weight", "proj_attn.bias", "group_norm.weight"]
    new = ["to_q.weight", "to_k.bias", "to_v.weight", "to_out.0.bias", "group_norm.weight"]
    assert [keys.vae_from_ldm(root + name, VAE_LEVELS) for name in old] == [root + name for name in new]


def test_unet_module_names_equal_sd_scripts_map():
    known = json.loads((REFERENCE / "unet_names.json").read_text(encoding="utf-8"))["map"]
    modules = {name.rpartition(".")[0] for name in UNET}
    ours = {f"lora_unet_{name}".replace(".", "_"): _lora_name(keys.unet_from_ldm(name, UNET_NAMES)) for name in modules}
    assert {name: ours.get(name) for name in known} == known


def _lora_name(module: str) -> str:
    return f"lora_unet_{module}".replace(".", "_")


@pytest.mark.parametrize(
    ("ldm", "diffusers"),
    [
        ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks.4.0.skip_connection", "down_blocks.1.resnets.0.conv_shortcut"),
        ("input_blocks.8.1", "down_blocks.2.attentions.1"),
        ("middle_block.2.emb_layers.1", "mid_block.resnets.1.time_emb_proj"),
        ("output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks.5.1.proj_in", "up_blocks.1.attentions.2.proj_in"),
        ("label_emb.0.2", "add_embedding.linear_2"),
        ("out.2", "conv_out"),
    ],
)
def test_modules_have_names_too(ldm: str, diffusers: str):
    assert keys.unet_to_ldm(diffusers, UNET_NAMES) == ldm
    assert keys.unet_from_ldm(ldm, UNET_NAMES) == diffusers


def test_an_upsampler_after_blocks_without_attention_comes_second():
    plain = {"layers_per_block": 2, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")}
    assert keys.unet_to_ldm("up_blocks.0.upsamplers.0.conv", plain) == "output_blocks.2.1.conv"
    assert keys.unet_from_ldm("output_blocks.2.1.conv", plain) == "up_blocks.0.upsamplers.0.conv"


@pytest.mark.parametrize("name", ["", "down_blocks", "down_blocks.0.motion.1", "mid_block.resnets.0.norm3", "lora"])
def test_unknown_names_are_refused(name: str):
    with pytest.raises(KeyError):
        keys.unet_to_ldm(name, UNET_NAMES)
    with pytest.raises(KeyError):
        keys.unet_from_ldm(name, UNET_NAMES)


def test_the_second_encoder_stacks_q_k_v_and_turns_its_projection():
    layer = "text_model.encoder.layers.3.self_attn."
    stacked = [keys.text_2_source(f"{layer}{which}_proj.bias") for which in "qkv"]
    assert stacked == [keys.Source("transformer.resblocks.3.attn.in_proj_bias", third) for third in range(3)]
    assert keys.text_2_source("text_projection.weight") == keys.Source("text_projection", transposed=True)
    assert keys.text_2_source("encoder.layers.0.mlp.fc2.weight").key == "transformer.resblocks.0.mlp.c_proj.weight"


def test_the_first_encoder_has_one_name_with_and_without_prefix():
    with_prefix = keys.text_1_source("text_model.final_layer_norm.bias")
    assert with_prefix == keys.text_1_source("final_layer_norm.bias") == keys.Source("text_model.final_layer_norm.bias")
