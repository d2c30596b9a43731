"""Three steps at the largest bucket, to know how long a run takes and what memory it needs. See docs/forecast.md.

The very loop that trains does them, on one drawn picture of that bucket's size, in a work folder that is thrown away:
no run folder is made, none of the user's pictures is read, and no file of a run is written.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine import event_log, events
from engine.errors import UserError
from engine.home import home
from engine.measured import FIRST_STEPS, LEAST_STEPS, Measured, measure_events
from engine.plan import Plan
from engine.preset import BY_PATH, Preset, resolve
from engine.report import Reporter
from engine.run import Request, RunFolder, held
from engine.stopping import StopAsked, Stopping

STEPS = FIRST_STEPS + LEAST_STEPS
# What takes no part in a step, or would write, load or tell something: at its default, as whole sections are
_LEFT_OUT = (
    "data.regularization_folder", "data.broken_images", "captions.extension", "captions.second_extension",
    "captions.token_warmup", "captions.dropout_every_epochs", "loss.image_weights", "loss.mask", "loss.mask_folder",
    "sample.every_steps", "sample.at_start", "run.save_every_steps", "run.save_every_minutes", "run.keep_last",
    "run.file_names", "run.state_every_steps", "run.ema_start_step", "adapter.text_encoder_stop",
)  # fmt: skip
_SECTIONS_LEFT_OUT = ("validation", "logging", "sharing")


class Done(Exception):  # noqa: N818 - not a fault
    """The steps are made; nothing is saved."""


class MeasuringReporter(Reporter):
    """Ends the loop after the last step that is measured, and looks for a stop whenever anything is told."""

    def emit(self, event: events.Event) -> None:
        super().emit(event)
        if self.run.take_request("stop"):
            raise StopAsked
        if isinstance(event, events.Step) and event.step == STEPS:
            raise Done

    def is_asked_for(self, what: Request) -> bool:
        """Only to stop: nothing is saved or drawn here."""
        return what == "stop" and super().is_asked_for(what)


def measure(preset: Preset, plan: Plan, folder: RunFolder) -> Measured:
    """Make the steps and return what they took. `folder` gets events and the log; whoever made it throws it away.

    Raises StopAsked where that was asked for, and what training raises.
    """
    from engine.train import train

    report = MeasuringReporter(folder)
    stopping = Stopping()
    stopping.listen()
    with held(folder):
        small = measuring_preset(preset, plan, folder.path)
        with suppress(Done):
            train(small, report, stopping)
    entries, _ = event_log.read(folder.events)
    found = measure_events(small, json.loads(folder.plan.read_text(encoding="utf-8")), entries)
    if found is None:
        raise UserError("too few steps were made to tell how long one takes. Try again.", "measure")
    return found


def measuring_preset(preset: Preset, plan: Plan, folder: Path) -> Preset:
    """The preset of a run with whole batches of the largest bucket; draws its one picture and writes its caption."""
    run = preset.run
    size = max((bucket.size_px for bucket in plan.buckets), key=lambda px: px[0] * px[1])
    shown = run.batch_size * run.accumulation
    subset = folder / "images" / f"{shown}_measure"
    subset.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(subset / "0.png", compress_level=1)
    (subset / "0.txt").write_text("a picture to measure with", encoding="utf-8")
    values: dict[str, Any] = {
        path: item.default for path, item in BY_PATH.items() if path in _LEFT_OUT or item.section in _SECTIONS_LEFT_OUT
    }
    values |= {
        "data.folder": str(subset.parent),
        "data.cache_folder": str(folder / "cache"),
        "data.width_px": size[0],
        "data.height_px": size[1],
        "data.bucketing": False,
        "run.name": "measure",
        "run.folder": str(folder),
        "run.length": "steps",
        "run.steps": max(plan.steps, STEPS + 1),  # as many as planned, so that no schedule is too long
        "run.gpus": 1,
        "run.save_every_epochs": 0,
        "sample.prompts": "",
        "sample.every_epochs": 0,
        "logging.every_steps": 1,
    }
    return preset.changed(values)


def runs_folders(preset: Preset) -> list[Path]:
    """Where runs of this preset and of this user lie."""
    return list(dict.fromkeys([resolve(preset.run.folder), home() / "runs"]))


@contextmanager
def thrown_away() -> Iterator[RunFolder]:
    """A work folder that is gone after the block, on the disk where Atelier keeps its things."""
    parent = home() / ".measuring"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=parent))
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}). Check the folder's rights.", str(parent)) from None
    try:
        yield prepared(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def prepared(path: Path) -> RunFolder:
    """The folder with the parts that a training loop expects."""
    folder = RunFolder(path)
    for part in (folder.samples, folder.checkpoints, folder.state, folder.requests):
        part.mkdir(parents=True, exist_ok=True)
    return folder
