"""Every name that any program gives to a tensor of an SDXL adapter is read, and is written back as it was."""

from __future__ import annotations

from functools import cache

import pytest
from adapter_models import full_size

from engine import adapter_config
from engine.adapter_config import LayerScale
from engine.adapter_names import DOWN, MAGNITUDE, UP, Key, kohya_layer, naming_of, parse, part_of, spell
from engine.adapters.targets import all_targets, diffusers_name
from engine.sdxl.layers import TEXT_2, UNET, block_of

NAMINGS = ("kohya", "lycoris", "diffusers", "diffusers_old", "peft")


@cache
def layers() -> dict[str, str]:
    """{our name: name with diffusers' path} of all layers of full-size SDXL."""
    return {
        target.name: diffusers_name(part, target.path) if part == UNET else target.name
        for part, model in full_size().items()
        for target in all_targets(part, model)
    }


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_name_of_sdxl_comes_back_through_every_naming(naming):
    for layer in layers():
        part = part_of(layer)
        names = [spell(Key(layer, suffix), naming) for suffix in (DOWN, UP)]
        found = [parse(name, part) for name in names if name is not None and part is not None]
        assert [key.suffix for _, key in filter(None, found)] == [DOWN, UP]
        assert {kohya_layer(key.layer) for _, key in filter(None, found)} == {layer}
        if part == UNET:
            assert {kind for kind, _ in filter(None, found)} == {naming}
        assert [spell(key, naming) for _, key in filter(None, found)] == names


def test_a_layer_is_in_one_block_whatever_its_naming():
    assert {name: block_of(name) for name in layers()} == {name: block_of(other) for name, other in layers().items()}
    assert {block_of(name) for name in layers()} - {None} == set(range(23))


@pytest.mark.parametrize(
    ("name", "layer", "suffix"),
    [
        ("unet.mid_block.attentions.0.transformer_blocks.3.attn1.processor.to_out_lora.up.weight",
         "lora_unet_mid_block_attentions_0_transformer_blocks_3_attn1_to_out_0", UP),
        ("unet.up_blocks.0.attentions.1.proj_in.lora.down.weight", "lora_unet_up_blocks_0_attentions_1_proj_in", DOWN),
        ("text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora.down.weight",
         "lora_te1_text_model_encoder_layers_3_self_attn_q_proj", DOWN),
        ("text_encoder_2.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.up.weight",
         "lora_te2_text_model_encoder_layers_3_mlp_fc1", UP),
        ("base_model.model.mid_block.attentions.0.proj_in.lora_A.default.weight",
         "lora_unet_mid_block_attentions_0_proj_in", DOWN),
        ("unet.mid_block.attentions.0.proj_in.lora_magnitude_vector.weight",
         "lora_unet_mid_block_attentions_0_proj_in", MAGNITUDE),
        ("lycoris_mid_block_attentions_0_proj_in.lokr_w1", "lora_unet_mid_block_attentions_0_proj_in", "lokr_w1"),
    ],
)  # fmt: skip
def test_spellings_of_older_versions_are_read(name, layer, suffix):
    found = parse(name)
    assert found is not None and found[1] == Key(layer, suffix)


@pytest.mark.parametrize(
    "name",
    ["unet.conv_in.weight", "model.diffusion_model.out.0.weight", "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
     "transformer.blocks.0.attn.to_q.lora_A.weight", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"],
)  # fmt: skip
def test_names_of_other_models_are_not_taken_for_adapters_of_sdxl(name):
    assert parse(name) is None


def test_names_of_peft_mean_the_encoder_that_is_said():
    found = parse("base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", TEXT_2)
    assert found is not None and part_of(found[1].layer) == TEXT_2
    assert naming_of(["kohya", "lycoris", "kohya"]) == "lycoris"


def test_alphas_come_back_out_of_a_configuration():
    rows = [
        LayerScale("mid_block.attentions.0.proj_in", 4, 2.0),
        LayerScale("conv_in", 8, 0.5),
        LayerScale("a.b", 4, 2),
    ]
    config = adapter_config.make_config(rows, False)
    text = adapter_config.write_configs({UNET: config})
    read = adapter_config.read_configs({adapter_config.METADATA_KEY: text}, "")[UNET]
    assert [adapter_config.alpha_in(read, row.path, row.rank, "") for row in rows] == [2.0, 0.5, 2.0]
    assert adapter_config.alpha_in({**read, "use_rslora": True}, "a.b", 4, "") == 4.0
