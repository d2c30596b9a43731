"""The tool `compare`: pictures over up to three axes, each on its own and in grids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from engine.compare.cells import Place, Plot, plot_of, problems_of
from engine.compare.estimate import Estimate, estimate, room_problems
from engine.compare.grid import Item, Legends, Look, ending, grid_picture, save_grid
from engine.compare.layout import layout_of_plot
from engine.compare.settings import CompareSettings, Grid, drawing_values
from engine.errors import Problem, UserError
from engine.preset import resolve
from engine.tools.jobs import jobs_home
from engine.tools.tool import Proposal, Report

TITLE = "Comparing"
ABOUT = "Draw the same picture over up to three axes: checkpoints, strengths, prompts, seeds, any setting."
RESUMES = True
WORDS = "PRESET.json|RUN_FOLDER|MODEL.safetensors"
Settings = CompareSettings


def start_values(words: list[str]) -> dict[str, Any]:
    """What the words of the command line set."""
    return drawing_values(words)


def propose(settings: CompareSettings) -> Proposal:
    """All cells in the order of drawing, and what they take. Raises PresetError with the faults of settings."""
    plot = plot_of(settings)
    problems = [*problems_of(plot.cells), *font_problems(settings.grid)]
    taken = estimate_of(plot)
    rows = tuple(cell.row() for cell in plot.cells)
    summary = f"{taken.text} Grids: {len(plot.values[2])}."
    return Proposal(rows, summary, (*problems, *room_problems(jobs_home(), taken.bytes)), content=plot)


def font_problems(grid: Grid) -> list[Problem]:
    """A sentence where the font that was chosen is not there."""
    if not grid.font or resolve(grid.font).is_file():
        return []
    return [Problem("grid.font", f"there is no file {resolve(grid.font)}. Choose another, or leave it empty.")]


def estimate_of(plot: Plot) -> Estimate:
    """What the pictures take that differ."""
    distinct = {cell.identity: cell.preset for cell in plot.cells}
    return estimate(distinct.values(), len(plot.cells))


def carry_out(proposal: Proposal, settings: CompareSettings, report: Report) -> None:
    """Draw the cells, and make the grids of what there is, also where it was stopped."""
    from engine.compare.drawing import Shown, draw_cells

    plot: Plot = proposal.content
    layout_of_plot(plot).write(report.folder)
    shown: Mapping[Place, Shown] = draw_cells(plot.cells, report)
    report.stage("Making the grids")
    items: dict[Place, Item] = {place: one.path or one.fault for place, one in shown.items()}
    _write_grids(plot, items, settings.grid, report)


def look_of(grid: Grid) -> Look:
    """How a grid is made, from its settings."""
    return Look(grid.cell_px, grid.most_px, grid.text_px, grid.font, grid.format)


def _write_grids(plot: Plot, items: Mapping[Place, Item], grid: Grid, report: Report) -> None:
    """One grid for each place on z: grid.png, or grid-01.png … A grid that cannot be made is warned of."""
    x, y, z = plot.values
    for number, value in enumerate(z):
        name = f"grid-{number + 1:02d}" if len(z) > 1 else "grid"
        here = {(place[0], place[1]): item for place, item in items.items() if place[2] == number}
        legends = Legends(tuple(one.label for one in x), tuple(one.label for one in y), value.label)
        with warned_of(report):
            save_grid(grid_picture(here, legends, look_of(grid)), report.folder / f"{name}{ending(grid.format)}")


@contextmanager
def warned_of(report: Report) -> Iterator[None]:
    """A user's fault in here is a warning: the pictures are drawn, though there is no grid of them."""
    try:
        yield
    except UserError as error:
        report.warn(error.problems[0].message, error.problems[0].where)
