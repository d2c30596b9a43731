"""(IA)³: W' = (1 + w) ∘ W, one factor for each output (or input) of a layer; tiny files.

Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning"
(arXiv 2205.05638), section 3.3. Stored as LyCORIS does: w = 0 changes nothing; `on_input` says which side.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.adapter_shapes import Options, Place, Shapes, factor_vector
from engine.adapters.algorithm import Context, as_they_are, no_bias, no_constants, no_gate
from engine.adapters.layer import FrozenLayer

SUFFIXES: tuple[str, ...] = ("weight",)
STARTS_ZERO: tuple[str, ...] = SUFFIXES
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "ia3"

shapes, constants = factor_vector, no_constants
delta_bias, gate, for_file = no_bias, no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are (IA)³'s."""
    return set(tensors) == set(SUFFIXES)


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """One number for each output, or input."""
    return factor_vector(place)


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """There is no rank."""
    return 1


def options_of(parameters: Mapping[str, Tensor], scalars: Mapping[str, float]) -> Options:
    """Which side the factors are for."""
    return Options(on_input=bool(scalars.get("on_input", 0.0)))


def scalars(place: Place, alpha: float) -> dict[str, float]:
    """No alpha, but the side."""
    return {"on_input": float(place.options.on_input)}


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """Zero: all factors are 1."""
    parameters["weight"].zero_()


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f((1 + w) ∘ x), or (1 + w) ∘ (f(x) − b) + b."""
    bias, axis = layer.module.bias, (-1, 1, 1) if isinstance(layer.module, nn.Conv2d) else (-1,)
    factors = (context.multiplier * parameters["weight"]).view(axis)
    if context.options.on_input:
        return layer.forward(torch.addcmul(x, x, factors))
    y = layer.forward(x)
    return torch.addcmul(y, y if bias is None else y - bias.view(axis), factors)


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """w ∘ W."""
    side = (1, -1) if context.options.on_input else (-1, 1)
    ones = (1,) * (weight.dim() - 2)
    return context.multiplier * parameters["weight"].view(*side, *ones) * weight
