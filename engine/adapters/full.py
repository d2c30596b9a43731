"""Full: the difference of the weights themselves, W' = W + ΔW and b' = b + Δb, of linears, convolutions and norms.

As LyCORIS' "full" and "train_norm" write it (`diff`, `diff_b`; `w_norm`, `b_norm`). The difference is kept apart from
the base weight in the computation: a bf16 sum would round small differences away.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapter_shapes import Place, Shapes, difference
from engine.adapters.algorithm import Context, as_they_are, no_constants, no_gate, no_options
from engine.adapters.layer import FrozenLayer

SUFFIXES: tuple[str, ...] = ("diff", "diff_b", "w_norm", "b_norm")
STARTS_ZERO: tuple[str, ...] = SUFFIXES
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "full"

shapes, options_of, constants = difference, no_options, no_constants
gate, for_file = no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are differences."""
    return len({"diff", "w_norm"} & set(tensors)) == 1


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Those of the layer; a file may lack the bias."""
    return {suffix: shape for suffix, shape in difference(place).items() if suffix in tensors}


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """There is no rank."""
    return 1


def scalars(place: Place, alpha: float) -> dict[str, float]:
    """There is no alpha."""
    return {}


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """No difference."""
    for tensor in parameters.values():
        tensor.zero_()


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x; W, b) + f(x; ΔW, Δb)."""
    return torch.add(layer.forward(x), _change(x, layer.module, parameters), alpha=context.multiplier)


def _change(x: Tensor, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
    weight, bias = _weight(parameters), _bias(parameters)
    if isinstance(module, nn.Linear):
        return functional.linear(x, weight, bias)
    if isinstance(module, nn.Conv2d):
        return functional.conv2d(x, weight, bias, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.GroupNorm):
        return functional.group_norm(x, module.num_groups, weight, bias, module.eps)
    return functional.layer_norm(x, weight.shape, weight, bias, module.eps)  # pyright: ignore[reportArgumentType]


def _weight(parameters: Mapping[str, Tensor]) -> Tensor:
    return parameters["diff"] if "diff" in parameters else parameters["w_norm"]


def _bias(parameters: Mapping[str, Tensor]) -> Tensor | None:
    return parameters.get("diff_b", parameters.get("b_norm"))


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """ΔW as it is."""
    return context.multiplier * _weight(parameters)


def delta_bias(parameters: Mapping[str, Tensor], context: Context) -> Tensor | None:
    """Δb as it is."""
    bias = _bias(parameters)
    return None if bias is None else context.multiplier * bias
