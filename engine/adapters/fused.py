"""The low-rank linear as one node of the graph: y = x Wᵀ + b + s · (x Aᵀ) Bᵀ, with W and b frozen.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", equation 3, with s = alpha / rank. Both adapter
products are written into matrices that exist already (GEMM with beta = 1), so that nothing of the size of x or y is
made twice: two small kernels more than the plain linear forward, three more and no copy backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from engine.sdxl.frozen import DenseOnUse


def low_rank_linear(
    x: Tensor, weight: Tensor | DenseOnUse, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
) -> Tensor:
    """x [..., in], weight [out, in], bias [out] or None, down [r, in], up [out, r] → [..., out].

    All in one dtype. Gradients flow to x, down and up; weight and bias are taken as constants. In place of the weight
    a layer that makes it when used: it is made forward, once more backward, and kept in neither.
    """
    return _LowRankLinear.apply(x, weight, bias, down, up, scale)  # pyright: ignore[reportReturnType]


def _scaled_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """scale · left @ right in one kernel."""
    product = left.new_empty(left.shape[0], right.shape[1])
    return product.addmm_(left, right, beta=0, alpha=scale)


def _dense(weight: Tensor | DenseOnUse) -> Tensor:
    return weight if isinstance(weight, Tensor) else weight.dense_weight()


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() == 2 else tensor.reshape(-1, tensor.shape[-1])


class _LowRankLinear(Function):
    """Saves x and h = s · x Aᵀ; y is not needed backward, which is why the product may be added into it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | DenseOnUse, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ):
        rows = _rows(x)
        hidden = _scaled_product(rows, down.t(), scale)
        y = functional.linear(rows, _dense(weight), bias).addmm_(hidden, up.t())
        ctx.scale = scale
        ctx.x_shape = x.shape
        rows_kept = rows if ctx.needs_input_grad[3] else None
        hidden_kept = hidden if ctx.needs_input_grad[4] else None
        ctx.layer, kept = (None, weight) if isinstance(weight, Tensor) else (weight, None)
        ctx.save_for_backward(rows_kept, hidden_kept, kept, down, up)
        return y if x.dim() == 2 else y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        rows, hidden, weight, down, up = ctx.saved_tensors
        needs_x, needs_down, needs_up = (ctx.needs_input_grad[index] for index in (0, 3, 4))
        grad = _rows(grad)
        grad_hidden = _scaled_product(grad, up, ctx.scale) if needs_x or needs_down else None
        grad_x = None
        if needs_x and grad_hidden is not None:
            grad_x = (grad @ _dense(weight if ctx.layer is None else ctx.layer)).addmm_(grad_hidden, down)
        if grad_x is not None and len(ctx.x_shape) != 2:
            grad_x = grad_x.view(ctx.x_shape)
        grad_down = grad_hidden.t() @ rows if needs_down and grad_hidden is not None else None
        grad_up = grad.t() @ hidden if needs_up else None
        return grad_x, None, None, grad_down, grad_up, None


def low_rank_add(y: Tensor, x: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """y + s · (x Aᵀ) Bᵀ for a base layer whose y was computed elsewhere (quantised, or adapted already)."""
    return torch.add(y, functional.linear(functional.linear(x, down), up), alpha=scale)
