"""TensorBoard and W&B beside our own events, through accelerate's trackers.

A tracker listens to the events that the run tells anyway, so it costs no look at the device. Whatever goes wrong with
it is told once and the run goes on without it.
"""

from __future__ import annotations

import hashlib
import math
import netrc
import os
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from engine import events
from engine.errors import MissingPackage, Problem
from engine.preset import Preset, resolve
from engine.run import RunFolder
from engine.secrets import redacted

FINISH_SECONDS = 60.0
PACKAGES = {"tensorboard": "tensorboard==2.21.0", "wandb": "wandb"}
ENDS = (events.Finished, events.Stopped, events.Failed)


class Tracker(Protocol):
    """What of accelerate's trackers is used."""

    def start(self) -> None: ...
    def store_init_configuration(self, values: dict[str, Any]) -> None: ...
    def log(self, values: dict[str, Any], step: int | None = None) -> None: ...
    def finish(self) -> None: ...


Open = Callable[[Preset, RunFolder, int], Tracker]


def open_tensorboard(preset: Preset, run: RunFolder, first_step: int) -> Tracker:
    """Files of events below the tracker folder; on a resume TensorBoard forgets what came after the state."""
    from accelerate.tracking import TensorBoardTracker

    purge = {"purge_step": first_step + 1} if first_step else {}
    return TensorBoardTracker(tracked_name(preset, run), tracker_folder(preset, run), **purge)


def open_wandb(preset: Preset, run: RunFolder, first_step: int) -> Tracker:
    """A W&B run that a resume goes on with. Without a key it records offline, and nobody is asked for one."""
    from accelerate.tracking import WandBTracker

    mode = os.environ.get("WANDB_MODE") or ("online" if _has_wandb_key() else "offline")
    return WandBTracker(
        preset.logging.project,
        name=tracked_name(preset, run),
        dir=str(tracker_folder(preset, run)),
        id=_run_id(run),
        resume="allow",
        mode=mode,
    )


TRACKERS: dict[str, tuple[Open, ...]] = {
    "none": (),
    "tensorboard": (open_tensorboard,),
    "wandb": (open_wandb,),
    "all": (open_tensorboard, open_wandb),
}


def tracker_folder(preset: Preset, run: RunFolder) -> Path:
    """Where the trackers' files go."""
    return resolve(preset.logging.folder) if preset.logging.folder else run.path / "trackers"


def tracked_name(preset: Preset, run: RunFolder) -> str:
    """What the trackers call the run."""
    return preset.logging.run_name or run.name


def tracker_problems(preset: Preset) -> list[Problem]:
    """Packages of the wanted trackers that are not installed."""
    wanted = [name for name in PACKAGES if preset.logging.tracker in (name, "all")]
    missing = [name for name in wanted if not _is_installed(name)]
    return [
        MissingPackage(
            f"needs the package {name}, which is not installed. "
            f"Install it with: .venv/bin/python -m pip install {PACKAGES[name]} (in Atelier's folder).",
            "logging.tracker",
        ).problems[0]
        for name in missing
    ]


def values_of(event: events.Event) -> tuple[int, dict[str, float]] | None:
    """Step and values to record of an event; None where it has none. What is not finite is left out."""
    if isinstance(event, events.Step):
        found: dict[str, float | None] = {
            "loss/current": event.loss,
            "gradient_norm": event.gradient_norm,
            "seconds_per_step": event.seconds_per_step,
            "memory_gb": event.memory_bytes / 1e9,
            "epoch": event.epoch,
            "norm_limit/shrunk_layers": event.shrunk_layers,
            "norm_limit/mean_norm": event.mean_norm,
            **{f"lr/{name}": rate for name, rate in event.lr.items()},
        }
    elif isinstance(event, events.Validated):
        bands = zip(event.edges[:-1], event.edges[1:], event.bands, strict=False)
        found = {
            "validation/loss": event.loss,
            **{f"validation/timesteps {low}-{high - 1}": loss for low, high, loss in bands},
        }
    else:
        return None
    return event.step, {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


class Tracking:
    """Feeds trackers from the run's events; closes them with the run. Their faults are told once, and end only them."""

    def __init__(self, trackers: Mapping[str, Tracker], settings: dict[str, Any], warn: Callable[[str], None]) -> None:
        """`settings` are given to the trackers at the start; empty for none."""
        self.trackers = dict(trackers)
        self.warn = warn
        self._each(lambda tracker: tracker.start())
        if settings:
            self._each(lambda tracker: tracker.store_init_configuration(settings))

    def __call__(self, event: events.Event) -> None:
        found = values_of(event)
        if found is not None:
            step, values = found
            self._each(lambda tracker: tracker.log(values, step=step))
        elif isinstance(event, ENDS):
            self._each(_finish)
            self.trackers.clear()

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                do(tracker)
            except Exception as error:  # whatever a tracker meets must not end hours of training
                del self.trackers[name]
                what = redacted(f"{type(error).__name__}: {error}")
                self.warn(f"{name} does not record any more ({what}). Training goes on; events.jsonl has it all.")


def tracking(preset: Preset, run: RunFolder, first_step: int, warn: Callable[[str], None]) -> Tracking | None:
    """The trackers that a preset asks for, begun; None without any. What is missing was told by `tracker_problems`."""
    chosen = TRACKERS[preset.logging.tracker]
    if not chosen:
        return None
    from accelerate import PartialState

    PartialState()  # accelerate's trackers and their log ask it which process this is
    folder = tracker_folder(preset, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warn(f"{folder} cannot be written ({error.strerror}), so {preset.logging.tracker} records nothing.")
        return None
    trackers = {open_.__name__.removeprefix("open_"): open_(preset, run, first_step) for open_ in chosen}
    return Tracking(trackers, preset.values() if preset.logging.settings else {}, warn)


def _finish(tracker: Tracker) -> None:
    """Close a tracker; one that waits for a network that is gone is left behind."""
    thread = threading.Thread(target=tracker.finish, daemon=True)
    thread.start()
    thread.join(FINISH_SECONDS)


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(run: RunFolder) -> str:
    """The same for each resume of a run, and another for every run: made from its name and its first event."""
    try:
        with run.events.open("rb") as file:
            first = file.readline()
    except OSError:
        first = b""
    return hashlib.blake2b(run.name.encode() + first, digest_size=8).hexdigest()
