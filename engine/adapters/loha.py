"""LoHa: ΔW = (alpha / rank) · (w1_a w1_b) ∘ (w2_a w2_b), a Hadamard product of two low-rank matrices.

Hyeon-Woo et al. 2022, "FedPara" (arXiv 2108.06098), proposition 1; the product of two rank-r matrices can have rank r².
ΔW has to be built, but is not kept: the backward pass builds it again. Convolutions are taken as [out, in · k · k].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from engine.adapter_shapes import Place, Shapes, hadamard
from engine.adapters.algorithm import Context, alpha_only, as_they_are, no_bias, no_constants, no_gate, no_options
from engine.adapters.layer import FrozenLayer

SUFFIXES: tuple[str, ...] = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
STARTS_ZERO: tuple[str, ...] = ("hada_w2_a",)
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "loha"

shapes, options_of, scalars, constants = hadamard, no_options, alpha_only, no_constants
delta_bias, gate, for_file = no_bias, no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are those of a LoHa."""
    return set(tensors) == set(SUFFIXES)


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes for a layer at the rank that the tensors have."""
    return hadamard(dataclasses.replace(place, rank=rank_of(tensors)))


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """The rank of each of the two factors."""
    return parameters["hada_w1_b"].shape[0]


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """As LyCORIS: w1_b, w2_b from N(0, 1), w1_a from N(0, 0.1²), w2_a zero."""
    for suffix, deviation in zip(SUFFIXES, (0.1, 1.0, 0.0, 1.0), strict=True):
        if deviation:
            parameters[suffix].normal_(0, deviation, generator=generator)
        else:
            parameters[suffix].zero_()


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x; W) + f(x; ΔW)."""
    factors = [parameters[suffix] for suffix in SUFFIXES]
    scale, module = context.scale * context.multiplier, layer.module
    if isinstance(module, nn.Conv2d):
        weight = _Product.apply(*factors).view(-1, module.in_channels, *module.kernel_size)  # pyright: ignore
        change = functional.conv2d(x, weight, None, module.stride, module.padding, module.dilation)
    else:
        change = _ProductLinear.apply(x, *factors)
    return torch.add(layer.forward(x), change, alpha=scale)  # pyright: ignore[reportArgumentType]


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """ΔW in the shape of the weight; the scale is in it once."""
    one_a, one_b, two_a, two_b = (parameters[suffix] for suffix in SUFFIXES)
    scale = context.scale * context.multiplier
    return (scale * (one_a @ one_b) * (two_a @ two_b)).view(weight.shape)


class _Product(Function):
    """(w1_a w1_b) ∘ (w2_a w2_b); keeps the four factors only."""

    @staticmethod
    def forward(ctx: Any, one_a: Tensor, one_b: Tensor, two_a: Tensor, two_b: Tensor) -> Tensor:
        ctx.save_for_backward(one_a, one_b, two_a, two_b)
        return (one_a @ one_b).mul_(two_a @ two_b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        return _factor_gradients(grad, *ctx.saved_tensors)


class _ProductLinear(Function):
    """x Pᵀ for the product P above; keeps x and the four factors, not P."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, one_a: Tensor, one_b: Tensor, two_a: Tensor, two_b: Tensor) -> Tensor:
        ctx.save_for_backward(x, one_a, one_b, two_a, two_b)
        return functional.linear(x, (one_a @ one_b).mul_(two_a @ two_b))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        x, one_a, one_b, two_a, two_b = ctx.saved_tensors
        grad_x = grad @ (one_a @ one_b).mul_(two_a @ two_b) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return grad_x, None, None, None, None
        whole = grad.reshape(-1, grad.shape[-1]).t() @ x.reshape(-1, x.shape[-1])
        return grad_x, *_factor_gradients(whole, one_a, one_b, two_a, two_b)


def _factor_gradients(grad: Tensor, one_a: Tensor, one_b: Tensor, two_a: Tensor, two_b: Tensor) -> tuple[Tensor, ...]:
    first, second = grad * (two_a @ two_b), grad * (one_a @ one_b)
    return first @ one_b.t(), one_a.t() @ first, second @ two_b.t(), two_a.t() @ second
