"""What an adapter algorithm is: a module of pure functions. A new one is a file like lora.py and a line in ADAPTERS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.adapters.layer import BaseLayer


class Algorithm(Protocol):
    """Names in files are `<layer>.<suffix>`; `parameters` is {suffix: tensor} or, in `forward`, in that order."""

    SUFFIXES: tuple[str, ...]
    """Names of the parameters of one layer in a file, as `shapes` gives them."""
    STARTS_ZERO: str
    """The suffix of the parameter that is zero at the start (so that ΔW is) and must not be zero after training."""
    NETWORK_MODULE: str
    """What the metadata of a file calls this algorithm (`ss_network_module`)."""

    def shapes(self, weight_shape: Sequence[int], rank: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters for a weight [out, in] or [out, in, k, k]."""
        ...

    def rank_of(self, parameters: Mapping[str, Tensor]) -> int:
        """The rank that loaded parameters have."""
        ...

    def init(self, generator: torch.Generator, parameters: Mapping[str, Tensor]) -> None:
        """Fill the parameters in place with their start values; ΔW is then 0."""
        ...

    def forward(self, x: Tensor, layer: BaseLayer, parameters: Sequence[Tensor], scale: float) -> Tensor:
        """The layer's output with the adapter."""
        ...

    def delta_weight(self, parameters: Mapping[str, Tensor], scale: float) -> Tensor:
        """ΔW in the shape of the layer's weight; `forward` equals the layer with W + ΔW."""
        ...
