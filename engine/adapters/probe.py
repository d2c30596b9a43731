"""Products with the weight of a frozen layer, whether the weight can be read or only what the layer computes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapters.layer import FrozenLayer, Layer


@torch.no_grad()
def dense_weight(layer: FrozenLayer) -> Tensor:
    """W [out, in] or [out, in, k, k]. Of a layer that is not plain (quantised, or adapted already) it is found by what
    the layer makes of single inputs; for use at the start, not in a step.
    """
    module = layer.module
    if layer.is_plain:
        return module.weight
    if isinstance(module, nn.Conv2d):
        kernel = (module.in_channels, *module.kernel_size)
        ones = torch.eye(math.prod(kernel), dtype=_dtype(module), device=module.weight.device)
        return _probe(layer, ones.view(-1, *kernel)).t().reshape(module.out_channels, *kernel)
    ones = torch.eye(_inputs(module), dtype=_dtype(module), device=module.weight.device)
    return torch.cat([_probe(layer, part) for part in ones.split(256)]).t()


@torch.no_grad()
def from_right(layer: FrozenLayer, kernels: Tensor) -> Tensor:
    """W Kᵀ [out, r] for kernels K [r, in] or [r, in, k, k]."""
    if layer.is_plain:
        return layer.module.weight.flatten(1) @ kernels.flatten(1).t()
    return _probe(layer, kernels).t()


@torch.no_grad()
def from_left(layer: FrozenLayer, rows: Tensor) -> Tensor:
    """Rᵀ W [r, in, k · k] (k · k is 1 of a linear) for rows R [out, r]."""
    if layer.is_plain or isinstance(layer.module, nn.Conv2d):
        weight = dense_weight(layer)
        return (rows.t() @ weight.flatten(1)).view(rows.shape[1], weight.shape[1], -1)
    with torch.enable_grad():
        x = rows.new_zeros(rows.shape[1], _inputs(layer.module), requires_grad=True)
        y = layer.forward(x)
    return torch.autograd.grad(y, x, rows.t())[0][:, :, None]


def _inputs(module: Layer) -> int:
    if not isinstance(module, nn.Linear):
        raise TypeError(f"{type(module).__name__} has no matrix of weights")
    return module.in_features


def _dtype(module: Layer) -> torch.dtype:
    weight = module.weight
    return getattr(module, "compute_dtype", None) or (weight.dtype if weight.is_floating_point() else torch.float32)


def _probe(layer: FrozenLayer, kernels: Tensor) -> Tensor:
    """f(K) − f(0) [r, out]: each kernel is laid where one output of the layer sees exactly it."""
    module, at = layer.module, (0, 0)
    if isinstance(module, nn.Conv2d):
        pads = [int(pad) for pad in module.padding]
        before = [-pad % step for pad, step in zip(pads, module.stride, strict=True)]
        at = tuple((pad + more) // step for pad, more, step in zip(pads, before, module.stride, strict=True))
        kernels = functional.pad(kernels, (before[1], 0, before[0], 0))
    y = layer.forward(torch.cat([kernels, torch.zeros_like(kernels[:1])]))
    if y.dim() == 4:
        y = y[:, :, at[0], at[1]]
    return y[:-1] - y[-1:]
