"""The jobs of the tools: which there are, what each has told, starting, stopping and undoing. No page code here."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

import launchers.local
from engine import event_log, events
from engine import queue as queues
from engine.errors import Problem, UserError
from engine.run import Status
from engine.tools import jobs, journal
from engine.tools.jobs import Done, Job, JobFolder
from engine.tools.journal_entries import Make, Undone
from engine.tools.tool import Proposal, make_settings, program_of
from launchers.worker import start_worker
from ui.tool_table import TOOLS

_STARTING_SECONDS = 120.0  # a process that has not taken its job by then has failed to start
_MOST_LISTED = 60
_LOG_TAIL_BYTES = 8_000
_MADE = {"arrange": "output", "crop": "target", "download": "folder"}  # tool → the setting that names what it makes
Direction = Literal["undo", "redo"]

_views: dict[Path, JobView] = {}
_launched: dict[Path, tuple[int, float]] = {}
_turning: dict[Path, tuple[Direction, Future[Undone]]] = {}
_lock = threading.Lock()
_one_start = threading.Lock()  # two browser tabs may press the button at the same moment
_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="undo")


@dataclass
class JobView:
    """One job as its folder tells it; only what is new is read. Hold `lock` while reading several fields."""

    folder: JobFolder
    job: Job
    rows: list[Done] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    stage: str = ""
    progress: events.Progress | None = None
    warnings: list[events.Warned] = field(default_factory=list)
    end: events.Event | None = None
    times: list[tuple[str, int]] = field(default_factory=list)  # (time, rows done) while the present stage goes on
    lock: Any = field(default_factory=threading.RLock)
    _event_offset: int = 0
    _row_offset: int = 0
    _changes: tuple[Any, tuple[int, int]] = (None, (0, 0))

    def refresh(self) -> None:
        """Read what was written since the last look."""
        with self.lock:
            entries, self._event_offset = event_log.read(self.folder.events, self._event_offset)
            for entry in entries:
                self._take(entry)
            rows, self._row_offset = self.folder.read_table(self._row_offset)
            self.rows += rows
            self.counts.update(row.outcome for row in rows)

    def _take(self, entry: event_log.Entry) -> None:
        event = entry.event
        if isinstance(event, events.Stage):
            self.stage, self.progress, self.times = event.name, None, []
        elif isinstance(event, events.Started):  # perhaps not for the first time
            self.end = None
        elif isinstance(event, events.Progress):
            self.progress = event
            self.times.append((entry.time, event.done))
        elif isinstance(event, events.Warned):
            self.warnings.append(event)
        elif isinstance(event, (events.Finished, events.Stopped, events.Failed)):
            self.end = event

    def status(self) -> Status:
        """What became of the job; one whose process was launched and has not yet taken it counts as running."""
        if self.folder.is_running():
            _launched.pop(self.folder.path, None)
            return "running"
        self.refresh()
        if self.end is not None:
            return self.end.kind  # type: ignore[return-value]
        if _is_starting(self.folder.path):
            return "running"
        return "killed" if self.stage else "new"

    def changes(self) -> tuple[int, int]:
        """How many of its changes stand, and how many were undone."""
        try:
            facts = self.folder.journal.stat()
            key = facts.st_mtime_ns, facts.st_size
            if key != self._changes[0]:
                states = Counter(entry.state for entry in journal.read(self.folder.journal))
                self._changes = key, (states["done"], states["undone"])
            return self._changes[1]
        except (OSError, UserError):
            return 0, 0

    def log_tail(self) -> str:
        """The end of what its process printed."""
        try:
            content = self.folder.log.read_bytes()[-_LOG_TAIL_BYTES:]
        except OSError:
            return ""
        return content.decode("utf-8", errors="replace").strip()


def view_of(folder: JobFolder) -> JobView | None:
    """The view of a job folder, up to date; None where the folder holds no job that can be read."""
    with _lock:
        view = _views.get(folder.path)
        if view is None:
            try:
                view = _views[folder.path] = JobView(folder, folder.load())
            except UserError:
                return None
    view.refresh()
    return view


def listed(tools: Collection[str]) -> list[JobView]:
    """The jobs of these tools, the last made first."""
    found = (view_of(folder) for folder in jobs.jobs_in()[:_MOST_LISTED])
    return [view for view in found if view is not None and view.job.tool in tools]


def find(path: str | None, tools: Collection[str]) -> JobView | None:
    """The job with this folder, if it is listed: the page never opens another folder."""
    return next((view for view in listed(tools) if str(view.folder.path) == path), None)


def start(tool: str, settings: Any, proposal: Proposal | None) -> JobFolder:
    """Start a tool in its own session: it outlives the page, and refuses if the folder is no longer as it was shown.

    Raises UserError where another job runs or the process cannot be started.
    """
    with _one_start:
        _refuse_second()
        job = jobs.create(tool, settings, looked_at=proposal.digest() if proposal else "")
        _launch(job, program_of(settings))
    return job


def resume(view: JobView) -> None:
    """Begin a job again, whose tool keeps what is there. Raises UserError while it, or another, works or waits."""
    if is_queued(view.folder.path):
        raise UserError("waits in the queue already.", view.folder.name)
    with _one_start, view.lock:
        _refuse_second()
        view.folder.stop_request.unlink(missing_ok=True)
        _launch(view.folder, view.job.program)
        view.end, view.progress, view.stage = None, None, "Starting"  # instead of those of the time before


def _refuse_second() -> None:
    for folder in jobs.jobs_in()[:_MOST_LISTED]:
        view = view_of(folder)
        if view is not None and view.status() == "running":
            raise UserError("is still running. Wait for its end, or stop it first.", folder.name)


def _launch(job: JobFolder, program: str) -> None:
    try:
        command = [sys.executable, "-m", program, "run", str(job.path)]
        _launched[job.path] = launchers.local.start(job.path, command=command), time.monotonic()
    except OSError as error:
        what = f"could not be started ({error.strerror}). Check the folder's rights and the disk."
        raise UserError(what, str(job.path)) from None


def enqueue(tool: str, settings: Any, proposal: Proposal | None) -> JobFolder:
    """Put a job into the queue, where it waits for the runs and jobs before it. Raises UserError."""
    job = jobs.create(tool, settings, looked_at=proposal.digest() if proposal else "")
    folder = Path(str(getattr(settings, "folder", "") or job.path))
    queues.queue().add(queues.of_job(job.path, f"{TOOLS[tool].TITLE}: {folder.name}"))
    start_worker()
    return job


def is_queued(path: Path) -> bool:
    """Whether a job waits in the queue."""
    return any(entry.state == "waiting" and entry.folder == str(path) for entry in queues.queue().entries())


def made_folder(view: JobView) -> str:
    """The folder that a job made for training (or an index), or the model folder; "" where its tool makes none."""
    tool = TOOLS.get(view.job.tool)
    told = getattr(tool, "made_folder", None)  # a tool that makes more than the training folder tells which it is
    if tool is not None and told is not None:
        made = told(make_settings(view.job.tool, tool.Settings, view.job.values))
        return str(made) if made.exists() else ""
    name = _MADE.get(view.job.tool)
    if name is None:
        return ""
    chosen = str(view.job.values.get(name) or "")
    if not chosen:  # the tool found a name itself: the first folder that it made
        deeds = (entry.deed for entry in journal.read(view.folder.journal) if isinstance(entry.deed, Make))
        chosen = str(next((deed.path for deed in deeds if deed.path.is_dir()), ""))
    return chosen if chosen and Path(chosen).is_dir() else ""


def made_settings(view: JobView) -> dict[str, str]:
    """What the form says, by setting, to train what a job made; empty where its tool makes no folder."""
    made = made_folder(view)
    tool = TOOLS.get(view.job.tool)
    told = getattr(tool, "made_settings", None)
    if not made or tool is None or told is None:
        return {"data.folder": made} if made else {}
    return {"data.folder": made, **told(make_settings(view.job.tool, tool.Settings, view.job.values))}


def turn(view: JobView, direction: Direction) -> None:
    """Begin to undo what a job did, or to do it again. Raises UserError while it runs or is being undone."""
    path = view.folder.path
    with _one_start:
        if view.status() == "running" or turning(path):
            raise UserError("is still being worked on. Wait for its end, or stop it first.", view.folder.name)
        deed = journal.undo if direction == "undo" else journal.redo
        _turning[path] = direction, _pool.submit(deed, view.folder.journal)


def turning(path: Path) -> Direction | None:
    """Whether a job is being undone or redone now."""
    direction, future = _turning.get(path, (None, None))
    return direction if future is not None and not future.done() else None


def turned(path: Path) -> tuple[Direction, Undone] | None:
    """What came of the last undo or redo of a job since the page's program was started."""
    if path not in _turning or turning(path):
        return None
    direction, future = _turning[path]
    try:
        return direction, future.result()
    except UserError as error:
        return direction, Undone(failed=list(error.problems))
    except OSError as error:
        return direction, Undone(failed=[Problem(str(path), f"cannot be undone ({error.strerror}).")])


def _is_starting(path: Path) -> bool:
    process_id, since = _launched.get(path, (0, 0.0))
    if not process_id:
        return False
    if time.monotonic() - since < _STARTING_SECONDS and psutil.pid_exists(process_id):
        return True
    _launched.pop(path, None)
    return False
