"""Faults that lie between settings: each rule looks at a whole preset and yields sentences. Torch-free.

A rule is a function (Preset) → Problems in the file of the section that it is most about, named for what holds when it
is kept, and an entry of that file's RULES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.rules import adapter, captions, data, memory, noise, optimizer, paths, run, sharing, validation

if TYPE_CHECKING:
    from engine.preset import Preset


def numbers_are_finite(preset: Preset) -> Iterator[Problem]:
    for path, value in preset.values().items():
        if isinstance(value, float) and value != value:
            yield Problem(path, "must be a number (got nan).")


RULES: tuple[Callable[[Preset], Iterator[Problem]], ...] = (
    *adapter.RULES,
    *optimizer.RULES,
    *captions.RULES,
    *data.RULES,
    *noise.RULES,
    *run.RULES,
    *memory.RULES,
    *validation.RULES,
    *paths.RULES,
    *sharing.RULES,
    numbers_are_finite,
)


def rule_problems(preset: Preset) -> list[Problem]:
    """All faults between the settings of a preset."""
    return [problem for rule in RULES for problem in rule(preset)]
