"""A largest norm for each layer's ΔW, kept after every update (kohya's `scale_weight_norms`), without building ΔW.

‖B A‖ comes from two r×r matrices: ‖B A‖² = Σ (Bᵀ B) ∘ (A Aᵀ). Layers of one shape are done together, and nothing waits
for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from engine.adapter_shapes import LIMITED
from engine.adapters import lokr
from engine.adapters.attach import Adapter
from engine.adapters.site import Site

Stacked = Mapping[str, Tensor]
"""{suffix: the parameters of n layers of one shape, [n, …]}."""


def product_norm(left: Tensor, right: Tensor) -> Tensor:
    """‖L R‖ [n] of L [n, out, r] and R [n, r, in]."""
    grams = (left.mT @ left) * (right @ right.mT)
    return grams.sum(dim=(1, 2)).clamp_min(0).sqrt()


def low_rank_norm(parameters: Stacked) -> Tensor:
    """LoRA and LoCon: up · down, kernels flattened."""
    return product_norm(parameters["lora_up.weight"].flatten(2), parameters["lora_down.weight"].flatten(2))


def hadamard_norm(parameters: Stacked) -> Tensor:
    """LoHa: (w1_a w1_b) ∘ (w2_a w2_b), which its forward builds as well; one layer at a time."""
    suffixes = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    layers = zip(*(parameters[suffix].unbind() for suffix in suffixes), strict=True)
    return torch.stack([torch.linalg.vector_norm((a @ b) * (c @ d)) for a, b, c, d in layers])


def kronecker_norm(parameters: Stacked) -> Tensor:
    """LoKr: ‖w1 ⊗ w2‖ = ‖w1‖ ‖w2‖, each whole or a product."""
    norms: list[Tensor] = []
    for name in ("lokr_w1", "lokr_w2"):
        if name in parameters:
            norms.append(torch.linalg.vector_norm(parameters[name].flatten(1), dim=1))
        else:
            norms.append(product_norm(parameters[f"{name}_a"], parameters[f"{name}_b"].flatten(2)))
    return norms[0] * norms[1]


NORMS: dict[str, Callable[[Stacked], Tensor]] = {
    "lora": low_rank_norm,
    "lora_fa": low_rank_norm,
    "dylora": low_rank_norm,
    "loha": hadamard_norm,
    "lokr": kronecker_norm,
}
"""Norms [n] of ΔW at scale 1, for the algorithms of LIMITED."""


class NormLimit:
    """Shrinks each layer's parameters so that ‖ΔW‖ ≤ limit, all by the same factor. With limit 0 it does nothing."""

    def __init__(self, adapter: Adapter, limit: float) -> None:
        self.adapter = adapter
        self.limit = limit
        trained = {name for group in adapter.groups for name in group.flat.slots}
        self._sets = [_LayerSet(adapter, sites, trained) for sites in _alike(adapter)] if limit else []
        self._told = torch.zeros(2)

    @torch.no_grad()
    def apply(self) -> None:
        """After an update: shrink the layers that are too large."""
        if not self._sets:
            return
        scaled: list[Tensor] = []
        norms: list[Tensor] = []
        for layers in self._sets:
            stacked = layers.stacked()
            norm = layers.norm(stacked)
            ratio = (self.limit / norm.clamp_min(self.limit)).clamp_max(1)
            layers.shrink(stacked, ratio)
            scaled.append(ratio < 1)
            norms.append(norm * ratio)
        self._told = torch.stack([torch.cat(scaled).sum().float(), torch.cat(norms).mean()])
        self.adapter.changed()

    def read(self) -> tuple[int, float] | None:
        """How many layers the last update shrank, and the mean norm after it (waits for the device); None when off."""
        if not self._sets:
            return None
        scaled, mean = self._told.tolist()
        return round(scaled), mean if math.isfinite(mean) else 0.0


class _LayerSet:
    """Layers of one algorithm, shape and scale."""

    def __init__(self, adapter: Adapter, sites: list[Site], trained: set[str]) -> None:
        self.norm_of = NORMS[sites[0].algorithm]
        each = [adapter.parameters_of(site.target.name) for site in sites]
        self.views = {suffix: [parameters[suffix] for parameters in each] for suffix in each[0]}
        self.scale = sites[0].scale if lokr.has_scale(self.views) else 1.0
        self.trained = [suffix for suffix in each[0] if f"{sites[0].target.name}.{suffix}" in trained]

    def stacked(self) -> dict[str, Tensor]:
        return {suffix: torch.stack(views).float() for suffix, views in self.views.items()}

    def norm(self, stacked: Stacked) -> Tensor:
        """‖ΔW‖ of each layer, [n]."""
        return self.norm_of(stacked) * self.scale

    def shrink(self, stacked: Stacked, ratio: Tensor) -> None:
        """ΔW is a product of its trained matrices: each takes the same root of the ratio [n]."""
        for suffix in self.trained:
            factor = (ratio ** (1 / len(self.trained))).view(-1, *(1 for _ in stacked[suffix].shape[1:]))
            torch._foreach_copy_(self.views[suffix], list((stacked[suffix] * factor).unbind()))


def _alike(adapter: Adapter) -> list[list[Site]]:
    """The sites whose norm is limited, those of one algorithm, shape and scale together."""
    found: dict[tuple[object, ...], list[Site]] = {}
    for site in adapter.sites:
        if site.algorithm in LIMITED and len(site.place.weight_shape) > 1:
            shapes = tuple(sorted(adapter.shapes_of[site.target.name].items()))
            found.setdefault((site.algorithm, shapes, site.scale, site.target.part), []).append(site)
    return list(found.values())
