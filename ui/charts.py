"""Calm line charts as SVG: drawn on the server, no library in the browser, nothing loaded from anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ui.words import escape

MOST_POINTS = 1000
_MOST_DOTS = 60
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 24


@dataclass(frozen=True)
class Line:
    """One line of a chart: y is None where nothing was measured. `style` is a class of page.css (raw, smooth, …)."""

    name: str
    x: Sequence[int]
    y: Sequence[float | None]
    style: str
    marked: int | None = None  # a step whose value gets a ring, such as the best one


def chart(
    lines: Sequence[Line], x_end: int, size: tuple[int, int], label: Callable[[float], str], unit: str = ""
) -> str:
    """An SVG of lines over steps 0 … x_end.

    `size` is (width, height) in drawing units; `label` writes the values at the axis, `unit` follows them on hover.
    Lines of the style "points" show their values as dots, since few of them lie far apart.
    """
    thin = [thinned(line, min(MOST_POINTS, size[0])) for line in lines]
    values = [y for line in thin for y in line.y if y is not None]
    if not values:
        return ""
    width, height = size
    low, high = _range(values, robust=any(line.style == "raw" for line in lines))
    ticks = nice_ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    x_end = max(x_end, 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (width - _LEFT - _RIGHT) * x / x_end
        up = (min(max(y, low), high) - low) / (high - low)
        return round(across, 1), round(height - _BOTTOM - (height - _TOP - _BOTTOM) * up, 1)

    parts = [_grid(ticks, label, at, x_end, size)]
    parts += [f'<path class="line {line.style}" d="{_path(line, at)}"/>' for line in thin]
    parts += [_dots(line, at) for line in lines]
    hover = {
        "x_end": x_end,
        "plot": [_LEFT, width - _RIGHT, _TOP, height - _BOTTOM],
        "unit": unit,
        "lines": [{"name": line.name, "x": list(line.x), "y": [_short(y) for y in line.y]} for line in thin],
    }
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" data-points="{escape(json.dumps(hover))}">'
        + "".join(parts)
        + f'<line class="cursor" y1="{_TOP}" y2="{height - _BOTTOM}" x1="0" x2="0"/></svg>'
    )


def thinned(line: Line, most: int = MOST_POINTS) -> Line:
    """At most `most` points. A raw line keeps the lowest and highest value of each stretch, others every n-th."""
    count = len(line.x)
    if count <= most:
        return line
    if line.style != "raw":
        stretch = math.ceil(count / (most - 1))
        x, y = list(line.x[::stretch]), list(line.y[::stretch])
        if x[-1] != line.x[-1]:
            x.append(line.x[-1])
            y.append(line.y[-1])
        return Line(line.name, x, y, line.style, line.marked)
    stretch = math.ceil(count / (most // 2))
    values = np.full(math.ceil(count / stretch) * stretch, np.nan)
    values[:count] = np.array(line.y, dtype=np.float64)  # None becomes NaN
    parts, starts = values.reshape(-1, stretch), np.arange(0, count, stretch)
    lowest = np.where(np.isnan(parts), np.inf, parts).argmin(1)
    highest = np.where(np.isnan(parts), -np.inf, parts).argmax(1)
    keep = np.unique(np.concatenate([starts + lowest, starts + highest])).tolist()
    x, y = [line.x[index] for index in keep], [line.y[index] for index in keep]
    return Line(line.name, x, y, line.style, line.marked)


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that span low … high: steps of 1, 2 or 5 times a power of ten."""
    span = high - low
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _range(values: list[float], robust: bool) -> tuple[float, float]:
    """The span to show; with raw values single spikes do not flatten everything else."""
    low, high = min(values), max(values)
    if robust and len(values) > 50:
        high = min(high, sorted(values)[int(len(values) * 0.99)] * 1.25)
    low = 0.0 if 0 <= low < high * 0.5 else low
    if high - low < 1e-12 + abs(high) * 1e-6:
        return (0.0, high * 1.25) if high > 1e-12 else (low - 0.5, high + 0.5)
    return low, high


def _grid(ticks: list[float], label: Callable[[float], str], at, x_end: int, size: tuple[int, int]) -> str:
    width, height = size
    parts = []
    for tick in ticks:
        y = at(0, tick)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 7}" y="{y + 3.5}">{escape(label(tick))}</text>')
    steps = [tick for tick in nice_ticks(0, x_end, 6 if width > 500 else 3) if tick <= x_end and tick == int(tick)]
    parts += [f'<text class="x" x="{at(tick, 0)[0]}" y="{height - 7}">{int(tick):,}</text>' for tick in steps]
    return "".join(parts)


def _path(line: Line, at) -> str:
    """SVG path; it is broken where a value is missing."""
    parts: list[str] = []
    pen_down = False
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            pen_down = False
            continue
        across, up = at(x, y)
        parts.append(f"{'L' if pen_down else 'M'}{across:g} {up:g}")
        pen_down = True
    if len(parts) == 1:
        parts.append("h0.01")
    return "".join(parts)


def _dots(line: Line, at) -> str:
    """A dot for each value of a line of points, and a ring round the marked one."""
    if line.style != "points" and line.marked is None:
        return ""
    found = []
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or (line.style != "points" and x != line.marked):
            continue
        across, up = at(x, y)
        if line.style == "points" and len(line.x) <= _MOST_DOTS:
            found.append(f'<circle class="dot {line.style}" cx="{across:g}" cy="{up:g}" r="2.6"/>')
        if x == line.marked:
            found.append(f'<circle class="ring {line.style}" cx="{across:g}" cy="{up:g}" r="6.5"/>')
    return "".join(found)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
