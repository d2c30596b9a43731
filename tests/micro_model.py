"""The smallest SDXL that the engine takes, for runs whose numbers do not matter: half of the demo model's depth.

Its weights are random, from a seed. It is written once a test process; what is learned on it means nothing.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from demo import tiny_sdxl
from engine.sdxl.checkpoint import write_single_file


def write(path: Path) -> Path:
    """Write the model as one .safetensors file (fp16, 7 MB)."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet, vae, (one, two) = tiny_sdxl.new_unet(), tiny_sdxl.new_vae(), tiny_sdxl.new_text_encoders()
        unet = UNet2DConditionModel(**shallow(unet, layers_per_block=1, transformer_layers_per_block=(1, 1, 1)))
        vae = AutoencoderKL(**shallow(vae, block_out_channels=(8, 16, 16, 16)))
        write_single_file(path, unet, vae, (one, two), torch.float16, {})
    return path


def shallow(module: Any, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in module.config.items() if not name.startswith("_")} | changes


@cache
def micro_model() -> Path:
    """The file, in a folder that is removed when the process ends."""
    _folders.append(tempfile.TemporaryDirectory())
    return write(Path(_folders[0].name) / "micro.safetensors")


_folders: list[tempfile.TemporaryDirectory[str]] = []
