"""The graphics cards and the processor of this machine, found without torch, so that the page can know them too."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.preset import Preset

_ASKED_EVERY_SECONDS = 30.0
_NVIDIA = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
_AMD_MEMORY = "card[0-9]*/device/mem_info_vram_total"
_last: tuple[float, tuple[Card, ...]] = (-_ASKED_EVERY_SECONDS, ())


@dataclass(frozen=True)
class Card:
    """A graphics card. Its name is what torch calls it; "" where that cannot be told without torch (AMD)."""

    name: str
    memory_bytes: int
    free_bytes: int


def cards() -> tuple[Card, ...]:
    """The cards that the installed torch can use, as the driver tells them; asked anew every 30 s."""
    global _last
    if time.monotonic() - _last[0] > _ASKED_EVERY_SECONDS:
        _last = time.monotonic(), _ask()
    return _last[1]


def card_of(preset: Preset) -> Card | None:
    """The card that a run of this preset computes on; None on the processor, or where none is known."""
    return next(iter(cards()), None) if preset.memory.device != "cpu" else None


def computes_on_processor(preset: Preset, card: Card | None) -> bool:
    """Whether a run of this preset computes on the processor, as far as can be told without torch."""
    return preset.memory.device == "cpu" or (preset.memory.device == "auto" and card is None)


@cache
def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def _ask() -> tuple[Card, ...]:
    build = _torch_build()
    if build == "cpu":
        return ()
    return _amd() if build.startswith("rocm") else nvidia_cards(_nvidia())


def _torch_build() -> str:
    """What torch was built for: "cpu", "cu130", "rocm6.4"; "" where its version does not say."""
    try:
        return importlib.metadata.version("torch").partition("+")[2]
    except importlib.metadata.PackageNotFoundError:
        return ""


def _nvidia() -> str:
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path="/usr/lib/wsl/lib")
    if program is None:
        return ""
    try:
        answer = subprocess.run([program, *_NVIDIA], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def nvidia_cards(answer: str) -> tuple[Card, ...]:
    """The cards in what nvidia-smi prints: name, memory and free memory in MiB, a line each."""
    found = []
    for line in answer.splitlines():
        name, _, numbers = line.partition(",")
        sizes = [part.strip() for part in numbers.split(",")]
        if len(sizes) == 2 and all(size.isdigit() for size in sizes):
            found.append(Card(name.strip(), int(sizes[0]) * 2**20, int(sizes[1]) * 2**20))
    return tuple(found)


def _amd(folder: Path = Path("/sys/class/drm")) -> tuple[Card, ...]:
    found = []
    for total in sorted(folder.glob(_AMD_MEMORY)):
        try:
            memory_bytes = int(total.read_text())
            used_bytes = int(total.with_name("mem_info_vram_used").read_text())
        except (OSError, ValueError):
            continue
        found.append(Card("", memory_bytes, memory_bytes - used_bytes))
    return tuple(found)
