"""LoRA: ΔW = (alpha / rank) · up · down, on linears and, as LoCon, on convolutions.

Hu et al. 2021, "LoRA", equation 3; for convolutions a k×k convolution down to `rank` channels followed by a 1×1 one up
(LoCon, Yeh et al. 2023, "Navigating Text-To-Image Customization", section 3). Names and shapes as in kohya's files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapter_shapes import Place, Shapes, low_rank
from engine.adapters.algorithm import (
    Context,
    Elements,
    alpha_only,
    as_they_are,
    no_bias,
    no_constants,
    no_gate,
    no_options,
)
from engine.adapters.fused import low_rank_add, low_rank_linear
from engine.adapters.layer import FrozenLayer

DOWN, UP = "lora_down.weight", "lora_up.weight"
SUFFIXES: tuple[str, ...] = (DOWN, UP)
STARTS_ZERO: tuple[str, ...] = (UP,)
NETWORK_MODULE: str = "networks.lora"
NETWORK_ALGORITHM: str = ""

shapes, options_of, scalars, constants = low_rank, no_options, alpha_only, no_constants
delta_bias, gate, for_file = no_bias, no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are those of a LoRA."""
    return set(tensors) == set(SUFFIXES)


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes for a layer at the rank that the tensors have."""
    return low_rank(dataclasses.replace(place, rank=rank_of(tensors)))


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """The rank that the parameters of one layer have."""
    return parameters[DOWN].shape[0]


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer | None = None) -> None:
    """Fill in place: down Kaiming-uniform with a = √5, that is U(−1/√fan_in, 1/√fan_in); up zero, so that ΔW = 0."""
    kaiming_uniform(parameters[DOWN], generator)
    parameters[UP].zero_()


def kaiming_uniform(tensor: Tensor, generator: torch.Generator) -> None:
    """Fill in place with U(−1/√fan_in, 1/√fan_in), which is He et al.'s rule with a = √5."""
    bound = 1 / math.sqrt(tensor[0].numel())
    tensor.uniform_(-bound, bound, generator=generator)


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x; W + ΔW), without building ΔW. A gate stands between down and up."""
    down, up = parameters[DOWN], parameters[UP]
    scale = context.scale * context.multiplier
    if context.elements is not None:
        branch = low_rank_branch(x, layer, down, up, context.gate, context.elements)
        return torch.add(layer.forward(x), branch, alpha=scale / (1 - context.elements.share))
    if context.gate is not None and context.gate.dim() == 1:
        down = down * context.gate.to(down.dtype).view(-1, *(1 for _ in down.shape[1:]))
    if context.gate is not None and context.gate.dim() > 1:
        return torch.add(layer.forward(x), low_rank_branch(x, layer, down, up, context.gate), alpha=scale)
    module = layer.module
    if isinstance(module, nn.Conv2d):
        return torch.add(layer.forward(x), low_rank_branch(x, layer, down, up), alpha=scale)
    weight = layer.weight_source
    if weight is not None and isinstance(module, nn.Linear):
        return low_rank_linear(x, weight, module.bias, down, up, scale)
    return low_rank_add(layer.forward(x), x, down, up, scale)


def low_rank_branch(
    x: Tensor,
    layer: FrozenLayer,
    down: Tensor,
    up: Tensor,
    gate: Tensor | None = None,
    elements: Elements | None = None,
) -> Tensor:
    """up · (gate ∘ (down · x)), linear or convolution; gate [r], or [B, r]: one row for each image of the batch."""
    module = layer.module
    if isinstance(module, nn.Conv2d):
        hidden = functional.conv2d(x, down, None, module.stride, module.padding, module.dilation)
        shape = (-1, down.shape[0], 1, 1)
    else:
        hidden = functional.linear(x, down)
        shape = (-1, *(1 for _ in hidden.shape[1:-1]), down.shape[0])
    if gate is not None:
        hidden = hidden * gate.to(hidden.dtype).view(shape)
    if elements is not None:
        hidden = elements.kept(hidden)
    return functional.conv2d(hidden, up) if isinstance(module, nn.Conv2d) else functional.linear(hidden, up)


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """ΔW in the shape of the weight: [out, in] or [out, in, k, k]."""
    down, up = parameters[DOWN], parameters[UP]
    if context.gate is not None:
        down = down * context.gate.to(down.dtype).view(-1, *(1 for _ in down.shape[1:]))
    scale = context.scale * context.multiplier
    return (scale * up.flatten(1) @ down.flatten(1)).view(weight.shape)
