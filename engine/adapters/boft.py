"""BOFT: OFT in several stages, each turning pairs of ever more distant groups of outputs, as butterflies do in an FFT.

Liu et al. 2024, "Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization" (arXiv 2311.06243), section 4.
Blocks and stages as LyCORIS lays them out: stage i takes outputs 2ⁱ · n/2 apart together, n the size of a block, and
turns them by R (not Rᵀ). The multiplier scales W' − W.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.adapter_shapes import Place, Shapes, butterfly
from engine.adapters import oft
from engine.adapters.algorithm import Context
from engine.adapters.layer import FrozenLayer

SUFFIXES: tuple[str, ...] = oft.SUFFIXES
STARTS_ZERO: tuple[str, ...] = oft.STARTS_ZERO
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "boft"

shapes = butterfly
rank_of, options_of, scalars, init, constants = oft.rank_of, oft.options_of, oft.scalars, oft.init, oft.constants
delta_bias, gate, for_file = oft.delta_bias, oft.gate, oft.for_file


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are BOFT's: several stages of blocks."""
    return "oft_blocks" in tensors and tensors["oft_blocks"].dim() == 4


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes with as many stages and blocks as large as the tensors'."""
    stages, _, size, _ = tensors["oft_blocks"].shape
    ones = (1,) * len(place.kernel)
    found: Shapes = {"oft_blocks": (stages, place.outputs // size, size, size), "rescale": (place.outputs, 1, *ones)}
    return {suffix: shape for suffix, shape in found.items() if suffix in tensors}


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x) + m · (rescale ∘ R_m … R_1 − I) (f(x) − b)."""
    y, plain = oft.unchanged(x, layer)
    last = plain.movedim(1, -1) if isinstance(layer.module, nn.Conv2d) else plain
    change = _change(last, parameters, context)
    if isinstance(layer.module, nn.Conv2d):
        change = change.movedim(-1, 1)
    return torch.add(y, change, alpha=context.multiplier)


def _change(plain: Tensor, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """(rescale ∘ R_m … R_1 − I) on the last axis."""
    turns = oft.turn(parameters["oft_blocks"], context.options.constraint * plain.shape[-1]).to(plain.dtype)
    turned, size = plain, turns.shape[-1]
    for stage, blocks in enumerate(turns):
        apart = 2**stage * (size // 2)
        mixed = turned.unflatten(-1, (-1, 2, apart)).transpose(-2, -1).flatten(-3).unflatten(-1, (-1, size))
        mixed = mixed + torch.einsum("kij,...kj->...ki", blocks, mixed)
        turned = mixed.flatten(-2).unflatten(-1, (-1, apart, 2)).transpose(-2, -1).flatten(-3)
    return oft.with_rescale(plain, turned - plain, parameters, -1)


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """(rescale ∘ R_m … R_1 − I) W."""
    change = _change(weight.flatten(1).t(), parameters, context)
    return context.multiplier * change.t().reshape(weight.shape)
