"""Measure now: three steps in a process of their own, followed by its events; its folder goes when it has ended."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

import launchers.local
from engine import event_log, events
from engine.errors import UserError
from engine.home import home
from engine.in_use import is_measuring, refuse_beside_work
from engine.preset import Preset
from engine.run import RunFolder
from ui import run_list
from ui.language import say
from ui.told import retold

_LOG_TAIL_BYTES = 1_500
_lock = threading.Lock()
_present: list[Measuring] = []  # none or one


@dataclass
class Measuring:
    """A measurement that goes on."""

    folder: RunFolder
    process_id: int
    is_cancelled: bool = False

    @property
    def is_alive(self) -> bool:
        try:
            return psutil.Process(self.process_id).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Seen:
    """What there is to tell: words, whether they tell a fault, and whether it goes on."""

    words: str = ""
    is_fault: bool = False
    goes_on: bool = False


def start(preset: Preset) -> None:
    """Begin to measure. Raises UserError while a run is trained or measured, and where nothing can be written."""
    with _lock:
        if _present and _present[0].is_alive:
            raise UserError("three steps are being measured already. Wait for them, or cancel.")
        if is_measuring():
            raise UserError("three steps are being measured already. Wait for them, or cancel.")
        refuse_beside_work(run_list.known_folders())
        if run_list.running(run_list.all_runs()) is not None:  # an engine that has not taken its run yet
            raise UserError("a training has just been started. Wait for its end, or stop it.", "")
        parent = home() / ".measuring"
        shutil.rmtree(parent, ignore_errors=True)  # what a page that was killed left
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = RunFolder(Path(tempfile.mkdtemp(dir=parent)))
            preset.save(folder.preset)
            command = [sys.executable, "-m", "engine", "measure", str(folder.preset), "--run", str(folder.path)]
            _present[:] = [Measuring(folder, launchers.local.start(folder.path, command=command))]
        except OSError as error:
            raise UserError(say("cannot be written ({reason}).", reason=error.strerror or ""), str(parent)) from None


def cancel() -> None:
    """Ask the measurement to end; it looks whenever it tells something."""
    with _lock:
        if _present:
            _present[0].is_cancelled = True
            _present[0].folder.request("stop")


def goes_on() -> bool:
    return bool(_present) and _present[0].is_alive


def look() -> Seen:
    """How far it is; what came of it is told once."""
    with _lock:
        if not _present:
            return Seen()
        now = _present[0]
        is_alive = now.is_alive  # before its events are read: what it tells last is then there
        entries, _ = event_log.read(now.folder.events)
        told = [entry.event for entry in entries]
        if is_alive:
            return Seen(say("Cancelling …") if now.is_cancelled else _progress(told), goes_on=True)
        seen = _end(told, now)
        shutil.rmtree(now.folder.path, ignore_errors=True)
        _present.clear()
        return seen


def _progress(told: list[events.Event]) -> str:
    stages = [event.name for event in told if isinstance(event, events.Stage)]
    steps = sum(isinstance(event, events.Step) for event in told)
    if steps:
        return say("Measuring: {count} steps made …", count=steps)
    return say("Measuring: {stage} …", stage=stages[-1].lower()) if stages else say("Measuring: starting …")


def _end(told: list[events.Event], now: Measuring) -> Seen:
    last = told[-1] if told else None
    if isinstance(last, events.Finished):
        seconds = [event.seconds_per_step for event in told if isinstance(event, events.Step)]
        return Seen(
            say("Measured: a step takes {seconds} s. Forecasts use it from now on.", seconds=f"{min(seconds):.3g}")
        )
    if isinstance(last, events.Failed):
        return Seen(retold(last.message), is_fault=True)
    if isinstance(last, events.Stopped) or now.is_cancelled:
        return Seen(say("Cancelled; nothing was measured."))
    try:
        tail = now.folder.log.read_bytes()[-_LOG_TAIL_BYTES:].decode("utf-8", errors="replace").strip()
    except OSError:
        tail = ""
    return Seen(tail or say("The measurement ended without a word."), is_fault=True)
