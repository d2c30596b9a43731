"""LoRA: ΔW = (alpha / rank) · up · down, on linears and, as LoCon, on convolutions.

Hu et al. 2021, "LoRA", equation 3; for convolutions a k×k convolution down to `rank` channels followed by a 1×1 one up
(LoCon, Yeh et al. 2023, "Navigating Text-To-Image Customization", section 3). Names and shapes as in kohya's files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapters.fused import low_rank_add, low_rank_linear
from engine.adapters.layer import BaseLayer

DOWN, UP = "lora_down.weight", "lora_up.weight"
SUFFIXES: tuple[str, ...] = (DOWN, UP)
STARTS_ZERO: str = UP
NETWORK_MODULE: str = "networks.lora"


def shapes(weight_shape: Sequence[int], rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters for a weight [out, in] or [out, in, k, k], by their names in a file."""
    out_width, in_width, *kernel = weight_shape
    return {DOWN: (rank, in_width, *kernel), UP: (out_width, rank, *(1 for _ in kernel))}


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """The rank that the parameters of one layer have."""
    return parameters[DOWN].shape[0]


def init(generator: torch.Generator, parameters: Mapping[str, Tensor]) -> None:
    """Fill in place: down Kaiming-uniform with a = √5, that is U(−1/√fan_in, 1/√fan_in); up zero, so that ΔW = 0."""
    down = parameters[DOWN]
    bound = 1 / math.sqrt(down[0].numel())
    down.uniform_(-bound, bound, generator=generator)
    parameters[UP].zero_()


def forward(x: Tensor, layer: BaseLayer, parameters: Sequence[Tensor], scale: float) -> Tensor:
    """The layer's output with the adapter: f(x; W + ΔW), without building ΔW. `parameters` in the order of SUFFIXES."""
    down, up = parameters
    module = layer.module
    if isinstance(module, nn.Conv2d):
        hidden = functional.conv2d(x, down, None, module.stride, module.padding, module.dilation)
        return torch.add(layer.forward(x), functional.conv2d(hidden, up), alpha=scale)
    if layer.is_plain:
        return low_rank_linear(x, module.weight, module.bias, down, up, scale)
    return low_rank_add(layer.forward(x), x, down, up, scale)


def delta_weight(parameters: Mapping[str, Tensor], scale: float) -> Tensor:
    """ΔW in the shape of the weight: [out, in] or [out, in, k, k]."""
    down, up = parameters[DOWN], parameters[UP]
    return (scale * up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])
