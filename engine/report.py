"""How a run tells what it does: events for the page, and a calm terminal with one progress line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine import event_log, events
from engine.plan_sizes import size_text
from engine.run import Request, RunFolder
from engine.secrets import redacted


@dataclass
class Reporter:
    """Emits events and prints. Lines also go to the run's log.txt where stdout is not that file already."""

    run: RunFolder
    log: event_log.EventLog = field(init=False)
    stage_name: str = ""
    listeners: list[Callable[[events.Event], None]] = field(default_factory=list)
    _line_length: int = 0
    _last_progress_seconds: float = 0.0
    _to_log: bool = False

    def __post_init__(self) -> None:
        self.log = event_log.EventLog(self.run.events)
        self._to_log = not _is_stdout(self.run.log)

    def emit(self, event: events.Event) -> None:
        self.log.emit(event)
        for listen in self.listeners:
            listen(event)

    def is_asked_for(self, what: Request) -> bool:
        """Whether the page or somebody else asked for that since the last look; the request is used up."""
        return self.run.take_request(what)

    def stage(self, name: str) -> None:
        """A new stage begins."""
        self.stage_name = name
        self._last_progress_seconds = 0.0
        self.emit(events.Stage(name))
        self.say(f"{name} …")

    def progress(self, done: int, total: int) -> None:
        """How far the stage is; told at most five times a second."""
        now = time.monotonic()
        if done < total and now - self._last_progress_seconds < 0.2:
            return
        self._last_progress_seconds = now
        self.emit(events.Progress(self.stage_name, done, total))
        self.show(f"{self.stage_name}: {done} of {total}")

    def warn(self, message: str, where: str = "") -> None:
        self.emit(events.Warned(message, where))
        self.say("Warning: " + (f"{where}: " if where else "") + message)

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        text = redacted(text)
        print(text, flush=True)
        if self._to_log:
            self._append(text)

    def complain(self, text: str) -> None:
        """The end of a run that failed: on stderr, and in the log."""
        self._clear()
        text = redacted(text)
        print(text, file=sys.stderr, flush=True)
        if self._to_log:
            self._append(text)

    def show(self, text: str) -> None:
        """A line that the next one replaces; only where somebody looks at a terminal."""
        if not sys.stdout.isatty():
            return
        self._clear()
        width = os.get_terminal_size().columns - 1
        print(text[:width], end="", flush=True)
        self._line_length = min(len(text), width)

    def step(self, event: events.Step, steps: int) -> None:
        """One optimizer update: an event, and the progress line."""
        self.emit(event)
        left = (steps - event.step) * event.seconds_per_step
        loss = "not finite" if event.loss is None else f"{event.loss:.4f}"
        text = (
            f"step {event.step}/{steps}  epoch {event.epoch}  {pace_text(event.seconds_per_step)}  loss {loss}  "
            f"{time_text(left)} left  {size_text(event.memory_bytes)}"
        )
        if sys.stdout.isatty():
            self.show(text)
        elif event.step == steps or event.step == 1 or event.step % max(1, steps // 20) == 0:
            self.say(text)

    def _append(self, text: str) -> None:
        try:
            with self.run.log.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            self._to_log = False
            print(f"{self.run.log}: the log cannot be written ({error.strerror}).", file=sys.stderr)

    def _clear(self) -> None:
        if self._line_length:
            print("\r" + " " * self._line_length + "\r", end="")
            self._line_length = 0


class SilentReporter(Reporter):
    """For the other processes of a run: the first one tells for all. What they complain of goes to stderr."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.stage_name = ""

    def is_asked_for(self, what: Request) -> bool:
        """Never: requests are the first process's."""
        return False

    def emit(self, event: events.Event) -> None:
        """Nothing: events are the first process's."""

    def say(self, text: str) -> None:
        """Nothing."""

    def show(self, text: str) -> None:
        """Nothing."""

    def complain(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def time_text(seconds: float) -> str:
    """A duration for people: "1 h 05 min", "3 min 20 s", "12 s"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def pace_text(seconds_per_step: float) -> str:
    """Speed as people quote it: s/step, or steps/s where that is above 1."""
    if 0 < seconds_per_step < 1:
        return f"{1 / seconds_per_step:.2f} steps/s"
    return f"{seconds_per_step:.2f} s/step"


def _is_stdout(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(sys.stdout.fileno()), path.stat())
    except (OSError, ValueError):
        return False
