"""What an adapter algorithm is: a module of pure functions. A new one is a file like lora.py and a line in ADAPTERS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from engine.adapter_shapes import Options, Place, Shapes
from engine.adapters.layer import FrozenLayer


@dataclass(frozen=True)
class Elements:
    """Which single numbers between down and up take part: `rows` [B, n] and odd `columns` [r], random int32, share > 0.

    The number of image b, token i and rank j is left out where rows[b, i] · columns[j] mod 2³² is among the lowest
    `share` of its values. As multiplying with an odd number is a permutation, each is left out with that probability,
    those of one rank are independent, and the masks of all layers come from a few numbers drawn before the step.
    """

    rows: Tensor
    columns: Tensor
    share: float

    def kept(self, hidden: Tensor) -> Tensor:
        """`hidden` [B, …, r], or [B, r, h, w], with zeros where it is left out; not scaled."""
        images, tokens = hidden.shape[0], hidden[0].numel() // len(self.columns)
        rows = self.rows
        if tokens > rows.shape[1]:
            rows = rows.repeat(1, -(-tokens // rows.shape[1]))
        if images > rows.shape[0]:  # the chunks of a caption follow each other
            rows = rows.repeat_interleave(-(-images // rows.shape[0]), 0)
        rows = rows[:images, :tokens]
        if hidden.dim() == 4:
            products = rows.reshape(images, 1, *hidden.shape[2:]) * self.columns.view(1, -1, 1, 1)
        else:
            products = (rows[..., None] * self.columns).view(hidden.shape)
        return hidden * (products >= round(self.share * 2**32) - 2**31)


@dataclass(frozen=True)
class Context:
    """What `forward` and the deltas know beside the parameters.

    `scale`: alpha / rank, a factor inside the algorithm (those without an alpha pass over it). `multiplier`: how much
    of the change takes effect, 1 in training; the change is W' − W, whatever the algorithm is. `gate`: factors for the
    ranks, [r], or [B, r] for each image of a batch, or None; they are all 1 where none is given. `elements`: which
    numbers between down and up take part, or None. `constants`: what `constants` made of the layer.
    """

    scale: float = 1.0
    multiplier: float = 1.0
    options: Options = field(default_factory=Options)
    gate: Tensor | None = None
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    elements: Elements | None = None


class Algorithm(Protocol):
    """Names in files are `<layer>.<suffix>`; `parameters` is {suffix: tensor}.

    `forward` equals the layer with W + `delta_weight` and b + `delta_bias`.
    """

    SUFFIXES: tuple[str, ...]
    """Names that parameters of a layer can have in a file."""
    STARTS_ZERO: tuple[str, ...]
    """Those that are zero at the start (so that ΔW is) and must not be zero after training."""
    NETWORK_MODULE: str
    """What the metadata of a file calls this algorithm (`ss_network_module`)."""
    NETWORK_ALGORITHM: str
    """What LyCORIS calls it (`algo` in `ss_network_args`), or ""."""

    def shapes(self, place: Place) -> Shapes:
        """Names and shapes of the parameters of a layer."""
        ...

    def recognises(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether tensors of a layer of a file, all of them named in SUFFIXES, are this algorithm's, and complete."""
        ...

    def shapes_of(self, tensors: Mapping[str, Tensor], place: Place) -> Shapes:
        """The shapes that tensors of a file must have for a layer (rank and options of `place` are not looked at)."""
        ...

    def rank_of(self, parameters: Mapping[str, Tensor]) -> int:
        """The rank that loaded parameters have; 1 where there is none."""
        ...

    def options_of(self, parameters: Mapping[str, Tensor], scalars: Mapping[str, float]) -> Options:
        """The options that loaded parameters were made with, as far as `forward` needs them."""
        ...

    def scalars(self, place: Place, alpha: float) -> dict[str, float]:
        """The numbers that stand beside the parameters in a file (alpha)."""
        ...

    def init(self, generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
        """Fill the parameters in place with their start values; ΔW is then 0."""
        ...

    def constants(self, layer: FrozenLayer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is computed once of a frozen layer, on its device."""
        ...

    def forward(self, x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
        """The layer's output with the adapter."""
        ...

    def delta_weight(self, parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
        """ΔW in the shape of `weight`, the layer's own."""
        ...

    def delta_bias(self, parameters: Mapping[str, Tensor], context: Context) -> Tensor | None:
        """Δb [out], or None."""
        ...

    def gate(self, rank: int, options: Options, draw: float, timesteps: Tensor) -> Tensor | None:
        """The mask of the ranks for a batch, [r] or [B, r], on the device of timesteps [B]; `draw` in [0, 1)."""
        ...

    def for_file(self, parameters: Mapping[str, Tensor], place: Place) -> dict[str, Tensor]:
        """The parameters as others read them without knowing our options."""
        ...


# What most algorithms do; an algorithm imports those that fit it


def alpha_only(place: Place, alpha: float) -> dict[str, float]:
    return {"alpha": alpha}


def no_constants(layer: FrozenLayer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {}


def no_bias(parameters: Mapping[str, Tensor], context: Context) -> Tensor | None:
    return None


def as_they_are(parameters: Mapping[str, Tensor], place: Place) -> dict[str, Tensor]:
    return dict(parameters)


def no_options(parameters: Mapping[str, Tensor], scalars: Mapping[str, float]) -> Options:
    return Options()


def no_gate(rank: int, options: Options, draw: float, timesteps: Tensor) -> Tensor | None:
    return None
