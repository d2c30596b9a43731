"""The demo model, loaded: what several tests of checkpoints compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.preset import ROOT
from engine.sdxl import keys
from engine.sdxl.checkpoint import TextEncoders, load_text_encoders, load_unet, load_vae, write_single_file
from engine.sdxl.detect import ModelFacts
from engine.sdxl.safefile import read_header

CPU = torch.device("cpu")
STORED = torch.float16  # as the demo model is stored
METADATA = read_header(ROOT / "demo" / "model.safetensors").metadata  # tells what its shapes alone do not


@dataclasses.dataclass(frozen=True)
class Model:
    """All parts of one SDXL; typed loosely, since tests also save and break them."""

    unet: Any
    vae: Any
    text: TextEncoders

    def parts(self) -> dict[str, nn.Module]:
        """The four modules by name."""
        return {"unet": self.unet, "vae": self.vae, "text_1": self.text.one, "text_2": self.text.two}


def load(facts: ModelFacts, dtype: torch.dtype) -> Model:
    """All parts on the CPU."""
    return Model(load_unet(facts, dtype, CPU), load_vae(facts, dtype, CPU), load_text_encoders(facts, dtype, CPU))


def write(path: Path, model: Model, dtype: torch.dtype, metadata: dict[str, str] | None = None) -> Path:
    """Write the model as a single file."""
    write_single_file(path, model.unet, model.vae, (model.text.one, model.text.two), dtype, metadata)
    return path


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Same names, same numbers, bit for bit."""
    assert found.keys() == wanted.keys()
    different = [name for name in wanted if not torch.equal(found[name], wanted[name])]
    assert not different


def vae_tensors(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The VAE of a single file, as a file of its own names it."""
    return {name[len(keys.VAE_PREFIX) :]: t for name, t in stored.items() if name.startswith(keys.VAE_PREFIX)}
