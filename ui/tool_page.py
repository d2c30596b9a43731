"""Proposals and jobs of the tools as HTML: what would be done, what is being done, what became of each file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from engine import events
from engine.errors import Problem
from engine.run import Status
from engine.tools.tool import Proposal, Row
from ui import thumbnails, tool_jobs, words
from ui.data_page import problem_list
from ui.language import say, word
from ui.told import retold
from ui.tool_jobs import JobView
from ui.tool_table import TOOLS
from ui.words import escape

PAGE_ROWS = 50
_MOST_FAILURES = 20
_HEADLINES: dict[Status, str] = {
    "new": word("Not begun"),
    "running": word("Working"),
    "finished": word("Done"),
    "stopped": word("Stopped"),
    "failed": word("Failed"),
    "killed": word("Interrupted"),
}
_ORDER = ("failed", "done", "kept")  # what is to be seen first
_WRITTEN = ("caption", "preview")  # the notes of these are captions: the user's own words
_OUTCOMES = {"done": word("done"), "kept": word("left as it is"), "failed": word("failed")}


def proposal(found: Proposal, folder: str, first: int, problems: Sequence[Problem]) -> str:
    """What a tool would do: its summary, what is in the way, and a page of its table."""
    if problems:
        return f'<div class="fault"><p>{say("This is in the way:")}</p>{problem_list(problems, "problem")}</div>'
    warnings = problem_list(found.warnings, "warning")
    summary = escape(retold(found.summary))
    if not found.rows:
        return f'<div class="sheet"><h4>{say("Nothing to do")}</h4><p>{summary}</p></div>{warnings}'
    rows = "".join(_row(row, folder, row.note) for row in found.rows[first : first + PAGE_ROWS])
    head = _heads(say("File"), say("What happens"), say("Becomes"), say("Note"))
    table = f'<table class="plain files"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    note = f'<p class="quiet">{say("Nothing has been changed yet.")}</p>'
    return f'<div class="sheet"><h4>{summary}</h4>{note}{warnings}{table}</div>'


def pending() -> str:
    bar = '<div class="bar waiting"><div></div></div>'
    return f'<div class="sheet"><h4>{say("Looking at the folder …")}</h4>{bar}</div>'


def pages(rows: int, first: int) -> str:
    """Which rows are shown, where there are more than a page."""
    if rows <= PAGE_ROWS:
        return ""
    numbers = {"first": f"{first + 1:,}", "last": f"{min(first + PAGE_ROWS, rows):,}", "total": f"{rows:,}"}
    return f'<span class="quiet">{say("Rows {first} to {last} of {total}", **numbers)}</span>'


def title(view: JobView, status: Status) -> str:
    """A job in the list of jobs."""
    when = words.moment(datetime.fromtimestamp(view.folder.job.stat().st_mtime), with_seconds=True)
    name = _subject(view.job.values)
    return " · ".join(filter(None, [tool_title(view.job.tool), name, say("running") if status == "running" else when]))


def _subject(values: dict[str, Any]) -> str:
    """The name of the folder or file that a job is about."""
    told = next((str(values[key]) for key in ("folder", "file", "base", "files", "loras") if values.get(key)), "")
    return Path(told.splitlines()[0].partition(": ")[0]).name if told else ""


def tool_title(tool: str) -> str:
    return say(TOOLS[tool].TITLE) if tool in TOOLS else tool


def job(view: JobView, status: Status, first: int) -> str:
    """A job: what it is doing or how it ended, what failed, and a page of its table."""
    folder = str(view.job.values.get("folder", ""))
    return (
        f'<div class="sheet run-state {status}">{head(view, status)}{_figures(view, status)}'
        f"{fault(view)}{_turned(view)}{_warnings(view)}{_failures(view)}{_table(view, folder, first)}</div>"
    )


def head(view: JobView, status: Status) -> str:
    """What a job is doing or how it ended, and a bar of how far it is."""
    headline, detail = _state(view, status)
    done, total = _progress(view)
    share = 1.0 if status == "finished" else done / total if total else 0.0
    waiting = "waiting" if status == "running" and not total else ""
    bar = f'<div class="bar {waiting}"><div style="width:{min(share, 1.0) * 100:.2f}%"></div></div>'
    return (
        f'<div class="headline"><i class="dot"></i><h3>{escape(headline)}</h3>'
        f'<span class="detail">{escape(detail)}</span></div>{bar}'
    )


def _state(view: JobView, status: Status) -> tuple[str, str]:
    name = tool_title(view.job.tool)
    direction = tool_jobs.turning(view.folder.path)
    if direction:
        return name, say("being undone") if direction == "undo" else say("being done again")
    if status == "running":
        if view.folder.stop_request.exists():
            return name, say("stopping after the present file")
        done, total = _progress(view)
        if total:
            return say(view.stage) or name, say("{count} of {total}", count=f"{done:,}", total=f"{total:,}")
        return say(view.stage) or name, "" if view.stage else say("starting")
    if status == "new" and tool_jobs.is_queued(view.folder.path):
        return name, say("waits in the queue")
    stand, undone = view.changes()
    if undone and not stand:
        return say("{tool}: {state}", tool=name, state=say("undone")), say("every change was put back")
    detail = {
        "stopped": say("what was done before is whole"),
        "killed": say("its process was ended from outside; what was done before is whole"),
        "new": say("its process did not begin; the log below says why"),
    }.get(status, "")
    if isinstance(view.end, events.Finished):
        detail = say("in {time}", time=words.duration(view.end.seconds))
    return say("{tool}: {state}", tool=name, state=say(_HEADLINES[status]).lower()), detail


def _progress(view: JobView) -> tuple[int, int]:
    return (view.progress.done, view.progress.total) if view.progress else (0, 0)


def rate(times: Sequence[tuple[str, int]]) -> float:
    """Rows a second over the last progress that was told; 0 where that cannot be said yet."""
    if len(times) < 2:
        return 0.0
    last = times[-30:]
    begun, ended = (datetime.fromisoformat(time) for time in (last[0][0], last[-1][0]))
    seconds = (ended - begun).total_seconds()
    return (last[-1][1] - last[0][1]) / seconds if seconds > 0 else 0.0


def _figures(view: JobView, status: Status) -> str:
    figures = [(say(_OUTCOMES[name]).capitalize(), f"{view.counts[name]:,}") for name in _OUTCOMES if view.counts[name]]
    speed = rate(view.times)
    if speed and status == "running":
        done, total = _progress(view)
        figures.append((say("Files a second"), f"{speed:.3g}"))
        figures.append((say("Time left"), words.duration((total - done) / speed)))
    stand, undone = view.changes() if status != "running" else (0, 0)
    if undone:
        figures.append(
            (say("Changes undone"), say("{count} of {total}", count=f"{undone:,}", total=f"{stand + undone:,}"))
        )
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures)
    return f'<dl class="figures">{cells}</dl>' if cells else ""


def fault(view: JobView, labelled: Callable[[list[Problem]], list[Problem]] = list) -> str:
    """Why the job failed, its settings called as `labelled` does; and what its process printed, where it says more."""
    log = ""
    if (isinstance(view.end, events.Failed) and view.end.traceback) or (view.end is None and not view.stage):
        text = view.log_tail()
        log = (
            f'<details data-keep="job-log"><summary>{say("Log")}</summary><pre>{escape(text)}</pre></details>'
            if text
            else ""
        )
    if not isinstance(view.end, events.Failed):
        return log
    listed = [Problem(item.get("where", ""), item.get("message", "")) for item in view.end.problems]
    listed = listed or [Problem("", view.end.message)]
    return f'<div class="fault">{problem_list(labelled(listed), "problem")}{log}</div>'


def _turned(view: JobView) -> str:
    """What the last undo could not put back, and why."""
    found = tool_jobs.turned(view.folder.path)
    if found is None or not found[1].failed:
        return ""
    count = words.plural(len(found[1].failed), "change")
    undone, redone = (
        say("{changes} could not be undone:", changes=count),
        say("{changes} could not be done again:", changes=count),
    )
    listed = problem_list(found[1].failed, "problem")
    return f'<div class="fault"><p>{undone if found[0] == "undo" else redone}</p>{listed}</div>'


def _warnings(view: JobView) -> str:
    return problem_list([Problem(item.where, item.message) for item in view.warnings], "warning")


def _failures(view: JobView) -> str:
    failed = [item.row for item in view.rows if item.outcome == "failed"]
    if not failed:
        return ""
    shown = [Problem(Path(row.source).name, row.note) for row in failed[:_MOST_FAILURES]]
    rest = say("and {count} more in the table", count=f"{len(failed) - _MOST_FAILURES:,}")
    more = f'<p class="quiet">{rest}</p>'
    listed = problem_list(shown, "problem") + (more if len(failed) > _MOST_FAILURES else "")
    return f'<div class="fault"><p>{say("{files} failed:", files=words.plural(len(failed), "file"))}</p>{listed}</div>'


def _table(view: JobView, folder: str, first: int) -> str:
    if not view.rows:
        return ""
    if view.job.values.get("preview"):
        return _tried(view)
    head = _heads(say("File"), say("What happened"), say("Became"), say("Note"))
    ordered = sorted(view.rows, key=lambda item: _ORDER.index(item.outcome))
    rows = "".join(_row(item.row, folder, item.row.note, item.outcome) for item in ordered[first : first + PAGE_ROWS])
    return f'<table class="plain files"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _tried(view: JobView) -> str:
    """The pictures of a trial, and what would be written beside each."""
    done = [item.row for item in view.rows if item.outcome != "failed"]
    small = thumbnails.of_all(Path(row.source) for row in done)
    cards = []
    for row, path in zip(done, small, strict=True):
        image = (
            f'<img src="{escape(thumbnails.url(path))}" alt="">'
            if path
            else f'<span class="soon">{say("no preview")}</span>'
        )
        name = f"<small>{escape(Path(row.source).name)}</small>"
        text = f"<figcaption>{escape(row.note)}{name}</figcaption>"
        cards.append(f'<figure title="{escape(row.source)}"><div class="frame">{image}</div>{text}</figure>')
    note = f'<p class="quiet">{say("This would be written. Nothing was written yet.")}</p>'
    return f'{note}<div class="pictures tried">{"".join(cards)}</div>'


def _heads(*names: str) -> str:
    return f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"


def _row(row: Row, folder: str, note: str, outcome: str = "") -> str:
    is_told = outcome == "failed" or (outcome == "kept" and row.action != "keep")
    told = note if row.action in _WRITTEN and outcome != "failed" else retold(note)
    mark = f' <span class="tag {outcome}">{say(_OUTCOMES[outcome])}</span>' if is_told else ""
    return (
        f'<tr><td title="{escape(row.source)}">{escape(short_path(row.source, folder))}</td>'
        f'<td class="fixed">{escape(say(row.action))}{mark}</td>'
        f'<td title="{escape(row.target)}">{escape(short_path(row.target, folder))}</td><td>{escape(told)}</td></tr>'
    )


def short_path(path: str, folder: str) -> str:
    """A path below `folder` as seen from there; any other as it is."""
    inside = folder and path.startswith(folder.rstrip("/\\") + os.sep)
    return path[len(folder.rstrip("/\\")) + 1 :] if inside else path


def tools_about(names: Sequence[str]) -> str:
    """What each tool is for; the script shows that of the chosen one, at first of the first."""
    return "".join(
        f'<p class="quiet tool-about" data-tool="{name}"{"" if name == names[0] else " hidden"}>'
        f"{escape(say(TOOLS[name].ABOUT))}</p>"
        for name in names
    )
