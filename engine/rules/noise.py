"""Faults between settings: noise, timesteps and loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


def timesteps_are_a_range(preset: Preset) -> Iterator[Problem]:
    noise = preset.noise
    if noise.min_timestep >= noise.max_timestep:
        yield Problem(
            "noise.min_timestep",
            f"must be below noise.max_timestep (got {noise.min_timestep} and {noise.max_timestep}).",
        )


RULES = (timesteps_are_a_range,)
