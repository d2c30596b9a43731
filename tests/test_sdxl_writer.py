"""Single files out: the same tensors byte for byte, whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from loaded_model import STORED, Model, assert_equal, load, write
from safetensors.torch import load_file
from torch import nn

from engine.errors import UserError
from engine.sdxl.checkpoint import (
    TextEncoders,
)
from engine.sdxl.detect import identify


def test_a_written_file_holds_the_same_tensors(model: Model, stored: dict, tmp_path: Path):
    path = write(tmp_path / "again.safetensors", model, STORED, {"modelspec.title": "again"})
    assert_equal(load_file(path), stored)
    facts = identify(path)
    assert (facts.kind, facts.prediction) == ("base", "epsilon")


def test_what_shapes_cannot_tell_is_written_down(tmp_path: Path):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    unet_settings: dict[str, Any] = {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 2),
        "cross_attention_dim": 72,
        "norm_num_groups": 16,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 32,
        "projection_class_embeddings_input_dim": 40 + 6 * 32,
    }
    vae_settings: dict[str, Any] = {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
    }
    unet, vae = UNet2DConditionModel(**unet_settings), AutoencoderKL(**vae_settings)
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "vocab_size": 99, "projection_dim": 40, "num_attention_heads": 4}
    one = CLIPTextModel(CLIPTextConfig(hidden_size=32, intermediate_size=64, **sizes))
    two = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=40, intermediate_size=80, hidden_act="gelu", **sizes))
    tiny = Model(unet, vae, TextEncoders(one, two))
    facts = identify(write(tmp_path / "tiny.safetensors", tiny, torch.float16))
    again = load(facts, torch.float16)
    for part, module in again.parts().items():
        wanted = {name: tensor.half() for name, tensor in tiny.parts()[part].state_dict().items()}
        assert_equal(module.state_dict(), wanted)
    for name in ("attention_head_dim", "norm_num_groups", "transformer_layers_per_block", "addition_time_embed_dim"):
        assert tuple_of(facts.config.unet[name]) == tuple_of(unet.config[name])
    assert again.vae.config["norm_num_groups"] == 8  # type: ignore[index]
    assert again.text.one.config.num_attention_heads == again.text.two.config.num_attention_heads == 4


def tuple_of(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def test_a_file_that_cannot_be_written_leaves_the_old_one(model: Model, tmp_path: Path):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UserError, match="could not be saved"):
        write(tmp_path / "folder.safetensors", model, STORED)
    target = tmp_path / "old.safetensors"
    target.write_text("old")
    broken = dataclasses.replace(model, vae=nn.Linear(1, 1))
    with pytest.raises(AttributeError):
        write(target, broken, STORED)
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.safetensors", "old.safetensors"]
