"""Masks of the ranks that take part in a step: drawn before it, put where the step finds them without waiting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from engine.adapter_shapes import Options

if TYPE_CHECKING:
    from engine.adapters.site import Site

Key = tuple[str, int, Options]


class Gates:
    """One mask for all layers of one algorithm, rank and options. A mask keeps its memory from step to step."""

    def __init__(self) -> None:
        self._buffers: dict[Key, Tensor] = {}
        self.is_open = False

    def set(self, sites: Iterable[Site], draw: float, timesteps: Tensor) -> None:
        """Make the masks of a batch from `draw` in [0, 1) and timesteps [B]."""
        for key, site in {key_of(site): site for site in sites}.items():
            mask, held = site.how.gate(site.rank, site.options, draw, timesteps), self._buffers.get(key)
            if mask is None:
                continue
            if held is None or held.shape != mask.shape or held.device != mask.device:
                self._buffers[key] = mask
            else:
                held.copy_(mask)
        self.is_open = bool(self._buffers)

    def clear(self) -> None:
        """All ranks take part."""
        self.is_open = False

    def of(self, key: Key) -> Tensor | None:
        """The mask of a layer, [r] or [B, r], or None."""
        return self._buffers.get(key) if self.is_open else None


def key_of(site: Site) -> Key:
    """What the mask of a layer depends on."""
    return site.algorithm, site.rank, site.options
