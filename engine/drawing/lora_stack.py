"""The LoRAs that are on a loaded model now: changed to those of the next picture without loading the model again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from engine.adapter_header import parts_of_file
from engine.adapters.attach import Adapter
from engine.adapters.loading import read_onto
from engine.adapters.targets import UNET
from engine.drawing.lora_lines import LoraChoice
from engine.sdxl.layers import block_of

MOST_KEPT = 8
"""So many files that are not in use stay in memory, for those who go back and forth."""

_Stamp = tuple[str, int, int]


class LoraStack:
    """Puts files onto the parts of a model ("unet", "text_encoder_1", "text_encoder_2")."""

    def __init__(self, models: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
        self.models = dict(models)
        self.dtype = dtype
        self.installed: list[tuple[_Stamp, LoraChoice]] = []
        self._on: list[Adapter] = []
        self._read: dict[_Stamp, list[Adapter]] = {}

    def use(self, loras: Sequence[LoraChoice]) -> None:
        """From now on the model computes with these and no others. ModelError where a file does not fit the model.

        A file that is named twice acts twice.
        """
        wanted = [(_stamp(lora.path), lora) for lora in loras]
        if wanted == self.installed:
            return
        self._take_off()
        for stamp, lora in wanted:
            adapters = self._adapters(stamp, lora.path)
            for adapter in adapters:
                _set_strengths(adapter, lora)  # first: what lies above may look at what this one does
                self._on.append(adapter)
                adapter.install()
            self.installed.append((stamp, lora))
        self._forget([stamp for stamp, _ in wanted])

    def texts_mark(self, loras: Sequence[LoraChoice]) -> tuple[object, ...]:
        """What the text encoders' features depend on."""
        return tuple((_stamp(lora.path), lora.text_strength) for lora in loras if lora.text_strength)

    def _take_off(self) -> None:
        for adapter in reversed(self._on):
            adapter.detach()
        self.installed, self._on = [], []

    def _forget(self, used: Sequence[_Stamp]) -> None:
        """Let go of the files that were not used for longest."""
        unused = [stamp for stamp in self._read if stamp not in used]
        for stamp in unused[: max(0, len(unused) - MOST_KEPT)]:
            del self._read[stamp]

    def _adapters(self, stamp: _Stamp, path: Path) -> list[Adapter]:
        """The file on the UNet, and on the text encoders, as far as it has layers for them; read once."""
        in_use = any(stamp == other for other, _ in self.installed)
        if stamp not in self._read or in_use:
            found: list[Adapter] = []
            parts = parts_of_file(path)
            for group in ([UNET], [part for part in self.models if part != UNET]):
                here = {part: self.models[part] for part in group if part in self.models and part in parts}
                if here:
                    adapter = read_onto(here, path)
                    adapter.to(None, self.dtype)
                    found.append(adapter)
            if in_use:
                return found
            self._read[stamp] = found
        return self._read[stamp]


def _set_strengths(adapter: Adapter, lora: LoraChoice) -> None:
    is_unet = all(part == UNET for part in adapter.part_of.values())
    adapter.multiplier = lora.strength if is_unet else lora.text_strength
    weights = lora.block_weights if is_unet else ()
    names = [site.target.name for site in adapter.sites] if weights else []
    adapter.factors = {name: weights[block] for name in names if (block := block_of(name)) is not None}


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns
