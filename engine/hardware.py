"""How the graphics card fares while a run trains: memory, use and temperature, as the driver tells them. Torch-free."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

from engine import event_log, events

LOOK_EVERY_SECONDS = 10.0
_PATIENCE_SECONDS = 10
_ASKED = "memory.used,memory.total,utilization.gpu,temperature.gpu"
_MEBIBYTE = 1024**2


@dataclass(frozen=True)
class Reading:
    """What the driver tells of a card; None for what it does not tell."""

    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilisation_percent: float | None = None
    temperature_c: float | None = None


def read_answer(told: str) -> Reading | None:
    """nvidia-smi's line of MiB, MiB, %, °C ("[N/A]" for unknown) as a reading; None where it is something else."""
    fields = [field.strip() for field in told.strip().split("\n")[0].split(",")]
    if len(fields) != 4:
        return None
    numbers = [float(field) if field.replace(".", "", 1).isdecimal() else None for field in fields]
    if all(number is None for number in numbers):
        return None
    used, total, use, temperature = numbers
    used_bytes, total_bytes = (None if value is None else round(value) * _MEBIBYTE for value in (used, total))
    return Reading(used_bytes, total_bytes, use, temperature)


def ask_driver(card: str) -> Reading | None:
    """How a card fares now; None where nvidia-smi is missing or does not know it. `card`: its UUID or bus address."""
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if program is None:
        return None
    query = [program, f"--id={card}", f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return read_answer(told)


class HardwareWatch:
    """Listens to a run's steps and tells every few seconds how its card fares; asking is done beside the training."""

    def __init__(self, card: str, log: event_log.EventLog) -> None:
        self.card = card
        self.log = log
        self._asked_seconds = float("-inf")
        self._thread: threading.Thread | None = None

    def __call__(self, event: events.Event) -> None:
        now = time.monotonic()
        busy = self._thread is not None and self._thread.is_alive()
        if not isinstance(event, events.Step) or busy or now - self._asked_seconds < LOOK_EVERY_SECONDS:
            return
        self._asked_seconds = now
        self._thread = threading.Thread(target=self._look, args=(event,), name="hardware", daemon=True)
        self._thread.start()

    def _look(self, event: events.Step) -> None:
        found = ask_driver(self.card)
        if found is None:
            self._asked_seconds = float("inf")  # it will not tell later either
            return
        used, total = found.memory_used_bytes, found.memory_total_bytes
        use, temperature = found.utilisation_percent, found.temperature_c
        self.log.emit(events.Hardware(event.step, used, total, event.memory_bytes, use, temperature))
