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
        return functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        layer = ctx.layer
        weight = layer.dense_weight()
        shape, dilation = ctx.x_shape, layer.dilation
        return conv2d_input(shape, weight, grad, layer.stride, layer.padding, dilation, layer.groups), None


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
