"""What the drawing tests share: the micro model loaded once, a micro refiner, LoRA files, and diffusers' pipelines."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file

from demo import tiny_sdxl
from engine.adapters.attach import Recipe, attach
from engine.adapters.targets import TEXT_1, TEXT_2, UNET
from engine.drawing.settings import DrawingPreset
from engine.drawing.studio import Studio
from engine.sdxl import checkpoint, configs, keys, writer
from engine.sdxl.detect import identify
from tests.micro_model import micro_model, shallow

SMALL: dict[str, Any] = {
    "picture.prompt": "a sks thing",
    "picture.negative": "blurry",
    "picture.width_px": 64,
    "picture.height_px": 64,
    "picture.seed": 7,
    "sampling.sampler": "euler",
    "sampling.sigmas": "normal",
    "sampling.steps": 4,
    "sampling.cfg_scale": 4.0,
    "model.precision": "fp32",
    "model.device": "cpu",
    "model.threads": 1,
    "preview.every_steps": 0,
}
_folders: list[tempfile.TemporaryDirectory[str]] = []


def small_drawing(**changes: Any) -> DrawingPreset:
    """A drawing of the micro model; `sampling__steps=2` sets a value."""
    values = {key.replace("__", "."): value for key, value in changes.items()}
    return DrawingPreset().changed({**SMALL, "model.base": str(micro_model()), **values})


@cache
def studio() -> Studio:
    """One for all tests of a process: weights stay loaded."""
    return Studio()


@cache
def _folder() -> Path:
    _folders.append(tempfile.TemporaryDirectory())
    return Path(_folders[0].name)


@cache
def micro_refiner() -> Path:
    """A refiner with random weights: four levels, attention in the middle two, one text encoder, five numbers."""
    path = _folder() / "refiner.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(11)
        vae, (one, two) = tiny_sdxl.new_vae(), tiny_sdxl.new_text_encoders()
        vae = AutoencoderKL(**shallow(vae, block_out_channels=(8, 16, 16, 16)))
        unet = UNet2DConditionModel(
            **shallow(
                tiny_sdxl.new_unet(),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(32, 32, 64, 64),
                attention_head_dim=(1, 1, 2, 2),
                layers_per_block=1,
                transformer_layers_per_block=(1, 1, 1, 1),
                cross_attention_dim=tiny_sdxl.TEXT_WIDTHS[1],
                projection_class_embeddings_input_dim=tiny_sdxl.TEXT_WIDTHS[1] + 5 * tiny_sdxl.SIZE_WIDTH,
            )
        )
    entries = {}
    parts: tuple[tuple[str, Any], ...] = (("unet", unet), ("vae", vae), ("text_2", two))
    for part, module in parts:
        config: Any = {} if part == "text_2" else module.config
        entries |= writer._entries(part, module, config, torch.float16)
    named = {key.replace(keys.TEXT_2_PREFIX, keys.REFINER_TEXT_PREFIX): entry for key, entry in entries.items()}
    overrides = configs.overrides_of(unet.config, one.config, two.config, vae.config)
    writer._write_tensors(path, named, {configs.OVERRIDES_KEY: writer.json.dumps(overrides)})
    return path


@cache
def lora_file(algorithm: str = "lora", seed: int = 0, strength: float = 0.1) -> Path:
    """A LoRA or a relative with random numbers on a few layers of UNet and text encoders."""
    path = _folder() / f"{algorithm}-{seed}.safetensors"
    facts = identify(micro_model())
    both = checkpoint.load_text_encoders(facts, torch.float32, "cpu")
    models = {UNET: checkpoint.load_unet(facts, torch.float32, "cpu"), TEXT_1: both.one, TEXT_2: both.two}
    adapter = attach(models, Recipe(algorithm, rank=2, alpha=2.0, seed=seed))
    generator = torch.Generator().manual_seed(seed)
    for flat in adapter.flat_of.values():
        with torch.no_grad():
            flat.vector.add_(torch.randn(flat.vector.shape, generator=generator) * strength)
    save_file({name: tensor.contiguous().clone() for name, tensor in adapter.tensors().items()}, path)
    return path
