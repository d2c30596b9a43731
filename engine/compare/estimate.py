"""What a comparison takes before it begins: pictures, seconds by those measured on this machine, room on the disk.

The measured speeds lie in ATELIER_HOME/drawing/measured.json, the latest of each way to draw. Torch-free.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.drawing.desk import desk
from engine.drawing.plan import count_looks
from engine.drawing.settings import DrawingPreset, enlarged_px
from engine.errors import Problem
from engine.plan_sizes import size_text
from engine.report import time_text

FORMAT = 1
BYTES_PER_PIXEL = 2.0  # of a PNG where none was measured: photos take 1.3 to 2, noise 3
MOST_ROWS = 100


@dataclass(frozen=True)
class Estimate:
    """cells: places of the plot; pictures: those that are drawn. seconds is None where nothing was measured."""

    cells: int
    pictures: int
    seconds: float | None
    bytes: int

    @property
    def text(self) -> str:
        """In words."""
        shared = f" Cells: {self.cells:,}; equal ones share a picture." if self.cells != self.pictures else ""
        time = "not known here before the first comparison"
        if self.seconds is not None:
            time = f"about {time_text(self.seconds)}"
        return f"Pictures to draw: {self.pictures:,}.{shared} Time: {time}. Room: {size_text(self.bytes)}."


@dataclass(frozen=True)
class Speed:
    """What was measured of one way to draw: seconds for each unit of `effort`, bytes of a file for each pixel."""

    seconds_per_effort: float
    bytes_per_pixel: float


def effort(preset: DrawingPreset) -> float:
    """How much a picture takes: evaluations × megapixels, twice with guidance; hires fix in its own size."""
    picture = preset.picture
    first = count_looks(preset)
    second = 0
    if preset.hires.on:
        steps = int((preset.hires.steps or preset.sampling.steps) * preset.hires.denoising_strength)
        second = 2 * steps - 1 if preset.sampling.sampler == "heun" else steps
        first -= second
    width, height = enlarged_px(preset)
    pixels = first * picture.width_px * picture.height_px + second * width * height
    return pixels / 1e6 * (1 if preset.sampling.cfg_scale == 1 else 2)


def estimate(presets: Iterable[DrawingPreset], cells: int) -> Estimate:
    """What the pictures take that are really drawn, of so many cells."""
    listed, known = list(presets), speeds()
    seconds: float | None = 0.0
    size_bytes = 0.0
    for preset in listed:
        speed = known.get(conditions(preset))
        seconds = None if seconds is None or speed is None else seconds + speed.seconds_per_effort * effort(preset)
        width, height = enlarged_px(preset)
        size_bytes += width * height * (speed.bytes_per_pixel if speed else BYTES_PER_PIXEL)
    return Estimate(cells, len(listed), seconds, round(size_bytes * 1.5))  # the grids are at most half as much again


def room_problems(folder: Path, needed_bytes: int) -> list[Problem]:
    """A sentence where the disk of a folder, which need not be there yet, has no room."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if free >= needed_bytes:
        return []
    what = f"the disk has {size_text(free)} free, the pictures take about {size_text(needed_bytes)}."
    return [Problem(str(folder), f"{what} Free some space, or compare fewer.")]


def conditions(preset: DrawingPreset) -> str:
    """What a speed holds for."""
    model = preset.model
    return f"{model.device} {model.precision} {model.unet_storage} {'refiner' if preset.refiner.model else 'base'}"


def speeds() -> dict[str, Speed]:
    """All that was measured. A missing or damaged file knows nothing."""
    try:
        content: Any = json.loads(_path().read_text(encoding="utf-8"))
        rows = {str(name): Speed(float(row[0]), float(row[1])) for name, row in content["speeds"].items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}
    return {name: speed for name, speed in rows.items() if speed.seconds_per_effort > 0 and speed.bytes_per_pixel > 0}


def note_speed(preset: DrawingPreset, speed: Speed) -> None:
    """Keep the latest speed of a way to draw. Raises UserError where the disk refuses."""
    known = speeds()
    known.pop(conditions(preset), None)
    rows = [*known.items(), (conditions(preset), speed)][-MOST_ROWS:]
    content = {"v": FORMAT, "speeds": {name: [one.seconds_per_effort, one.bytes_per_pixel] for name, one in rows}}
    write_text_whole(_path(), json.dumps(content, indent=1) + "\n")


def _path() -> Path:
    return desk().path / "measured.json"
