"""Works off the queue: `python -m launchers.worker`. One entry a GPU, in order; ends when nothing is left to do.

Only one worker works at a time. It may be killed at any moment, and so may what it started: what runs goes on without
it, and the next worker finds out what became of it. How: each process holds its entry's lock as long as it lives (it
inherits the open file), the entry says that it runs before it is started, and how it ended stands in its folder.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from engine import event_log, events
from engine import run as runs
from engine.commands import STOPPED
from engine.drawing.desk import desk
from engine.ended import note_ended
from engine.errors import UserError
from engine.gpus import Gpu, gpus
from engine.home import home
from engine.in_use import is_measuring
from engine.preset import load, resolve
from engine.queue import Entry, Queue, State, preset_of, queue
from engine.run import WorkFolder, is_held, runs_in
from engine.tools.jobs import JobFolder, program_of_job
from launchers import local

MOST_STARTS = 3  # so often a work is begun anew that was cut off while nobody watched (the machine went down)
MOST_TRIES = 30  # the same for one that had not begun to train yet: most often it was its worker that was killed
ENGINE_TOOLS_ON_GPU = ("caches", "compare", "timeline", "pick")
_POLL_SECONDS = 1.0
_TAIL_BYTES = 4000


def command_of(entry: Entry) -> list[str]:
    """The command line of an entry's work."""
    if entry.kind == "sample":
        return [sys.executable, "-m", "engine", *entry.arguments]
    if entry.kind == "job":
        return [sys.executable, "-m", program_of_job(Path(entry.folder)), "run", entry.folder]
    if entry.gpus > 1:
        return [sys.executable, "-m", "launchers.several", "--gpus", str(entry.gpus), entry.folder]
    return [sys.executable, "-m", "engine", "train", entry.folder]


@dataclass
class Worker:
    """`places` are the GPUs to give out; `command` says what is started for an entry."""

    queue: Queue
    places: Sequence[Gpu]
    command: Callable[[Entry], list[str]] = command_of
    poll_seconds: float = _POLL_SECONDS
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self) -> None:
        """Work until nothing runs and nothing may be started."""
        while True:
            try:
                self.settle()
                while self.start_next():
                    pass
                entries = self.queue.entries()
            except UserError as error:  # the disk is full, say: what runs goes on, and there may be room later
                print(error, file=sys.stderr, flush=True)
                time.sleep(10 * self.poll_seconds)
                continue
            waiting = any(entry.state == "waiting" for entry in entries) and not self.queue.is_paused()
            if not waiting and not any(entry.state == "running" for entry in entries):
                return
            time.sleep(self.poll_seconds)

    def settle(self) -> None:
        """Find out what became of entries that were running."""
        for known in self.queue.entries():
            if known.state == "running" and not self._is_alive(known):
                with self.queue.changing():
                    entry = self.queue.get(known.id)
                    child = self._children.pop(entry.id, None)
                    if child is not None and entry.folder:
                        note_ended(Path(entry.folder), child.returncode)
                    settled = settle(entry, child.returncode if child else None)
                    self.queue.write(settled)
                print(f"{entry.title}: {settled.state}. {settled.message}".strip(), flush=True)

    def start_next(self) -> bool:
        """Start the first waiting entry if there is room for it; later ones do not overtake it."""
        if self.queue.is_paused():
            return False
        with self.queue.changing():
            entries = self.queue.entries()
            entry = next((entry for entry in entries if entry.state == "waiting"), None)
            if entry is None:
                return False
            if entry.gpus > len(self.places):
                what = f"needs {entry.gpus} GPUs, and this machine has {len(self.places)}. Lower run.gpus."
                self.queue.write(_ended(entry, "failed", what))
                return True
            free = self._free(entries)
            if len(free) < entry.gpus:
                return False
            self._start(entry, [place.name for place in free[: entry.gpus]])
        return True

    def _free(self, entries: Sequence[Entry]) -> list[Gpu]:
        """The places that neither the queue nor anybody else uses. What others run sits on the first ones."""
        given = [name for entry in entries if entry.state == "running" for name in entry.given]
        free = [place for place in self.places if place.name not in given]
        return free[_foreign(entries) :]

    def _start(self, entry: Entry, given: list[str]) -> None:
        lock = None
        try:
            lock = _hold(self.queue.alive_lock(entry.id))
            entry = dataclasses.replace(entry, state="running", given=tuple(given), starts=entry.starts + 1)
            folder = _folder(entry)
            entry = dataclasses.replace(entry, folder=str(folder), from_byte=_size(folder / "events.jsonl"))
            self.queue.write(entry)
            if entry.kind == "run" and not (folder / "preset.json").exists():
                runs.create(preset_of(entry), folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "requests" / "stop").unlink(missing_ok=True)
            seen = ",".join(given)
            variables = {"CUDA_VISIBLE_DEVICES": seen} if seen else {}
            keep_open = [] if lock is None else [lock]
            desk().ask_to_leave()  # what draws for the page has the GPU else; a training waits for it
            self._children[entry.id] = local.begin(
                folder, self.command(entry), variables=variables, keep_open=keep_open
            )
            print(f"{entry.title}: started", flush=True)
        except UserError as error:
            self.queue.write(_ended(entry, "failed", str(error)))
        except OSError as error:
            self.queue.write(_ended(entry, "failed", f"could not be started ({error.strerror})."))
        finally:
            if lock is not None:
                os.close(lock)

    def _is_alive(self, entry: Entry) -> bool:
        child = self._children.get(entry.id)
        if child is not None:
            return child.poll() is None
        lock = self.queue.alive_lock(entry.id)
        if lock.exists() and is_held(lock):
            return True
        return entry.kind != "sample" and WorkFolder(Path(entry.folder)).is_running()


