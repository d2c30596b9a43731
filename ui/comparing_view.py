"""A comparison's job as the tab Compare shows it: how far it is, its cells as they finish, grids, and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.compare import answers
from engine.compare.answers import ShownCell
from engine.compare.layout import AxisLegend, Layout, read_layout
from engine.drawing.settings import BY_PATH
from engine.errors import Problem
from engine.run import Status
from engine.tools.jobs import JobFolder
from ui import comparing_form, comparing_scores, served, thumbnails, tool_jobs, tool_page, words
from ui.data_page import problem_list
from ui.language import say, word
from ui.parts import Part, same
from ui.tool_jobs import JobView
from ui.words import escape

NAMES = {"compare": word("XYZ plot"), "timeline": word("Timeline"), "pick": word("Pick for me")}
_TITLES = {  # of axes
    "checkpoint": word("Checkpoint"),
    "strength": word("Strength"),
    "prompt": word("Prompt"),
    "seed": word("Seed"),
    "cfg_scale": word("CFG scale"),
    "steps": word("Steps"),
    "sampler": word("Sampler"),
    "size": word("Size"),
    "base_model": word("Base model"),
    "setting": word("Setting"),
    "candidate": word("Candidate"),
}
_OUTCOMES = {"done": word("Drawn"), "kept": word("Not drawn again"), "failed": word("Failed")}
_BEGINS_AGAIN = ("new", "stopped", "killed", "failed")

ROW = "row "  # what the parts with the cells of a row are called; see comparing_job.js
_MOST_KNOWN = 20_000

_made_small: dict[str, Path] = {}
_cells: dict[Path, tuple[Any, list[ShownCell], Layout | None]] = {}


def parts(views: Sequence[JobView], view: JobView | None, z: int) -> tuple[dict[str, Part], bool]:
    """What the browser shows of all comparisons and of one; and whether it goes on."""
    states: dict[Path, Status] = {item.folder.path: item.status() for item in views}
    told: dict[str, Part] = {
        "jobs": same(
            [{"path": str(item.folder.path), "title": title(item, states[item.folder.path])} for item in views]
        )
    }
    if view is None:
        return told, False
    status = states[view.folder.path]
    waits = status == "new" and tool_jobs.is_queued(view.folder.path)
    cells, layout = cells_of(view.folder)
    served.allow(view.folder.path)
    legends = layout.axes if layout else ()
    places = max(1, len(legends[2].labels)) if legends else 1
    shown = min(max(0, z), places - 1)
    told |= {
        "job": same({
            "path": str(view.folder.path), "tool": view.job.tool, "title": say(NAMES[view.job.tool]), "z": shown,
            "html": state(view, status, cells),
            "stop": status == "running", "go_on": _may_go_on(status, cells) and not waits, "waits": waits,
        }),
        "axes": same(axes(legends)),
        **_rows(view.folder, [cell for cell in cells if cell.place and cell.place[2] == shown]),
        "made": same([_made(path) for path in answers.made_of(view.folder)]),
        "scores": _scores_part(view),
    }  # fmt: skip
    return told, status == "running" or waits


def _may_go_on(status: Status, cells: Sequence[ShownCell]) -> bool:
    """Whether beginning again would do something: it ended early, or cells failed."""
    return status in _BEGINS_AGAIN or (status == "finished" and any(cell.outcome == "failed" for cell in cells))


def title(view: JobView, status: Status) -> str:
    """A comparison in the list of comparisons."""
    when = words.moment(datetime.fromtimestamp(view.folder.job.stat().st_mtime), with_seconds=True)
    now = say("running") if status == "running" else when
    return " · ".join(filter(None, [say(NAMES[view.job.tool]), _subject(view.job.values), now]))


def _subject(values: Mapping[str, Any]) -> str:
    kinds = [str(values.get(f"{axis}.kind") or "none") for axis in comparing_form.AXES]
    axes_told = " × ".join(axis_title(kind) for kind in kinds if kind != "none")
    return axes_told or Path(str(values.get("run") or "")).name


def axes(legends: Iterable[AxisLegend]) -> list[dict[str, Any]]:
    """The axes x, y, z for the browser; none where they are not known."""
    return [{"title": axis_title(axis.title), "labels": list(axis.labels)} for axis in legends]


def axis_title(kind: str) -> str:
    """What an axis is called, by its kind, or as the engine calls that."""
    known = _TITLES.get(kind.replace(" ", "_").lower())
    return say(known) if known else kind


def cells_of(job: JobFolder) -> tuple[list[ShownCell], Layout | None]:
    """The cells that were reached and the layout; read anew when the job told something since."""
    key = tuple(_stamp(path) for path in (job.table, job.path / "layout.json"))
    known = _cells.get(job.path)
    if known is None or known[0] != key:
        known = _cells[job.path] = key, answers.cells_so_far(job), read_layout(job.path)
    return known[1], known[2]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError:
        return 0, 0
    return facts.st_mtime_ns, facts.st_size


def _rows(job: JobFolder, cells: Sequence[ShownCell]) -> dict[str, Part]:
    """The cells of one place on z, a part for each row, so that a new cell does not bring all others with it."""
    rows: dict[str, list[ShownCell]] = {}
    for cell in cells:
        rows.setdefault(f"{ROW}{cell.place[1] if cell.place else 0}", []).append(cell)
    return {name: _row(job, row) for name, row in rows.items()}


def _row(job: JobFolder, cells: Sequence[ShownCell]) -> Part:
    """Cells whose small picture is still being made come with a later look."""
    small = [_small(job, cell) for cell in cells]
    depends = [(cell.label, cell.outcome, cell.picture, str(path)) for cell, path in zip(cells, small, strict=True)]
    return depends, lambda: [_cell(job, cell, path) for cell, path in zip(cells, small, strict=True)]


def _small(job: JobFolder, cell: ShownCell) -> Path | None:
    known = _made_small.get(cell.picture)
    if known is None and _is_there(job, cell):
        known = thumbnails.if_ready(Path(cell.picture))
        if len(_made_small) > _MOST_KNOWN:
            _made_small.clear()
        if known is not None:
            _made_small[cell.picture] = known
    return known


def _is_there(job: JobFolder, cell: ShownCell) -> bool:
    """Whether the picture that the job's table names is there, and lies in the job's folder."""
    path = Path(cell.picture)
    return bool(cell.picture) and served.lies_in(path, job.path) and path.is_file()


def _cell(job: JobFolder, cell: ShownCell, small: Path | None) -> dict[str, Any]:
    is_there = _is_there(job, cell)
    return {
        "place": list(cell.place or ()),
        "label": cell.label,
        "outcome": cell.outcome,
        "note": comparing_form.plain("compare", cell.note),
        "path": cell.picture if is_there else "",
        "url": thumbnails.url(Path(cell.picture)) if is_there else "",
        "small": thumbnails.url(small) if small and is_there else "",
    }


def _made(path: Path) -> dict[str, str]:
    return {"name": path.name, "url": thumbnails.url(path)}


# ---------------------------------------------------------------- how far it is


def state(view: JobView, status: Status, cells: Sequence[ShownCell]) -> str:
    """What the job is doing or how it ended, as HTML."""
    with view.lock:
        tool = view.job.tool
        fault = tool_page.fault(view, lambda found: comparing_form.labelled(tool, found))
        warned = dict.fromkeys(Problem(item.where, item.message) for item in view.warnings)  # each time it began
        warnings = problem_list(comparing_form.labelled(tool, warned), "warning")
        head, figures = tool_page.head(view, status), _figures(view, status, cells)
    return f'<div class="sheet run-state {status}">{head}{figures}{fault}{warnings}</div>'


def _figures(view: JobView, status: Status, cells: Sequence[ShownCell]) -> str:
    counts = Counter(cell.outcome for cell in cells)
    figures = [(say(name), f"{counts[outcome]:,}") for outcome, name in _OUTCOMES.items() if counts[outcome]]
    left = view.progress.seconds_left if view.progress else None
    if status == "running" and left is not None:
        figures.append((say("Time left"), words.duration(left)))
    drawn = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return f'<dl class="figures">{drawn}</dl>' if drawn else ""


# ---------------------------------------------------------------- scores


def _scores_part(view: JobView) -> Part:
    path = view.folder.path / "scores.json"
    return (view.job.tool, str(path), _stamp(path)), lambda: scores(view)


def scores(view: JobView) -> str:
    """What Pick found, as HTML; "" where it has found nothing yet."""
    found = answers.scores_of(view.folder) if view.job.tool == "pick" else None
    if found is None:
        return ""
    try:
        return comparing_scores.panel(found)
    except (KeyError, TypeError, IndexError, ValueError):  # somebody has edited it
        why = say("The scores of this comparison cannot be read. Begin it again to measure anew.")
        return f'<div class="fault">{why}</div>'


def proposed_values(view: JobView) -> dict[str, Any]:
    """The drawing settings of the job with the proposed checkpoint alone; empty where none is proposed."""
    found = answers.scores_of(view.folder) or {}
    one = comparing_scores.proposed(found)
    if one is None:
        return {}
    values = {path: value for path, value in view.job.values.items() if path in BY_PATH}
    if not values.get("picture.prompt"):
        layout = read_layout(view.folder.path)
        values["picture.prompt"] = layout.axes[1].labels[0] if layout and layout.axes[1].labels else ""
    return {**values, "loras.files": f"{one['checkpoint']}: {float(one['strength']):g}"}
