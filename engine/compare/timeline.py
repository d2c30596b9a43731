"""The tool `timeline`: one prompt over all checkpoints of a run, as a strip, an animated WebP, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.compare.cells import Cell, Place, Plot, plot_of, problems_of
from engine.compare.estimate import room_problems
from engine.compare.grid import Item
from engine.compare.layout import layout_of_plot
from engine.compare.of_run import drawing_of_run
from engine.compare.plot import estimate_of, font_problems, look_of, warned_of
from engine.compare.settings import Axis, CompareSettings, DrawingGroups, TimelineSettings
from engine.errors import PresetError, Problem, UserError
from engine.tools.jobs import jobs_home
from engine.tools.tool import Proposal, Report

TITLE = "Drawing a run's way"
ABOUT = "Draw one prompt with every checkpoint of a run: a strip, or a picture that moves."
RESUMES = True
WORDS = "RUN_FOLDER"
Settings = TimelineSettings


def start_values(words: list[str]) -> dict[str, Any]:
    """The run that the command line names, and how its samples are drawn."""
    if len(words) > 1:
        raise UserError("one run at a time. Start another timeline for it.", words[1])
    if not words:
        return {}
    folder = Path(words[0]).expanduser().absolute()
    is_run = (folder / "preset.json").is_file()
    return {"run": str(folder), **(drawing_of_run(folder) if is_run else {})}


def propose(settings: TimelineSettings) -> Proposal:
    """One row for each checkpoint. Raises PresetError with the faults of settings."""
    plot = _plot(settings)
    taken = estimate_of(plot)
    files = [*problems_of(plot.cells), *font_problems(settings.grid)]
    problems = (*files, *room_problems(jobs_home(), taken.bytes))
    return Proposal(tuple(cell.row() for cell in plot.cells), taken.text, problems, content=plot)


def _plot(settings: TimelineSettings) -> Plot:
    if not settings.run.strip():
        raise PresetError([Problem("run", "is empty. Choose a run, or a folder of LoRA files.")])
    values = f"none\n{settings.run}" if settings.strip.before else settings.run
    groups = {name: getattr(settings, name) for name in DrawingGroups.model_fields}
    axis = Axis(kind="checkpoint", values=values)
    try:
        return plot_of(CompareSettings(**groups, x=axis, strength=settings.strength))
    except PresetError as error:
        problems = [Problem("run", one.message) if one.where == "x.values" else one for one in error.problems]
        raise PresetError(problems) from None


def carry_out(proposal: Proposal, settings: TimelineSettings, report: Report) -> None:
    """Draw what is missing, then make strip and animation of what there is."""
    from engine.compare.drawing import Shown, draw_cells
    from engine.compare.grid import ending, save_grid
    from engine.compare.strip import save_animation, strip_picture

    plot: Plot = proposal.content
    layout_of_plot(plot).write(report.folder)
    shown: Mapping[Place, Shown] = draw_cells(plot.cells, report)
    frames = _frames(plot.cells, shown)
    if not frames:
        return
    strip, look = settings.strip, look_of(settings.grid)
    report.stage("Putting the pictures together")
    with warned_of(report):
        if strip.kind != "animation":
            picture = strip_picture(frames, strip.columns or min(len(frames), 8), look)
            save_grid(picture, report.folder / f"timeline{ending(look.format)}")
        if strip.kind != "strip":
            save_animation(frames, strip.seconds, look, report.folder / "timeline-animation.webp")


def _frames(cells: Sequence[Cell], shown: Mapping[Place, Any]) -> list[tuple[str, Item]]:
    """Label and picture of each step in their order, as far as they were reached."""
    ordered = sorted(cells, key=lambda cell: cell.place)
    reached = [(cell.label, shown[cell.place]) for cell in ordered if cell.place in shown]
    return [(label, one.path or one.fault) for label, one in reached]
