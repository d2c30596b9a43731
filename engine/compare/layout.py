"""Where each cell of a comparison stands, kept in its job's folder, so that a page can show cells as they finish.

Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.compare.cells import Cell, Place, Plot

FILE_NAME = "layout.json"
FORMAT = 1


@dataclass(frozen=True)
class AxisLegend:
    """What changes along an axis ("" for nothing), and what each place on it is called."""

    title: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """The axes x, y, z, and the place (x, y, z from 0) of each cell by its label, in the order of drawing."""

    axes: tuple[AxisLegend, AxisLegend, AxisLegend]
    places: Mapping[str, Place]

    def write(self, folder: Path) -> None:
        """Keep it in a job's folder. Raises UserError where the disk refuses."""
        axes = [{"title": axis.title, "labels": list(axis.labels)} for axis in self.axes]
        cells = [{"label": label, "place": list(place)} for label, place in self.places.items()]
        content = {"v": FORMAT, "axes": axes, "cells": cells}
        write_text_whole(folder / FILE_NAME, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def layout_of(axes: tuple[AxisLegend, AxisLegend, AxisLegend], cells: Iterable[Cell]) -> Layout:
    """The layout of cells on axes."""
    return Layout(axes, {cell.label: cell.place for cell in cells})


def layout_of_plot(plot: Plot) -> Layout:
    """The layout of a plot, before its job began as well."""
    x, y, z = (
        AxisLegend(title, tuple(value.label for value in values))
        for title, values in zip(plot.titles, plot.values, strict=True)
    )
    return layout_of((x, y, z), plot.cells)


def read_layout(folder: Path) -> Layout | None:
    """The layout in a job's folder; None where there is none yet, or none that can be read."""
    try:
        content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        x, y, z = (AxisLegend(str(axis["title"]), tuple(map(str, axis["labels"]))) for axis in content["axes"])
        return Layout((x, y, z), {str(cell["label"]): _place(cell["place"]) for cell in content["cells"]})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place(written: Any) -> Place:
    x, y, z = map(int, written)
    return x, y, z
