"""What is trained, in groups that have a name and a learning rate each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.adapters.flat import FlatParameters, View
from engine.adapters.site import Group
from engine.rounding import RoundedStep


@dataclass(frozen=True)
class RateGroup:
    """Numbers that share a learning rate; `name` is what events and charts call it, `views` what is stepped."""

    name: str
    rate: float
    flat: FlatParameters
    views: tuple[View, ...]


def rate_groups(
    groups: Sequence[Group], rates: Mapping[str, float], shaped: bool, rounding: RoundedStep | None = None
) -> list[RateGroup]:
    """The adapter's groups with their rates, from those of the parts.

    `shaped`: for an optimizer that looks at matrices. `rounding`: the numbers lie in bf16 and are stepped by segments.
    """
    found: list[RateGroup] = []
    for place, group in enumerate(groups):
        views = group.flat.optimized(shaped)
        if rounding is not None:
            views = [View(group.flat, part) for part in rounding.parts[place]]
        found.append(RateGroup(group.name, rates[group.part] * group.factor, group.flat, tuple(views)))
    return found
