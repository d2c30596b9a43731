"""Dropout of elements, ranks and whole layers of an adapter, drawn from (seed, step, place), never from history.

As in kohya's trainer: network dropout zeroes single numbers between down and up, rank dropout the same rank at all
places of an image, and both scale up what is left; module dropout leaves a layer's adapter out for a whole batch,
unscaled. All is drawn before the batch and lies on the device when the step asks for it; drawing again for the
backward pass (gradient checkpointing) gives the same masks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from engine.adapters.algorithm import Context, Elements
from engine.draws import draw_below

if TYPE_CHECKING:
    from engine.adapters.site import Site

LEAST_ROWS = 1024
"""Masks of elements reach at least this far in an image; texts are shorter."""


@dataclass(frozen=True)
class Dropout:
    """The shares that are left out, each in [0, 1)."""

    network: float = 0.0
    rank: float = 0.0
    module: float = 0.0

    @property
    def is_on(self) -> bool:
        return bool(self.network or self.rank or self.module)


class Drawn(Protocol):
    """What is known of a batch: its latents [B, 4, h, w], its place in the step, and which of the whole batch it is."""

    @property
    def latents(self) -> Tensor: ...
    @property
    def place(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def whole(self) -> int: ...


class DropoutMasks:
    """The masks of one batch for all layers; they keep their memory from batch to batch of one size."""

    def __init__(self, dropout: Dropout, sites: Iterable[Site], seed: int) -> None:
        """The layers' places in the masks follow their names, so that they do not depend on the model's code."""
        self.dropout = dropout
        self.seed = seed
        self.span: dict[str, slice] = {}
        self.ranks = 0
        for site in sorted(sites, key=lambda site: site.target.name):
            self.span[site.target.name] = slice(self.ranks, self.ranks + site.rank)
            self.ranks += site.rank
        self.is_active = False
        self._buffers: dict[str, Tensor] = {}

    def draw(self, step: int, batch: Drawn) -> None:
        """Make the masks of a batch of step number `step` (from 0), on its device. They hold until `clear`.

        They are drawn for the whole batch, so that they are the same however many processes share it.
        """
        if not self.dropout.is_on:
            return
        generator = torch.Generator().manual_seed(draw_below(2**63, "dropout", self.seed, step, batch.place))
        own = slice(batch.first, batch.first + batch.latents.shape[0])
        images, cells = batch.whole or own.stop, batch.latents.shape[2] * batch.latents.shape[3]
        gates = torch.ones(1, self.ranks)
        if self.dropout.module:
            kept = torch.rand(len(self.span), generator=generator) >= self.dropout.module
            widths = torch.tensor([span.stop - span.start for span in self.span.values()])
            gates = kept.float().repeat_interleave(widths)[None]
        if self.dropout.rank:
            kept = torch.rand(images, self.ranks, generator=generator) >= self.dropout.rank
            gates = gates * kept[own] / (1 - self.dropout.rank)
        self._put("gates", gates, batch.latents.device)
        if self.dropout.network:
            rows = _random_bits(images * max(cells, LEAST_ROWS), generator).view(images, -1)
            self._put("rows", rows[own], batch.latents.device)
            self._put("columns", _random_bits(self.ranks, generator) | 1, batch.latents.device)
        self.is_active = True

    def clear(self) -> None:
        """All elements, ranks and layers take part: samples and validation are made so."""
        self.is_active = False

    def context(self, context: Context, name: str, x: Tensor) -> Context:
        """The context of a layer with its masks, for an input of `x.shape[0]` images (or texts)."""
        if not self.is_active:
            return context
        gate, elements = context.gate, None
        if self.dropout.rank or self.dropout.module:
            own = self._buffers["gates"][:, self.span[name]]
            own = own[0] if len(own) == 1 else _rows(own, x.shape[0])
            gate = own if gate is None else gate * own
        if self.dropout.network:
            columns = self._buffers["columns"][self.span[name]]
            elements = Elements(self._buffers["rows"], columns, self.dropout.network)
        return replace(context, gate=gate, elements=elements)

    def _put(self, name: str, values: Tensor, device: torch.device) -> None:
        held = self._buffers.get(name)
        if held is None or held.shape != values.shape or held.device != device:
            self._buffers[name] = values.to(device)
        else:
            held.copy_(values)


def _rows(mask: Tensor, count: int) -> Tensor:
    """`count` rows of a mask [B, r]: each image's for all chunks of its caption, which follow each other."""
    return mask[:count] if count <= len(mask) else mask.repeat_interleave(-(-count // len(mask)), 0)[:count]


def _random_bits(count: int, generator: torch.Generator) -> Tensor:
    """int32 [count], all 2³² values alike."""
    return torch.randint(-(2**31), 2**31, (count,), generator=generator, dtype=torch.int64).to(torch.int32)
