"""The run folder: the only thing that page and engine share. Torch-free.

runs/NAME/  preset.json  plan.json  events.jsonl  log.txt  samples/  checkpoints/  state/  inputs/  requests/
            changes.json  exit.json  lock
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from engine import event_log, events
from engine.atomic import write_text_whole
from engine.errors import UserError
from engine.locks import locked
from engine.preset import Preset, load, resolve

Request = Literal["stop", "stop_after_epoch", "save", "sample", "pause", "continue"]
ChangeRequest = Literal["rate_factor", "prompts"]  # these files have content: {"value": …}
_PROCESS_BEGUN = time.time()  # when this module was imported: among the first things that an engine does
CHANGE_REQUESTS: tuple[ChangeRequest, ...] = ("rate_factor", "prompts")
REQUESTS: tuple[Request | ChangeRequest, ...] = (
    *("stop", "stop_after_epoch", "save", "sample", "pause", "continue"),
    *CHANGE_REQUESTS,
)  # fmt: skip
_OPPOSITES: dict[str, Request] = {"pause": "continue", "continue": "pause"}
Status = Literal["new", "running", "finished", "stopped", "failed", "killed"]


@dataclass(frozen=True)
class WorkFolder:
    """What every folder has that a process works in and others watch: a run's, or a tool's job's."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def requests(self) -> Path:
        return self.path / "requests"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    def is_running(self) -> bool:
        """Whether a process holds this folder. The lock dies with its process, so a killed one is seen at once."""
        return self.lock.exists() and is_held(self.lock)

    def status(self) -> Status:
        """What became of the work, from the lock and the last events."""
        if self.is_running():
            return "running"
        entries, _ = event_log.read(self.events)
        for entry in reversed(entries):
            if isinstance(entry.event, events.Finished):
                return "finished"
            if isinstance(entry.event, events.Stopped):
                return "stopped"
            if isinstance(entry.event, events.Failed):
                return "failed"
            if isinstance(entry.event, events.Started):
                return "killed"
        return "killed" if entries else "new"


@dataclass(frozen=True)
class RunFolder(WorkFolder):
    """Names of everything in a run folder."""

    @property
    def preset(self) -> Path:
        return self.path / "preset.json"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs"

    @property
    def changes(self) -> Path:
        return self.path / "changes.json"

    def request(self, what: Request) -> None:
        """Ask the engine for something; it looks once a step. The opposite that was asked for before is withdrawn."""
        self.requests.mkdir(parents=True, exist_ok=True)
        if what in _OPPOSITES:
            self.take_request(_OPPOSITES[what])
        (self.requests / what).touch()

    def request_change(self, what: ChangeRequest, value: float | str) -> None:
        """Ask the engine to go on with another value; it looks once a step. UserError where the disk refuses."""
        write_text_whole(self.requests / what, json.dumps({"value": value}, ensure_ascii=False) + "\n")

    def is_requested(self, what: Request | ChangeRequest) -> bool:
        """Whether that was asked for and is not done yet."""
        return (self.requests / what).exists()

    def take_content(self, what: ChangeRequest) -> str | None:
        """The content of a request, which is used up; None where there is none."""
        taken = self.requests / f".{what}.taken"
        try:
            (self.requests / what).replace(taken)  # whoever asks again meanwhile writes a new file
            content = taken.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        taken.unlink(missing_ok=True)
        return content

    def take_request(self, what: Request) -> bool:
        """Whether that was asked for since the last look; the request is used up."""
        try:
            (self.requests / what).unlink()
        except FileNotFoundError:
            return False
        return True

    def forget_requests(self) -> None:
        """Remove what was asked for and not done."""
        for what in REQUESTS:
            (self.requests / what).unlink(missing_ok=True)

    def forget_old_requests(self) -> None:
        """Remove requests from before this process: they were meant for one that is gone."""
        for what in REQUESTS:
            path = self.requests / what
            if path.exists() and path.stat().st_mtime < _PROCESS_BEGUN:
                path.unlink(missing_ok=True)

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint, that of the best validation aside; None when there is none yet."""
        if not self.checkpoints.is_dir():
            return None
        found = [path for path in self.checkpoints.glob("*.safetensors") if not path.stem.endswith("-best")]
        return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def create(preset: Preset, folder: Path | None = None) -> RunFolder:
    """Make a new run folder that holds the preset. Without `folder`: runs/NAME, or NAME-2, NAME-3 … when taken."""
    run = RunFolder(folder or free_folder(preset))
    folder = run.path
    if run.preset.exists():
        raise UserError("this folder already holds a run. Resume it, or give another name.", str(folder))
    try:
        for part in (run.path, run.samples, run.checkpoints, run.state, run.requests):
            part.mkdir(parents=True, exist_ok=True)
        preset.save(run.preset)
    except OSError as error:
        what = f"the run folder cannot be written ({error.strerror}). Choose a folder that you may write to."
        raise UserError(what, str(folder)) from None
    return run


def free_folder(preset: Preset) -> Path:
    """Where a new run of this preset would be made: runs/NAME, or NAME-2, NAME-3 … when taken."""
    parent, name = resolve(preset.run.folder), preset.run.name
    names = chain((name,), (f"{name}-{number}" for number in count(2)))
    return next(path for path in map(parent.joinpath, names) if not path.exists())


def open_run(folder: Path) -> tuple[RunFolder, Preset]:
    """An existing run and its preset. Raises UserError when the folder holds none."""
    run = RunFolder(folder.resolve())
    if not run.preset.is_file():
        what = "there is no run in this folder (no preset.json). Give a run's folder or a preset."
        raise UserError(what, str(folder))
    return run, load(run.preset)


@contextlib.contextmanager
def held(run: RunFolder) -> Iterator[None]:
    """Hold the run while working on it. Raises UserError when another process does."""
    busy = "another process is training in this run folder. Wait for it, stop it, or give another name."
    with locked(run.lock, 2, "the run folder", busy):
        yield


def is_held(lock: Path) -> bool:
    """Whether an engine holds the lock. Looking takes it shared: those who look at once do not disturb each other."""
    if fcntl is None:  # Windows knows no shared locks: whoever looks at the same moment is gone a moment later
        return all(_is_taken(lock) for _ in range(3))
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _is_taken(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0.02):
            return False
    except (Timeout, OSError):
        return True


def runs_in(folder: Path) -> list[RunFolder]:
    """All runs in a runs folder, the last changed first."""
    if not folder.is_dir():
        return []
    found = [RunFolder(path) for path in folder.iterdir() if (path / "preset.json").is_file()]
    return sorted(found, key=lambda run: _changed(run), reverse=True)


def _changed(run: RunFolder) -> float:
    path = run.events if run.events.exists() else run.preset
    return path.stat().st_mtime


def checkpoint_name(name: str, step: int) -> str:
    """The file of a checkpoint on the way: NAME-STEP.safetensors. The last one is NAME.safetensors."""
    return f"{name}-{step:06d}.safetensors"


def epoch_checkpoint_name(name: str, epoch: int) -> str:
    """The file of a checkpoint at the end of an epoch, where names go by epochs."""
    return f"{name}-epoch{epoch:04d}.safetensors"


def step_of_checkpoint(path: Path) -> int | None:
    """The step in a checkpoint's name; None where it carries none."""
    match = re.search(r"-(\d{6,})$", path.stem)
    return int(match[1]) if match else None
