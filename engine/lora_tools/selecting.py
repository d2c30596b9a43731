"""Layers that stay as they are, and the first ranks of layers: the work of `prune`, `cut` and `dylora`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from engine.lora_tools.lora_file import DOWN, UP, LoraFile, LoraLayer
from engine.lora_tools.writing import by_name, in_precision, with_history


class Selecting:
    """The layers as they are, in a number format."""

    def __init__(self, tool: str, precision: str, facts: Mapping[str, Any], file: LoraFile) -> None:
        self.tool, self.precision, self.facts, self.file = tool, precision, facts, file
        self.count = 0

    def layer(self, layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.count += 1
        return in_precision(by_name(layer, tensors), self.precision)

    def metadata(self) -> dict[str, str]:
        return with_history(self.file.metadata, self.tool, {self.file.path: self.file.metadata}, **self.facts)

    def told(self) -> str:
        return f"{self.count:,} of {len(self.file.layers):,} layers"


class FirstRanks(Selecting):
    """The first ranks of each layer. Alpha stays: a DyLoRA was trained at alpha / b when it used b ranks."""

    def __init__(self, rank: int, precision: str, file: LoraFile) -> None:
        super().__init__("dylora", precision, {"rank": rank}, file)
        self.rank = rank

    def layer(self, layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = dict(tensors)
        first[DOWN], first[UP] = first[DOWN][: self.rank], first[UP][:, : self.rank]
        return super().layer(layer, first)

    def metadata(self) -> dict[str, str]:
        about = {"ss_network_dim": str(self.rank), "ss_network_module": "networks.lora"}
        return super().metadata() | about

    def told(self) -> str:
        return f"{self.count:,} layers of rank {self.rank}"
