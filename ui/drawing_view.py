"""What the process that draws is doing, from its folder: read by byte offset, the same for every window."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine import event_log, events
from engine.drawing.desk import Desk
from engine.drawing.settings import DrawingPreset
from engine.errors import UserError
from launchers import local
from ui import served

_STARTING_SECONDS = 600.0  # a process that lives but has not taken the folder by then has failed to start
_LOG_CHARACTERS = 1500


@dataclass
class Now:
    """The state of the drawing: what is being made, the newest preview, the pictures of the request, and its end."""

    request: str = ""
    stage: str = ""
    done: int = 0
    total: int = 0
    preview: Path | None = None
    drawn: list[Path] = field(default_factory=list)
    ended: events.Answered | None = None


class DrawingView:
    """One drawing folder, followed."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.now = Now()
        self._offset = 0
        self._lock = threading.Lock()
        self._process_id, self._since, self._for = 0, 0.0, ""

    def look(self) -> Now:
        """Read what is new."""
        with self._lock:
            try:
                if self.desk.events.stat().st_size < self._offset:  # begun anew
                    self._offset, self.now = 0, Now()
            except OSError:
                self._offset = 0
            entries, self._offset = event_log.read(self.desk.events, self._offset)
            for entry in entries:
                self._take(entry.event)
            return self.now

    def _take(self, event: events.Event) -> None:
        now = self.now
        request = getattr(event, "request", now.request)
        if request != now.request:
            now = self.now = Now(request, now.stage, now.done, now.total)
        if isinstance(event, events.Started):
            self.now = Now()
        elif isinstance(event, events.Stage):
            now.stage, now.done, now.total = event.name, 0, 0
        elif isinstance(event, events.Progress):
            now.stage, now.done, now.total = event.stage, event.done, event.total
        elif isinstance(event, events.Previewed):
            now.preview = self.desk.path / event.path
            served.allow(self.desk.previews)
        elif isinstance(event, events.Drawn):
            now.drawn.append(Path(event.path))
            now.preview = None
        elif isinstance(event, events.Answered):
            now.ended, now.preview, now.stage, now.done, now.total = event, None, "", 0, 0

    def ask(self, preset: DrawingPreset) -> str:
        """Order pictures; the request. Raises UserError where the disk or the system refuses."""
        request = self.desk.ask(preset)
        self.keep_alive()
        return request

    def keep_alive(self) -> str:
        """Start the process that draws where something waits and none is there; what went wrong with it, or ""."""
        waiting = self.desk.waiting()
        with self._lock:
            if not waiting or self.desk.is_running() or self._is_starting():
                return ""
            if self._for == waiting[0]:  # it was started for this and ended without an answer
                self._for = ""
                for request in waiting:
                    self.desk.remove(request)
                return self._log_tail()
            try:
                self._process_id = local.start(self.desk.path, command=self.desk.command())
            except OSError as error:
                what = f"the process that draws could not be started ({error.strerror}). Check the disk."
                raise UserError(what, str(self.desk.path)) from None
            self._since, self._for = time.monotonic(), waiting[0]
            return ""

    def _is_starting(self) -> bool:
        is_new = time.monotonic() - self._since < _STARTING_SECONDS
        return bool(self._process_id) and is_new and psutil.pid_exists(self._process_id)

    def _log_tail(self) -> str:
        try:
            return self.desk.log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]
        except OSError:
            return str(self.desk.log)


_views: dict[Path, DrawingView] = {}


def view_of(desk: Desk) -> DrawingView:
    """The one view of a folder."""
    return _views.setdefault(desk.path, DrawingView(desk))
