"""Whether what was read from JSON has the declared types: files come from other hands too. No heavy imports."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def all_fit(values: Sequence[Any], hint: Any) -> bool:
    """Whether all values are of a type hint: JSON's own types, list and dict (Mapping) of them, and unions.

    A whole number is a float too, True is no number. Many values at once are looked at by their types, which is
    several times as fast as one after the other.
    """
    classes, items, members = _read(hint)
    if not classes.issuperset(map(type, values)):
        return False
    if items is not None and not all_fit(_inside(value for value in values if type(value) is list), items):
        return False
    return members is None or all_fit(_inside(v.values() for v in values if type(v) is dict), members)


def _inside(containers: Iterable[Iterable[Any]]) -> list[Any]:
    return [value for container in containers for value in container]


@functools.cache
def _read(hint: Any) -> tuple[frozenset[type], Any, Any]:
    """The classes that a hint allows, the hint of a list's items, the hint of a dict's values."""
    classes: set[type] = set()
    items = members = None
    for one in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        origin, inside = typing.get_origin(one) or one, typing.get_args(one)
        if origin is list:
            items = inside[0]
        elif origin in (dict, Mapping):
            origin, members = dict, inside[1]
        classes |= {float, int} if origin is float else {origin}
    return frozenset(classes), items, members
