"""The runs there are, what each is doing, and the starting of one. No page code here."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path

import psutil

import launchers
from engine import run as runs
from engine.drawing.desk import desk
from engine.errors import UserError
from engine.home import home
from engine.in_use import refuse_beside_measuring
from engine.preset import Preset, resolve
from engine.run import RunFolder, Status, runs_in
from ui import served
from ui.language import say
from ui.run_view import RunView, view_of
from ui.words import moment

_STARTING_SECONDS = 120.0  # an engine that has not taken its run by then has failed to start
_MOST_LISTED = 200

_known_folders: list[Path] = [home() / "runs"]
_launched: dict[
    Path, tuple[int, float]
] = {}  # run → process id and when; only for the moment until the engine holds it
_lock = threading.Lock()
_one_start = threading.Lock()  # two browser tabs may press Start at the same moment


def know_folder(folder: str) -> Path:
    """List the runs of this runs folder too."""
    path = resolve(folder)
    with _lock:
        if path not in _known_folders:
            _known_folders.append(path)
    return path


def known_folders() -> list[Path]:
    with _lock:
        return list(_known_folders)


def all_runs() -> list[RunFolder]:
    """The runs of all known folders, the last changed first."""
    found = [run for folder in known_folders() for run in runs_in(folder)]
    listed = sorted(found, key=_changed, reverse=True)[:_MOST_LISTED]
    for run in listed:
        served.allow(run.samples)
        served.allow(run.checkpoints)
    return listed


def status(view: RunView) -> Status:
    """The run's status; a run whose engine was launched and has not yet taken it counts as running."""
    found = view.status()
    if found == "running":
        _launched.pop(view.run.path, None)
    elif is_starting(view.run.path):
        return "running"
    return found


def is_starting(path: Path) -> bool:
    process_id, since = _launched.get(path, (0, 0.0))
    if not process_id:
        return False
    if time.monotonic() - since < _STARTING_SECONDS and psutil.pid_exists(process_id):
        return True
    _launched.pop(path, None)
    return False


def running(all_of: list[RunFolder]) -> RunView | None:
    """The run that is being worked on now; None when there is none."""
    for run in all_of:
        if run.lock.exists() or run.path in _launched:
            view = view_of(run.path)
            if status(view) == "running":
                return view
    return None


def choices(all_of: list[RunFolder], active: RunView | None) -> list[tuple[str, str]]:
    """For the list of runs: what is shown, and the run's folder."""
    return [(_title(run, active), str(run.path)) for run in all_of]


def start(preset: Preset) -> Path:
    """Put the preset into a new run folder and start the engine on it. Raises UserError."""
    know_folder(preset.run.folder)
    with _one_start:
        refuse_second()
        run = runs.create(preset)
        launch(run.path, preset.run.gpus)
    return run.path


def resume(path: Path) -> None:
    """Start the engine on an existing run, which goes on where its last state was saved. Raises UserError."""
    _, preset = runs.open_run(path)
    if status(view_of(path)) == "running":
        raise UserError("this run is already running.", path.name)
    with _one_start:
        refuse_second()
        RunFolder(path).take_request("stop")
        launch(path, preset.run.gpus)


def launch(path: Path, gpus: int = 1) -> None:
    """Start the engine in its own session, one process a GPU: it outlives the page. Raises UserError."""
    desk().ask_to_leave()  # what draws pictures lets go of the graphics card
    try:
        process_id = launchers.launch(path, gpus)
    except OSError as error:
        what = f"the engine could not be started ({error.strerror}). Check the folder's rights and the disk."
        raise UserError(what, str(path)) from None
    _launched[path] = (process_id, time.monotonic())


def refuse_second() -> None:
    """UserError where a run is being trained already, or steps are measured."""
    refuse_beside_measuring()
    active = running(all_runs())
    if active is not None:
        what = "is still running, and two at once would share one device. Wait for its end, or stop it first."
        raise UserError(what, active.run.name)


def _title(run: RunFolder, active: RunView | None) -> str:
    when = moment(datetime.fromtimestamp(_changed(run)))
    return f"{run.name} · {say('running') if active and active.run.path == run.path else when}"


def _changed(run: RunFolder) -> float:
    try:
        return (run.events if run.events.exists() else run.preset).stat().st_mtime
    except OSError:
        return 0.0