def settle(entry: Entry, exit_code: int | None) -> Entry:
    """The entry as its work left it. `exit_code` is None where nobody watched the process: it may have been cut off."""
    if entry.kind == "sample":
        if exit_code is None:
            return _ended(entry, "finished", "It ended while nobody watched; look into its folder.")
        tail = _last_line(Path(entry.folder) / "log.txt")
        if exit_code:
            return _ended(entry, "failed", tail)
        return _ended(entry, "stopped" if tail == STOPPED else "finished", "")
    begun, state, message = False, None, ""
    for told in event_log.read(Path(entry.folder) / "events.jsonl", entry.from_byte)[0]:
        event = told.event
        begun = begun or isinstance(event, events.Started)
        if isinstance(event, events.Finished):
            state, message = "finished", ""
        elif isinstance(event, events.Stopped):
            state, message = "stopped", ""
        elif isinstance(event, events.Failed):
            state, message = "failed", event.message
        elif isinstance(event, events.Started):
            state = None
    if state is not None:
        return _ended(entry, state, message)
    if exit_code is None and entry.starts < (MOST_STARTS if begun else MOST_TRIES):
        return dataclasses.replace(entry, state="waiting", given=())
    if exit_code is not None and exit_code > 0 and not begun:
        return _ended(entry, "failed", _last_line(Path(entry.folder) / "log.txt"))
    return _ended(entry, "killed", "It was ended from outside. Let it wait once more to go on from its last state.")


def start_worker(of: Queue | None = None) -> bool:
    """Start a worker in a session of its own if there is something to do and nobody does it. Raises UserError."""
    of = of or queue()
    if not of.needs_worker():
        return False
    try:
        of.path.mkdir(parents=True, exist_ok=True)
        local.start(of.path, command=[sys.executable, "-m", "launchers.worker"])
    except OSError as error:
        raise UserError(f"the queue's worker could not be started ({error.strerror}).", str(of.path)) from None
    return True


def main() -> int:
    """Be the worker, unless there is one."""
    of = queue()
    of.path.mkdir(parents=True, exist_ok=True)
    worker = Worker(of, gpus())
    while True:
        lock = FileLock(of.worker_lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return 0
        try:
            worker.run()
        except KeyboardInterrupt:
            print("The queue rests; what runs goes on. Start it again: python -m engine queue run", flush=True)
            return 0
        finally:
            lock.release()
        if not of.needs_worker():  # an entry that came in the last moment saw a worker that was about to end
            return 0


def _folder(entry: Entry) -> Path:
    """Where an entry works: its folder, or a new one, also where somebody else made a run in it meanwhile."""
    if entry.kind != "run":
        return Path(entry.folder)
    kept = Path(entry.folder, "preset.json") if entry.folder else None
    if kept is not None and (entry.resumes or not kept.exists() or load(kept) == preset_of(entry)):
        return kept.parent
    return runs.free_folder(preset_of(entry))


def _foreign(entries: Sequence[Entry]) -> int:
    """How many runs, jobs of tools and measurements work here that the queue did not start."""
    ours = {Path(entry.folder).resolve() for entry in entries if entry.folder}
    folders = {home() / "runs"} | {resolve(str(entry.preset["run"]["folder"])) for entry in entries if entry.preset}
    works: list[WorkFolder] = [run for folder in folders for run in runs_in(folder)]
    jobs = home() / "jobs"
    works += [WorkFolder(path) for path in (jobs.iterdir() if jobs.is_dir() else ()) if _uses_gpu(path)]
    return is_measuring() + sum(work.path.resolve() not in ours and work.is_running() for work in works)


def _uses_gpu(folder: Path) -> bool:
    """Downloads and the tools for LoRA files use none; caches are made on it, and comparisons drawn."""
    try:
        job = JobFolder(folder).load()
    except UserError:
        return False
    return job.tool != "download" and (job.program != "engine" or job.tool in ENGINE_TOOLS_ON_GPU)


def _hold(lock: Path) -> int | None:
    """Open and lock a file, for a process to inherit. None on Windows: there the work's own lock has to do.

    Raises UserError where a process of that entry is still there.
    """
    if fcntl is None:
        return None
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    for _ in range(20):  # whoever looks whether it is held takes it for a moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            time.sleep(0.05)
    os.close(descriptor)
    raise UserError("a process of an earlier start still works on this. End it, then let it wait once more.", lock.name)


def _ended(entry: Entry, state: State, message: str) -> Entry:
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    return dataclasses.replace(entry, state=state, message=message, ended=now, given=())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _last_line(log: Path) -> str:
    """The last thing that a process said."""
    if not log.exists():
        return ""
    lines = log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
