"""LoKr: ΔW = (alpha / rank) · w1 ⊗ w2, a Kronecker product whose factors may be of low rank. ΔW is not built.

Edalati et al. 2022, "KronA" (arXiv 2212.10650), section 3; factors, names and rules as in LyCORIS. With both factors
whole there is no rank and no alpha. A convolution's kernel belongs to w2: [out₂, in₂, k, k].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapter_shapes import Place, Shapes, kronecker
from engine.adapters.algorithm import Context, alpha_only, as_they_are, no_bias, no_constants, no_gate, no_options
from engine.adapters.layer import FrozenLayer
from engine.adapters.lora import kaiming_uniform

SUFFIXES: tuple[str, ...] = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
STARTS_ZERO: tuple[str, ...] = ("lokr_w2", "lokr_w2_b")
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "lokr"

shapes, options_of, scalars, constants = kronecker, no_options, alpha_only, no_constants
delta_bias, gate, for_file = no_bias, no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are those of a LoKr: each factor whole or as a pair."""
    found = set(tensors)
    return all({whole} == found & trio or trio - {whole} == found & trio for whole, trio in _TRIOS)


_TRIOS = tuple((whole, {whole, f"{whole}_a", f"{whole}_b"}) for whole in ("lokr_w1", "lokr_w2"))


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes with the split that the first factor has."""
    small_out = (tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_a"]).shape[0]
    small_in = (tensors["lokr_w1"] if "lokr_w1" in tensors else tensors["lokr_w1_b"]).shape[1]
    if place.outputs % small_out or place.inputs % small_in:
        return kronecker(dataclasses.replace(place, rank=rank_of(tensors)))
    large_out, large_in, rank = place.outputs // small_out, place.inputs // small_in, rank_of(tensors)
    found: Shapes = {
        "lokr_w1": (small_out, small_in),
        "lokr_w1_a": (small_out, rank),
        "lokr_w1_b": (rank, small_in),
        "lokr_w2": (large_out, large_in, *place.kernel),
        "lokr_w2_a": (large_out, rank),
        "lokr_w2_b": (rank, large_in * math.prod(place.kernel)),
    }
    return {suffix: shape for suffix, shape in found.items() if suffix in tensors}


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """The rank of the factor that has one; 1 where both are whole."""
    pairs = [parameters[suffix] for suffix in ("lokr_w2_b", "lokr_w1_b") if suffix in parameters]
    return pairs[0].shape[0] if pairs else 1


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """Kaiming-uniform, but the last of w2 zero, so that ΔW = 0."""
    for suffix in sorted(parameters):
        if suffix in STARTS_ZERO:
            parameters[suffix].zero_()
        else:
            kaiming_uniform(parameters[suffix], generator)


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x) + s · (w1 ⊗ w2) x, as w2 on the inner and w1 on the outer part of x's features."""
    module = layer.module
    change = _conv(x, module, parameters) if isinstance(module, nn.Conv2d) else _linear(x, parameters)
    return torch.add(layer.forward(x), change, alpha=_scale(parameters, context))


def has_scale(suffixes: Collection[str]) -> bool:
    """Whether alpha / rank counts: where one of the factors is of low rank."""
    return not {"lokr_w1", "lokr_w2"} <= set(suffixes)


def _scale(parameters: Mapping[str, Tensor], context: Context) -> float:
    return context.multiplier * (context.scale if has_scale(parameters) else 1.0)


def _small(parameters: Mapping[str, Tensor]) -> Tensor:
    return parameters["lokr_w1"] if "lokr_w1" in parameters else parameters["lokr_w1_a"] @ parameters["lokr_w1_b"]


def _linear(x: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    small = _small(parameters)
    inner = x.unflatten(-1, (small.shape[1], -1))
    if "lokr_w2" in parameters:
        inner = functional.linear(inner, parameters["lokr_w2"])
    else:
        inner = functional.linear(functional.linear(inner, parameters["lokr_w2_b"]), parameters["lokr_w2_a"])
    return torch.matmul(small, inner).flatten(-2)


def _conv(x: Tensor, module: nn.Conv2d, parameters: Mapping[str, Tensor]) -> Tensor:
    small = _small(parameters)
    inner = x.unflatten(1, (small.shape[1], -1)).flatten(0, 1)
    if "lokr_w2" in parameters:
        inner = functional.conv2d(inner, parameters["lokr_w2"], None, module.stride, module.padding, module.dilation)
    else:
        down, up = parameters["lokr_w2_b"], parameters["lokr_w2_a"]
        down = down.view(down.shape[0], inner.shape[1], *module.kernel_size)
        inner = functional.conv2d(inner, down, None, module.stride, module.padding, module.dilation)
        inner = functional.conv2d(inner, up[:, :, None, None])
    images = inner.unflatten(0, (-1, small.shape[1]))
    return torch.matmul(small, images.flatten(2)).view(x.shape[0], -1, *images.shape[-2:])


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """ΔW in the shape of the weight."""
    large = parameters.get("lokr_w2")
    if large is None:
        large = parameters["lokr_w2_a"] @ parameters["lokr_w2_b"]
    change = torch.kron(_small(parameters), large.flatten(1).contiguous())
    return (_scale(parameters, context) * change).view(weight.shape)
