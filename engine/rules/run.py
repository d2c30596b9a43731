"""Faults between settings: length, saving and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset

_FORBIDDEN_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


def run_name_is_a_file_name(preset: Preset) -> Iterator[Problem]:
    name = preset.run.name
    if not name.strip() or name != name.strip() or name in (".", "..") or _FORBIDDEN_IN_NAMES.search(name):
        yield Problem(
            "run.name",
            f'must be usable as a file name: not empty and without \\ / : * ? " < > | (got {name!r}).',
        )
    elif len(name.encode()) > 120:
        yield Problem("run.name", f"is too long for a file name ({len(name.encode())} bytes, at most 120).")


def what_is_kept_is_saved_before(preset: Preset) -> Iterator[Problem]:
    run = preset.run
    if run.keep_last and not (run.save_every_epochs or run.save_every_steps or run.save_every_minutes):
        yield Problem(
            "run.keep_last",
            f"keeps the last {run.keep_last} of the checkpoints on the way, and none is saved there. "
            "Set run.save_every_epochs or run.save_every_steps, or set it to 0.",
        )


def file_names_by_epoch_have_epochs(preset: Preset) -> Iterator[Problem]:
    run = preset.run
    if run.file_names == "epoch" and not run.save_every_epochs:
        yield Problem(
            "run.file_names",
            "goes by epochs, and no checkpoint is saved at the end of one (got epoch). Set run.save_every_epochs, or "
            "set it to step.",
        )


def an_average_begins_before_the_end(preset: Preset) -> Iterator[Problem]:
    run = preset.run
    if run.ema_decay and run.length == "steps" and run.ema_start_step >= run.steps:
        yield Problem(
            "run.ema_start_step",
            f"the average would begin after the last step (got {run.ema_start_step} of {run.steps}). Give an earlier "
            "step, or set run.ema_decay to 0.",
        )


def an_average_is_asked_for(preset: Preset) -> Iterator[Problem]:
    run = preset.run
    if not run.ema_decay and (run.ema_start_step or run.ema_device == "cpu"):
        where = "ema_start_step" if run.ema_start_step else "ema_device"
        yield Problem(f"run.{where}", "has no effect without an average. Set run.ema_decay, 0.999 for instance.")


RULES = (
    an_average_begins_before_the_end,
    an_average_is_asked_for,
    run_name_is_a_file_name,
    what_is_kept_is_saved_before,
    file_names_by_epoch_have_epochs,
)
