"""Undoing an optimizer's step on the device, where a number that the host has not read says so.

Most optimizers know no "leave this step out unless …" of their own. So what a step changes is kept until it is made,
and one selection an entry decides afterwards. That takes a copy of the trained numbers and of the optimizer's memory
for the length of the step, when the activations of the backward pass are gone already, and two more passes over them;
the host runs on in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

LARGE = 1 << 16  # numbers from which on a tensor is selected by itself; smaller ones are joined
Place = tuple[Any, tuple[Any, ...]]  # a dict, and the keys and numbers that lead from it to a tensor


class Undo:
    """Vectors and an optimizer's tensors as they were before a step. Counters that are Python numbers are not kept."""

    def __init__(self, vectors: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> None:
        """`vectors`: what is trained, and never replaced by another tensor."""
        self.vectors = [vector.detach() for vector in vectors]
        device = self.vectors[0].device
        self.places = [place for place, tensor in _tensors(optimizer) if tensor.device == device]
        self.before = _copied([*self.vectors, *map(_at, self.places)])

    def unless(self, made: Tensor) -> None:
        """Put everything back unless `made`, a 0-dim bool on the device that is not read by the host."""
        after = [*self.vectors, *map(_at, self.places)]
        rest: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
        for now, before in zip(after, self.before, strict=True):
            if before.numel() >= LARGE:
                now.copy_(torch.where(made, now, before, out=before))
            else:
                rest.setdefault(before.dtype, []).append((now, before))
        for pairs in rest.values():
            now, before = ([pair[side] for pair in pairs] for side in (0, 1))
            chosen = torch.where(made, _joined(now), _joined(before))
            parts = chosen.split([tensor.numel() for tensor in now])
            torch._foreach_copy_(now, [part.view_as(tensor) for part, tensor in zip(parts, now, strict=True)])


def _tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor that an optimizer remembers; parameters and learning rates are not its memory."""
    for state in optimizer.state.values():
        for keys, tensor in _walk(state, ()):
            yield (state, keys), tensor
    for group in optimizer.param_groups:
        for key, value in group.items():
            if key not in ("params", "lr"):
                for keys, tensor in _walk(value, (key,)):
                    yield (group, keys), tensor


def _walk(value: Any, keys: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield keys, value
    elif isinstance(value, (dict, list, tuple)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _walk(part, (*keys, key))


def _at(place: Place) -> Tensor:
    value, keys = place
    for key in keys:
        value = value[key]
    return value


def _copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies; those of small tensors are views of one each dtype."""
    copies = [tensor.clone() if tensor.numel() >= LARGE else tensor for tensor in tensors]
    small: dict[torch.dtype, list[int]] = {}
    for number, tensor in enumerate(tensors):
        if tensor.numel() < LARGE:
            small.setdefault(tensor.dtype, []).append(number)
    for numbers in small.values():
        parts = _joined([tensors[number] for number in numbers]).split([tensors[number].numel() for number in numbers])
        for number, part in zip(numbers, parts, strict=True):
            copies[number] = part
    return copies


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers one after the other, in a new tensor; one kernel."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
