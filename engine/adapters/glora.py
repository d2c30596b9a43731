"""GLoRA: ΔW = (alpha / rank) · (W a1 a2 + b1 b2): low-rank changes of a layer's input and of its weight.

Chavan et al. 2023, "One-for-All: Generalized LoRA" (arXiv 2306.07967), equation 9 with its A and B of low rank; names
and orientation as LyCORIS has them since version 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapter_shapes import Place, Shapes, generalized
from engine.adapters.algorithm import Context, alpha_only, as_they_are, no_bias, no_constants, no_gate, no_options
from engine.adapters.layer import FrozenLayer
from engine.adapters.lora import kaiming_uniform, low_rank_branch

SUFFIXES: tuple[str, ...] = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
STARTS_ZERO: tuple[str, ...] = ("a2.weight", "b2.weight")
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "glora"

shapes, options_of, scalars, constants = generalized, no_options, alpha_only, no_constants
delta_bias, gate, for_file = no_bias, no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are those of a GLoRA."""
    return set(tensors) == set(SUFFIXES)


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes for a layer at the rank that the tensors have."""
    return generalized(dataclasses.replace(place, rank=rank_of(tensors)))


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """The rank of both changes."""
    return parameters["a2.weight"].shape[0]


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """a1 and b1 Kaiming-uniform, a2 and b2 zero, so that ΔW = 0."""
    for suffix in SUFFIXES:
        if suffix in STARTS_ZERO:
            parameters[suffix].zero_()
        else:
            kaiming_uniform(parameters[suffix], generator)


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x + s · a1 a2 x) + s · b1 b2 x."""
    first_up, first_down, up, down = (parameters[suffix] for suffix in SUFFIXES)
    scale = context.scale * context.multiplier
    if isinstance(layer.module, nn.Conv2d):
        change = functional.conv2d(functional.conv2d(x, first_down), first_up)
    else:
        change = functional.linear(functional.linear(x, first_down), first_up)
    y = layer.forward(torch.add(x, change, alpha=scale))
    return torch.add(y, low_rank_branch(x, layer, down, up), alpha=scale)


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """ΔW in the shape of the weight."""
    first_up, first_down, up, down = (parameters[suffix].flatten(1) for suffix in SUFFIXES)
    of_input = torch.einsum("oi...,ij->oj...", weight, first_up @ first_down)
    return context.scale * context.multiplier * (of_input + (up @ down).view(weight.shape))
