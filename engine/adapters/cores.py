"""Convolutions that LyCORIS decomposed by Tucker ("use_tucker"), as the same kind of layer without the core.

ΔW[o, i, k] = Σ up[o, a] core[a, b, k] down[b, i]: the sum over b is the lower matrix of an ordinary layer. LoHa and
LoKr write their upper matrix as [a, o] beside a core (lycoris/functional/loha.py, general.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.adapter_names import DOWN, MID, UP
from engine.errors import ModelError

_CORES = (
    (MID, UP, DOWN, False),
    ("hada_t1", "hada_w1_a", "hada_w1_b", True),
    ("hada_t2", "hada_w2_a", "hada_w2_b", True),
    ("lokr_t2", "lokr_w2_a", "lokr_w2_b", True),
)


def without_core(tensors: Mapping[str, Tensor], layer: str = "", where: str = "") -> dict[str, Tensor]:
    """{suffix: tensor} of a layer, each core taken into its lower matrix [a, in, k, k], in fp32 at least.

    ModelError where a core and its matrices do not fit each other.
    """
    found = dict(tensors)
    for core, upper, lower, is_turned in _CORES:
        if core not in found or upper not in found or lower not in found:
            continue
        middle, up, down = found.pop(core), found[upper].flatten(1), found[lower].flatten(1)
        outer = up.shape[0] if is_turned else up.shape[1]
        if middle.dim() < 2 or tuple(middle.shape[:2]) != (outer, down.shape[0]):
            what = f"holds matrices that do not fit each other, in {layer}. The file is damaged: choose another one."
            raise ModelError(what, where)
        wide = torch.promote_types(down.dtype, torch.float32)
        found[lower] = torch.einsum("ab...,bi->ai...", middle.to(wide), down.to(wide))
        if is_turned:
            found[upper] = up.t().contiguous()
    return found
