"""What the new file of a tool calls its tensors: as its input does, with the alphas where that naming has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.adapter_config import Config, LayerScale, make_config
from engine.adapter_header import PEFT_FILE
from engine.adapter_names import ALPHA, DOTTED, DOWN, FOLDERS, MAGNITUDE, Key, Naming, part_of, path_of, spell
from engine.lora_tools.lora_file import LoraFile
from engine.lora_tools.place import SUFFIX
from engine.sdxl.layers import UNET

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Spelling:
    """A naming as certain files have it. `known`: {our name: the file's}; `stems`: {layer: what its names begin with}.

    `has_config`: alphas stood in a configuration; `is_flat`: peft's folder had no folder for each part.
    """

    naming: Naming = "kohya"
    known: Mapping[str, str] = field(default_factory=dict)
    stems: Mapping[str, str] = field(default_factory=dict)
    layers_per_block: int = 2
    has_config: bool = False
    is_flat: bool = False
    was_dotted: bool = False

    def name(self, layer: str, suffix: str) -> str | None:
        """The name in the file; None where the naming has none, as for alphas that stand in a configuration."""
        ours = f"{layer}.{suffix}"
        if ours in self.known:
            return self.known[ours]
        if self.naming not in DOTTED and layer in self.stems:
            return f"{self.stems[layer]}.{suffix}"
        spelt = spell(Key(layer, suffix), self.naming, self.layers_per_block)
        return spelt if spelt is not None or (suffix == ALPHA and self.naming in DOTTED) else ours


@dataclass(frozen=True)
class Spelt:
    """The tensors of each part of the model under a file's names, and the configurations that go with them."""

    parts: dict[str, dict[str, Tensor]]
    configs: dict[str, Config]


def shared_naming(files: Sequence[LoraFile]) -> Naming:
    """The naming of all files; kohya's where they differ."""
    first = files[0].naming
    return first if all(file.naming == first for file in files) else "kohya"


def spelling_of(files: Sequence[LoraFile], target: Path) -> Spelling:
    """How to write a result of these files. One file of peft's has kohya's names: its own are told apart by folders."""
    naming = shared_naming(files)
    was_dotted = any(file.naming in DOTTED for file in files)
    if naming == "peft" and target.suffix.lower() == SUFFIX:
        naming = "kohya"
    if any(file.naming != naming for file in files):
        return Spelling(naming, was_dotted=was_dotted)
    known = {
        f"{layer.name}.{suffix}": key
        for file in files
        for layer in file.layers.values()
        for suffix, key in layer.keys.items()
    }
    stems = {ours.partition(".")[0]: key.partition(".")[0] for ours, key in known.items()}
    return Spelling(
        naming,
        known,
        {} if naming in DOTTED else stems,
        max(file.layers_per_block for file in files),
        any(file.has_config for file in files),
        all(file.path.is_file() or (file.path / PEFT_FILE).is_file() for file in files),
        was_dotted,
    )


def spelt(tensors: Mapping[str, Tensor], spelling: Spelling) -> Spelt:
    """Tensors of our names (`layer.suffix`) under those of a file; alphas without a name go into configurations."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, suffix = name.partition(".")
        layers.setdefault(layer, {})[suffix] = tensor
    parts: dict[str, dict[str, Tensor]] = {}
    rows: dict[str, list[LayerScale]] = {}
    for layer, held in layers.items():
        part = part_of(layer) or UNET
        for suffix, tensor in held.items():
            key = spelling.name(layer, suffix)
            if key is not None:
                found = tensor if spelling.naming in DOTTED or suffix != MAGNITUDE else _column(tensor, spelling)
                parts.setdefault(part, {})[key] = found
        path = path_of(layer, spelling.layers_per_block)
        if spelling.naming in DOTTED and DOWN in held and path is not None:
            rank = len(held[DOWN])
            alpha = held.get(ALPHA) if spelling.name(layer, ALPHA) is None else None
            rows.setdefault(part, []).append(LayerScale(path, rank, float(rank if alpha is None else alpha)))
    is_told = spelling.has_config or any(row.alpha != row.rank for own in rows.values() for row in own)
    if not rows or not (is_told or spelling.naming == "peft"):
        return Spelt(parts, {})
    has_magnitudes = any(MAGNITUDE in held for held in layers.values())
    return Spelt(parts, {part: make_config(rows[part], has_magnitudes) for part in FOLDERS if part in rows})


def _column(magnitude: Tensor, spelling: Spelling) -> Tensor:
    """A magnitude of diffusers' or peft's shape as kohya has it."""
    if not spelling.was_dotted:
        return magnitude
    return magnitude.reshape(-1, 1, *(1 for _ in range(magnitude.dim() - 2)))
