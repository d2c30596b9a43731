"""What a run has told so far, rebuilt from its folder and kept up to date by reading only what is new.

One `RunView` per run serves all browser tabs; it holds nothing that cannot be read again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import event_log, events
from engine.run import RunFolder, Status
from ui import served
from ui.timeline_view import belongs

_LOG_TAIL_BYTES = 24_000
_TERMINAL = (events.Finished, events.Stopped, events.Failed)


@dataclass
class Curves:
    """What was measured at each step; the lists have one entry per step."""

    steps: list[int] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    smoothed: list[float | None] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)
    gradient_norms: list[float | None] = field(default_factory=list)
    rates: dict[str, list[float | None]] = field(default_factory=dict)
    _sum: float = 0.0
    _weight: float = 0.0

    def add(self, told: Sequence[Mapping[str, Any]], memory_of_steps: float) -> None:
        """Append steps, by their fields; the smoothed loss is a bias-corrected moving average over about
        `memory_of_steps`."""
        before = len(self.steps)
        losses = [step["loss"] for step in told]
        self.steps += [step["step"] for step in told]
        self.losses += losses
        self.smoothed += self._smooth(losses, 1 - 1 / memory_of_steps)
        self.seconds += [step["seconds_per_step"] for step in told]
        self.memory_bytes += [step["memory_bytes"] for step in told]
        self.gradient_norms += [step["gradient_norm"] for step in told]
        rates = [step["lr"] for step in told]
        for group in self.rates.keys() | set().union(*rates):
            self.rates.setdefault(group, [None] * before).extend([rate.get(group) for rate in rates])

    def _smooth(self, losses: Iterable[float | None], keep: float) -> Iterator[float | None]:
        for loss in losses:
            if loss is not None:
                self._sum = keep * self._sum + (1 - keep) * loss
                self._weight = keep * self._weight + (1 - keep)
            yield self._sum / self._weight if self._weight else None

    def cut(self, step: int) -> None:
        """Forget what came after `step`: a resumed run does those steps again."""
        per_step = (self.losses, self.smoothed, self.seconds, self.memory_bytes, self.gradient_norms)
        while self.steps and self.steps[-1] > step:
            for line in (self.steps, *per_step, *self.rates.values()):
                line.pop()
        self._sum, self._weight = (self.smoothed[-1] or 0.0, 1.0) if self.smoothed else (0.0, 0.0)


class RunView:
    """One run as its events tell it. Hold `lock` while reading several fields."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self._offset = 0
        self.curves = Curves()
        self.started: events.Started | None = None
        self.stage = ""
        self.progress: events.Progress | None = None
        self.step: events.Step | None = None
        self.last_time = ""
        self.end: events.Event | None = None
        self.samples: dict[tuple[int, int], events.Sampled] = {}
        self.saved: dict[str, event_log.Entry] = {}
        self.validations: dict[int, events.Validated] = {}
        self.state_step = 0
        self.warnings: dict[str, events.Warned] = {}
        self.hardware: list[events.Hardware] = []
        self.is_paused = False
        self.told: list[event_log.Entry] = []

    def refresh(self) -> None:
        """Read the events that were written since the last look."""
        with self.lock:
            try:
                size = self.run.events.stat().st_size
            except OSError:
                size = 0
            if size < self._offset:
                self._forget()
            if size == self._offset:
                return
            lines, self._offset = event_log.read_lines(self.run.events, self._offset)
            for part in event_log.entries_and_steps(lines):
                if isinstance(part, event_log.Steps):
                    self._take_steps(part)
                else:
                    self._take(part)

    def _take(self, entry: event_log.Entry) -> None:
        event, self.last_time = entry.event, entry.time
        if belongs(entry, self.told[-1] if self.told else None):
            self.told.append(entry)
        if isinstance(event, (events.Paused, events.Continued, events.Started, *_TERMINAL)):
            self.is_paused = isinstance(event, events.Paused)
        if isinstance(event, events.Started):
            self.started, self.end, self.step, self.stage, self.progress = event, None, None, "", None
            self.curves.cut(event.from_step)
            self.hardware = [item for item in self.hardware if item.step <= event.from_step]
            self.validations = {step: item for step, item in self.validations.items() if step <= event.from_step}
        elif isinstance(event, events.Stage):
            self.stage, self.progress = event.name, None
        elif isinstance(event, events.Progress):
            self.stage, self.progress = event.stage, event
        elif isinstance(event, events.Sampled):
            if served.lies_in(self.run.path / event.path, self.run.samples):  # a foreign run's list may name any file
                self.samples[event.step, event.index] = event
        elif isinstance(event, events.Validated):
            self.validations[event.step] = event
        elif isinstance(event, events.Saved):
            if event.what == "state":
                self.state_step = event.step
            else:
                self.saved[event.path] = entry
        elif isinstance(event, events.Hardware):
            self.hardware.append(event)
        elif isinstance(event, events.Warned):
            self.warnings[event.message] = event
        elif isinstance(event, _TERMINAL):
            self.end, self.stage, self.progress = event, "", None

    def _take_steps(self, told: event_log.Steps) -> None:
        self.step, self.last_time, self.stage, self.progress = told.last, told.time, "", None
        steps = self.started.steps if self.started else 1000
        self.curves.add(told.fields, min(max(steps / 25, 5), 200))

    @property
    def steps_done(self) -> int:
        return self.curves.steps[-1] if self.curves.steps else 0

    def status(self) -> Status:
        """As `RunFolder.status`, without reading the events again."""
        if self.run.is_running():
            return "running"
        if isinstance(self.end, events.Finished):
            return "finished"
        if isinstance(self.end, events.Stopped):
            return "stopped"
        if isinstance(self.end, events.Failed):
            return "failed"
        return "killed" if self.started else "new"

    def seconds_per_step(self) -> float:
        """The mean of the last 30 steps; 0 before the first."""
        last = self.curves.seconds[-30:]
        return sum(last) / len(last) if last else 0.0

    def checkpoints(self) -> Iterator[tuple[Path, event_log.Entry]]:
        """The checkpoints that are still there, the newest first."""
        for name, entry in reversed(self.saved.items()):
            path = self.run.path / name
            if path.is_file():
                yield path, entry

    def log_tail(self) -> str:
        """The end of log.txt; of lines that were overwritten (\\r) only what was last to be seen."""
        try:
            with self.run.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                start = max(0, file.tell() - _LOG_TAIL_BYTES)
                file.seek(start)
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        if start:
            text = text[text.find("\n") + 1 :]
        return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")).strip("\n")


_views: dict[Path, RunView] = {}
_views_lock = threading.Lock()


def view_of(path: Path) -> RunView:
    """The view of a run folder, up to date. All browser tabs share it."""
    with _views_lock:
        view = _views.setdefault(path, RunView(RunFolder(path)))
    view.refresh()
    return view
