"""The graphics card on the page: memory, use, temperature, and whether it spilled into slow memory. Pure text."""

from __future__ import annotations

from collections.abc import Sequence

from engine.events import Hardware
from engine.plan_sizes import size_text
from ui.charts import Line, chart
from ui.language import say
from ui.words import escape

_FULL = 0.96  # of the card's memory
_TIMES_SLOWER = 4.0


def figures(found: Sequence[Hardware]) -> list[tuple[str, str]]:
    """Name and value for the panel at the top; none where the driver told nothing."""
    if not found:
        return []
    last = found[-1]
    shown: list[tuple[str, str]] = []
    if last.memory_used_bytes is not None and last.memory_total_bytes:
        used, total = size_text(last.memory_used_bytes), size_text(last.memory_total_bytes)
        shown.append((say("Card's memory"), say("{count} of {total}", count=used, total=total)))
    if last.utilisation_percent is not None:
        shown.append((say("Card in use"), f"{last.utilisation_percent:.0f} %"))
    if last.temperature_c is not None:
        shown.append((say("Temperature"), f"{last.temperature_c:.0f} °C"))
    return shown


def drawn(found: Sequence[Hardware], end: int) -> tuple[str, str]:
    """A chart of use (%) and temperature (°C), and its legend; empty where the driver told nothing."""
    steps = [item.step for item in found]
    lines = [
        Line(say("in use, %"), steps, [item.utilisation_percent for item in found], "group-0"),
        Line(say("temperature, °C"), steps, [item.temperature_c for item in found], "group-1"),
    ]
    lines = [line for line in lines if any(value is not None for value in line.y)]
    names = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in lines)
    return chart(lines, end, (420, 132), lambda value: f"{value:g}"), names


def spill(last: Hardware | None, now_seconds: float, fastest_seconds: float) -> float | None:
    """How many times slower a step got by data in the computer's own memory; None where nothing speaks for that.

    A run that holds more than the card has is spilling (only drivers on Windows let it); one on a full card that is
    many times slower than it was is most likely so.
    """
    if last is None or not last.memory_total_bytes or now_seconds <= 0 or fastest_seconds <= 0:
        return None
    times = now_seconds / fastest_seconds
    if last.reserved_bytes > last.memory_total_bytes:
        return times
    full = (last.memory_used_bytes or 0) >= _FULL * last.memory_total_bytes
    return times if full and times >= _TIMES_SLOWER else None


def spill_note(found: Sequence[Hardware], seconds: Sequence[float]) -> str:
    """What has happened and what to do, where the card's memory spilled over. `seconds`: of each step."""
    last = found[-1] if found else None
    if last is None or max(last.memory_used_bytes or 0, last.reserved_bytes) < _FULL * (last.memory_total_bytes or 0):
        return ""
    recent = sorted(seconds[-10:])
    now = recent[len(recent) // 2] if recent else 0.0
    times = spill(last, now, min((value for value in seconds if value > 0), default=0.0))
    if times is None:
        return ""
    text = say(
        "The card's memory is full ({used} of {total}) and a step takes {now} s, {times} times as long as the fastest "
        "of this run: the driver has moved data into the computer's own memory, which is many times slower. Stop, "
        "then use a smaller batch, a smaller resolution or gradient checkpointing, and close other programs that use "
        "the card. On Windows the driver's settings can forbid it (CUDA - Sysmem Fallback Policy).",
        used=size_text(max(last.memory_used_bytes or 0, last.reserved_bytes)),
        total=size_text(last.memory_total_bytes or 0),
        now=f"{now:.3g}",
        times=f"{times:.2g}",
    )
    return f'<div class="spill" role="alert"><p>{escape(text)}</p></div>'
