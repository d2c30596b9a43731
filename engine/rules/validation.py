"""Faults between settings: validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


def is_on(preset: Preset) -> bool:
    """Whether there is something to measure on."""
    return bool(preset.validation.share or preset.validation.folder)


def validation_has_one_source(preset: Preset) -> Iterator[Problem]:
    validation = preset.validation
    if validation.share and validation.folder:
        yield Problem(
            "validation.share",
            f"and validation.folder are both given (got {validation.share:g}). Set it to 0, or empty the folder.",
        )


def bands_hold_timesteps(preset: Preset) -> Iterator[Problem]:
    noise, bands = preset.noise, preset.validation.bands
    timesteps = max(1, noise.max_timestep - noise.min_timestep)
    if is_on(preset) and timesteps < bands:
        yield Problem(
            "validation.bands",
            f"must not be more than the {timesteps} timesteps from noise.min_timestep to noise.max_timestep "
            f"(got {bands}). Lower it.",
        )


def patience_has_something_to_wait_for(preset: Preset) -> Iterator[Problem]:
    validation = preset.validation
    if not validation.patience:
        return
    if not is_on(preset):
        yield Problem(
            "validation.patience",
            f"ends the run by the validation loss, and nothing is held out (got {validation.patience}). "
            "Set validation.share or validation.folder, or set it to 0.",
        )
    elif not (validation.every_epochs or validation.every_steps):
        yield Problem(
            "validation.patience",
            f"needs validations on the way, and there are none (got {validation.patience}). "
            "Set validation.every_epochs or validation.every_steps, or set it to 0.",
        )


RULES = (
    validation_has_one_source,
    bands_hold_timesteps,
    patience_has_something_to_wait_for,
)
