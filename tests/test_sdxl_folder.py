"""Diffusers folders hold the same model as single files; damaged ones are refused in a sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from loaded_model import CPU, STORED, Model, assert_equal, load, write
from safetensors.torch import load_file

from engine.errors import ModelError
from engine.sdxl.checkpoint import (
    load_unet,
    load_vae,
)
from engine.sdxl.detect import identify


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reduced model as diffusers and transformers save it."""
    path = tmp_path_factory.mktemp("folder")
    names = {"unet": "unet", "vae": "vae", "text_1": "text_encoder", "text_2": "text_encoder_2"}
    parts: dict[str, Any] = model.parts()
    for part, module in parts.items():
        module.save_pretrained(path / names[part])
    index = {name: ["some_library", "SomeClass"] for name in names.values()}
    (path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"} | index))
    (path / "scheduler").mkdir()
    set_scheduler(path, prediction_type="epsilon")
    return path


def set_scheduler(folder: Path, **settings: object) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))


def linked(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder to change; the weights are links, so nothing is copied."""
    copy = tmp_path / "model"
    shutil.copytree(folder, copy, copy_function=os.link)
    return copy


def replace_text(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)


def test_a_diffusers_folder_holds_the_same_model(folder: Path, model: Model):
    facts = identify(folder)
    assert (facts.layout, facts.kind, facts.prediction) == ("folder", "base", "epsilon")
    for part, module in load(facts, STORED).parts().items():
        assert_equal(module.state_dict(), model.parts()[part].state_dict())


def test_a_folder_becomes_the_same_single_file(folder: Path, stored: dict, tmp_path: Path):
    assert_equal(load_file(write(tmp_path / "a.safetensors", load(identify(folder), STORED), STORED)), stored)


def test_the_scheduler_of_a_folder_tells_v_prediction_and_zero_snr(folder: Path, tmp_path: Path):
    copy = linked(folder, tmp_path)
    (copy / "scheduler" / "scheduler_config.json").unlink()
    set_scheduler(copy, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    facts = identify(copy)
    assert (facts.prediction, facts.zero_terminal_snr) == ("v_prediction", True)
    set_scheduler(copy, prediction_type="sample")
    with pytest.raises(ModelError, match="'sample'"):
        identify(copy)
    set_scheduler(copy, _class_name="EDMEulerScheduler")
    with pytest.raises(ModelError, match="EDM"):
        identify(copy)


def test_fp16_variants_and_shards_are_found(folder: Path, tmp_path: Path, model: Model):
    copy = linked(folder, tmp_path)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    shutil.rmtree(copy / "vae")
    load_vae(identify(folder), torch.float32, CPU).save_pretrained(copy / "vae", max_shard_size="200KB")
    assert len(list((copy / "vae").glob("*-of-*.safetensors"))) > 1
    facts = identify(copy)
    assert_equal(load_unet(facts, STORED, CPU).state_dict(), model.unet.state_dict())
    assert_equal(load_vae(facts, STORED, CPU).state_dict(), model.vae.state_dict())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: shutil.rmtree(path / "text_encoder"), "first text encoder"),
        (lambda path: shutil.rmtree(path / "text_encoder_2"), "second text encoder"),
        (lambda path: shutil.rmtree(path / "vae"), "the VAE"),
        (lambda path: shutil.rmtree(path / "unet"), "without UNet"),
        (lambda path: (path / "unet" / "config.json").unlink(), "config.json"),
        (lambda path: (path / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "holds no weights"),
        (lambda path: replace_text(path / "unet" / "config.json", "{"), "cannot be read"),
        (lambda path: replace_text(path / "unet" / "config.json", "[]"), "no JSON object"),
        (lambda path: replace_text(path / "model_index.json", "null"), "no JSON object"),
        (
            lambda path: replace_text(path / "unet" / "config.json", '{"cross_attention_dim": 768}'),
            "Stable Diffusion 1.x",
        ),
        (
            lambda path: (path / "vae" / "diffusion_pytorch_model.safetensors").rename(path / "vae" / "a.bin"),
            "is a pickle",
        ),
    ],
)
def test_damaged_folders_get_a_sentence(folder: Path, tmp_path: Path, change, words: str):
    copy = linked(folder, tmp_path)
    change(copy)
    with pytest.raises(ModelError, match=words):
        identify(copy)


def test_a_part_of_a_folder_leads_to_the_folder(folder: Path):
    with pytest.raises(ModelError, match="Choose the folder that it belongs to"):
        identify(folder / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match="Choose the folder above"):
        identify(folder / "unet")


def test_a_shard_list_cannot_point_out_of_its_folder(folder: Path, tmp_path: Path):
    copy = linked(folder, tmp_path)
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    index = {"weight_map": {"a": "../unet/diffusion_pytorch_model.safetensors"}}
    weights.unlink()
    weights.with_name(weights.name + ".index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="outside of its folder"):
        identify(copy)
