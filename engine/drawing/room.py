"""Who has the GPU: pictures make room when a training starts, and are not begun while one runs. Torch-free."""

from __future__ import annotations

import time
from pathlib import Path

from engine.drawing.desk import desk
from engine.home import home
from engine.preset import ROOT
from engine.queue import queue
from engine.run import RunFolder, runs_in

PATIENCE_SECONDS = 60


def make_room(patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Ask the process that draws to end, and wait until it has: its memory is the training's then."""
    place = desk()
    if not place.is_running():
        return
    place.ask_to_leave()
    until = time.monotonic() + patience_seconds
    while place.is_running() and time.monotonic() < until:
        time.sleep(0.1)


def training_now() -> str:
    """The name of a run that trains now on this machine, or ""."""
    folders = {home() / "runs", ROOT / "runs"}
    found = [run for folder in folders for run in runs_in(folder)]
    found += [RunFolder(path) for path in _queued()]
    return next((run.name for run in found if run.is_running()), "")


def _queued() -> list[Path]:
    entries = [entry for entry in queue().entries() if entry.kind == "run" and entry.state == "running"]
    return [Path(entry.folder) for entry in entries if entry.folder]
