"""Frozen linears and convolutions whose weight is kept in another form and made dense for the moment of its use.

The dense weight is made once forward and once more backward and is never kept in between, so that a model needs the
memory of the stored form only, with and without gradient checkpointing.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_input

_NUMBERS_A_PIXEL = 50_000  # measured: from 1280 to 1280 channels it pays up to 16 × 16 pixels, from 640 to 640 not


class DenseOnUse(Protocol):
    """A linear or convolution whose `weight` is not what it computes with."""

    compute_dtype: torch.dtype

    def dense_weight(self) -> Tensor:
        """The weight in `compute_dtype` and in the layer's own shape; to be read at once and not to be written to."""
        ...


class _Linear(Function):
    """y = x Wᵀ + b; the gradient flows to x only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.dense_weight(), layer.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        rows = grad.reshape(-1, grad.shape[-1]) @ ctx.layer.dense_weight()
        return rows.view(*grad.shape[:-1], rows.shape[-1]), None


class _Conv2d(Function):
    """A convolution; the gradient flows to x only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer, ctx.x_shape = layer, x.shape
        weight = layer.dense_weight()
        if _is_quicker_unfolded(layer, x.shape, weight):
            return _unfolded(x, weight, layer.bias)
        return functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        layer = ctx.layer
        weight = layer.dense_weight()
        shape, dilation = ctx.x_shape, layer.dilation
        if _is_quicker_unfolded(layer, shape, weight):
            return _unfolded_back(grad, weight), None
        return conv2d_input(shape, weight, grad, layer.stride, layer.padding, dilation, layer.groups), None


def _is_quicker_unfolded(layer: nn.Conv2d, shape: torch.Size, weight: Tensor) -> bool:
    """Whether a matrix product does it sooner: 3 × 3, as many pixels after it as before, and few of them.

    On CPUs a convolution reorders its weight each time, which for the pixels of SDXL's deepest blocks takes two to
    three times as long as all its products.
    """
    few = shape[0] * shape[2] * shape[3] * _NUMBERS_A_PIXEL <= weight.numel()
    form = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    return few and weight.device.type == "cpu" and form == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")


def _unfolded(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """That convolution as W [out, in·9] times the patches [B, in·9, h·w]; the same up to the order of summation."""
    found = weight.flatten(1) @ functional.unfold(x, 3, padding=1)
    return (found if bias is None else found + bias[:, None]).unflatten(2, x.shape[2:])


def _unfolded_back(grad: Tensor, weight: Tensor) -> Tensor:
    return functional.fold(weight.flatten(1).T @ grad.flatten(2), grad.shape[2:], 3, padding=1)


def frozen_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """x [..., in] → [..., out] with the layer's dense weight."""
    return _Linear.apply(x, layer)  # pyright: ignore[reportReturnType]


def frozen_conv2d(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """x [B, in, h, w] → [B, out, h', w'] with the layer's dense weight."""
    return _Conv2d.apply(x, layer)  # pyright: ignore[reportReturnType]


def dense_weight_of(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """The weight that a layer computes with: its own, or made dense. To be read at once and not to be written to."""
    make: Any = getattr(layer, "dense_weight", None)
    return layer.weight if make is None else make()
