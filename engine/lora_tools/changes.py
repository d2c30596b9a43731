"""What a layer of a LoRA file does to its weight: ΔW as a product of thin matrices where it is one, or its singular
value decomposition. Convolutions are taken as [out, in · k · k]. Tensors in, tensors out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.adapters.cores import without_core
from engine.lora_tools.choices import RankChoice
from engine.lora_tools.lora_file import DOWN, UP, LoraLayer
from engine.lora_tools.low_rank import (
    Svd,
    exact_svd,
    hadamard_factors,
    kronecker_svd,
    product_svd,
    rank_by_norm,
    rank_by_ratio,
    rank_by_sum,
    truncated_svd,
)
from engine.lora_tools.sums import exact_rank

EXACT = torch.float64
"""Products of thin matrices are decomposed in this precision: they are small, and then exact to fp32's last digit."""


def thin_factors(layer: LoraLayer, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(up [out, r], down [r, in · k · k]) in fp64 with up · down = ΔW exactly, the scale included.

    LoRA at its rank r (of DoRA: its low-rank part); LoHa at r²; LoKr at the product of its factors' ranks. KeyError
    for other families.
    """
    given = _matrices(tensors, EXACT)
    if layer.family in ("lora", "dora"):
        return layer.scale * given[UP], given[DOWN]
    if layer.family == "loha":
        one, two = (given["hada_w1_a"], given["hada_w1_b"]), (given["hada_w2_a"], given["hada_w2_b"])
        up, down = hadamard_factors(one, two)
        return layer.scale * up, down
    one, two = (_kronecker_pair(given, number) for number in ("w1", "w2"))
    return layer.scale * torch.kron(one[0], two[0]), torch.kron(one[1], two[1])


def _matrices(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The matrices in a number format, a core taken into the lower one, kernels flat."""
    given = without_core({suffix: tensor.to(dtype) for suffix, tensor in tensors.items()})
    return {suffix: tensor.flatten(1) for suffix, tensor in given.items() if tensor.dim() > 1}


def dense_change(layer: LoraLayer, tensors: Mapping[str, Tensor]) -> Tensor:
    """ΔW [out, in · k · k] in fp32, the scale included."""
    given = _matrices(tensors, torch.float32)
    if layer.family == "full":
        return given["diff"]
    if layer.family in ("lora", "dora"):
        return layer.scale * given[UP] @ given[DOWN]
    if layer.family == "loha":
        return layer.scale * (given["hada_w1_a"] @ given["hada_w1_b"]) * (given["hada_w2_a"] @ given["hada_w2_b"])
    return layer.scale * torch.kron(_whole(given, "w1"), _whole(given, "w2").contiguous())


def change_svd(layer: LoraLayer, tensors: Mapping[str, Tensor], limit: int, seed: int, whole: bool = False) -> Svd:
    """At least `limit` terms of ΔW, all of them where that costs nothing more (`whole`: in any case).

    Exact, in fp64, for what is a product of thin matrices; for differences see `truncated_svd`.
    """
    smaller = min(layer.matrix_shape)
    if layer.family == "lokr":
        return _kronecker_svd(layer, tensors, smaller if whole else limit)
    if layer.family in ("lora", "dora", "loha") and exact_rank(layer) <= smaller:
        return product_svd(*thin_factors(layer, tensors))
    return truncated_svd(dense_change(layer, tensors), smaller if whole else limit, seed, exact=whole)


def _kronecker_svd(layer: LoraLayer, tensors: Mapping[str, Tensor], terms: int) -> Svd:
    """From the decompositions of both factors; the scale goes to the first."""
    given = _matrices(tensors, EXACT)
    one, two = (_factor_svd(given, number) for number in ("w1", "w2"))
    scale = abs(layer.scale)
    left = one.left if layer.scale >= 0 else -one.left
    return kronecker_svd(Svd(left, scale * one.values, one.right, scale * one.norm), two, terms)


def _factor_svd(given: Mapping[str, Tensor], number: str) -> Svd:
    whole = given.get(f"lokr_{number}")
    return exact_svd(whole) if whole is not None else product_svd(*_kronecker_pair(given, number))


def _kronecker_pair(given: Mapping[str, Tensor], number: str) -> tuple[Tensor, Tensor]:
    """A factor of a LoKr as a product of its smaller side's rank at most."""
    whole = given.get(f"lokr_{number}")
    if whole is None:
        return given[f"lokr_{number}_a"], given[f"lokr_{number}_b"]
    rows, columns = whole.shape
    if rows <= columns:
        return torch.eye(rows, dtype=whole.dtype), whole
    return whole, torch.eye(columns, dtype=whole.dtype)


def _whole(given: Mapping[str, Tensor], number: str) -> Tensor:
    whole = given.get(f"lokr_{number}")
    return whole if whole is not None else given[f"lokr_{number}_a"] @ given[f"lokr_{number}_b"]


def lora_tensors(found: Svd, kernel: tuple[int, ...], scale: float, dtype: torch.dtype) -> dict[str, Tensor]:
    """{suffix: tensor} of a LoRA layer with this ΔW; `scale` is the factor of up · down: alpha / rank."""
    up, down = found.factors(scale)
    inputs = down.shape[1] // math.prod(kernel)
    return {
        DOWN: down.to(dtype).view(found.rank, inputs, *kernel).contiguous(),
        UP: up.to(dtype).view(up.shape[0], found.rank, *(1 for _ in kernel)).contiguous(),
    }


def alpha_tensor(tensors: Mapping[str, Tensor], scale: float, rank: int) -> Tensor:
    """alpha = scale · rank, in the number format and shape that the file has for it (else 0-dim fp32)."""
    like = tensors.get("alpha", torch.tensor(0.0))
    return torch.full_like(like, scale * rank)


def chosen_rank(found: Svd, choice: RankChoice, limit: int) -> int:
    """How many terms the choice keeps; at least 1, at most `limit` and what is there."""
    rules = {
        "number": lambda: limit,
        "ratio": lambda: rank_by_ratio(found.values, choice.value),
        "sum": lambda: rank_by_sum(found.values, choice.value),
        "norm": lambda: rank_by_norm(found.values, choice.value, found.norm),
        "error": lambda: rank_by_norm(found.values, math.sqrt(1 - choice.value**2), found.norm),
    }
    return min(rules[choice.rule](), limit, found.rank)
