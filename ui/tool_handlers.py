"""What the buttons and fields of a panel of tools do, and what the panel shows. See tool_panel.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gradio as gr

from engine.errors import Problem, UserError
from engine.preset import resolve
from engine.tools.jobs import JobFolder
from engine.tools.tool import Proposal
from ui import lora_report, tool_fields, tool_jobs, tool_looks, tool_page
from ui.data_page import problem_list
from ui.fields import FORM
from ui.language import say
from ui.tool_fields import ToolFields, name_of
from ui.tool_jobs import Direction, JobView

CONTROLS = 4  # stop, undo, redo, use
_CONSENT = "agreed_bytes"  # the setting by which a tool that loads from outside is told that the user agreed


class Panel(Protocol):
    """What is needed of a panel here."""

    names: tuple[str, ...]
    fields: dict[str, ToolFields]
    queue: gr.Button

    def values(self, tool: str, given: str) -> dict[str, Any]: ...


def group(given: str, name: str) -> Mapping[str, Any]:
    """The content of one group of fields out of that of all, which is JSON; empty where there is none."""
    groups = json.loads(given or "{}")
    found = groups.get(name) if isinstance(groups, dict) else None
    return found if isinstance(found, dict) else {}


def training_folder(given: str) -> str:
    """The training folder of the form, absolute."""
    return str(resolve(str(group(given, FORM).get("data.folder") or "").strip()))


def marks_of(fields: ToolFields, problems: Sequence[Problem], values: dict[str, Any]) -> dict[str, Any]:
    """What page.js marks in the fields of a tool."""
    return {"source": f"tool-{fields.tool}", **fields.marks(problems, values)}


def editor(panel: Panel):
    """A field was changed: its faults are marked, and what was looked at before is no longer what would be done."""

    def edited(given: str, tool: str) -> list[Any]:
        fields, values = panel.fields[tool], panel.values(tool, given)
        problems: Sequence[Problem] = ()
        settings = None
        try:
            settings = fields.settings(values)
        except UserError as error:
            problems = error.problems
        # What is typed last may be told after Look was pressed
        looked = gr.skip() if tool_looks.is_last(fields.tool, settings) else ""
        return [gr.skip() if looked != "" else json.dumps(marks_of(fields, problems, values)), looked]

    return edited


def looker(panel: Panel):
    def look(given: str, tool: str) -> list[Any]:
        fields, values = panel.fields[tool], panel.values(tool, given)
        try:
            name = tool_looks.begin(tool, fields.settings(values))
        except UserError as error:
            marks = json.dumps(marks_of(fields, error.problems, values))
            return [fault(fields.labelled(error.problems)), "", marks, 0]
        found = tool_looks.get(name)
        problems = () if found is None or found.is_pending else found.proposal().problems
        return ["", name, json.dumps(marks_of(fields, problems, values)), 0]

    return look


def starter(panel: Panel, starting: Callable[[str, Any, Proposal | None], JobFolder]):
    """What was looked at is done now or put into the queue, as `starting` does it."""

    def start(looked: str, is_agreed: bool) -> list[Any]:
        look = tool_looks.get(looked)
        if look is None or look.is_pending or look.tool not in panel.names:
            return [
                fault([Problem("", say("What was looked at is no longer known. Press Look again."))]),
                "",
                gr.skip(),
                0,
            ]
        try:
            found = look.proposal()
            settings = look.settings
            if _needs_consent(found):
                if not is_agreed:
                    return [
                        fault([Problem("", say("Nothing is downloaded before you agree. Tick the box."))]),
                        looked,
                        gr.skip(),
                        0,
                    ]
                settings = settings.model_copy(update={_CONSENT: sum(file.size_bytes for file in found.content)})
                found = None
            job = starting(look.tool, settings, found)
        except UserError as error:
            return [fault(error.problems), looked, gr.skip(), 0]
        return ["", "", job_update(panel, str(job.path)), 0]

    return start


def stopper(panel: Panel):
    def stop(chosen: str | None) -> str:
        view = tool_jobs.find(chosen, panel.names)
        if view is not None and view.status() == "running":
            view.folder.request_stop()
        return ""

    return stop


def director(panel: Panel, direction: Direction):
    def turn(chosen: str | None) -> list[Any]:
        view = tool_jobs.find(chosen, panel.names)
        try:
            if view is not None:
                tool_jobs.turn(view, direction)
        except UserError as error:
            return [fault(error.problems), gr.update(visible=False)]
        return ["", gr.update(visible=False)]

    return turn


def user(panel: Panel, fields: Mapping[str, str]):
    """What a job made goes into fields ({setting: "group/name"}); what it says nothing of stays as it is."""

    def use(chosen: str | None) -> str:
        view = tool_jobs.find(chosen, panel.names)
        made = tool_jobs.made_settings(view) if view else {}
        filled: dict[str, dict[str, Any]] = {}
        for path, field in fields.items():
            if made.get(path):
                group_name, _, name = field.partition("/")
                filled.setdefault(group_name, {})[name] = made[path]
        return json.dumps(filled)

    return use


def turner(pages: int):
    return lambda first: max(0, int(first or 0) + pages * tool_page.PAGE_ROWS)


def job_update(panel: Panel, path: str) -> Any:
    """The list of jobs with this one chosen."""
    return gr.update(choices=_choices(tool_jobs.listed(panel.names)), value=path)


def fault(problems: Sequence[Problem]) -> str:
    return f'<div class="fault">{problem_list(problems, "problem")}</div>'


def shower(panel: Panel):
    """What is to be seen now; parts that did not change since `seen` are left alone."""

    def show(looked: str, first: float, chosen: str | None, done_first: float, seen: dict[Any, Any]) -> list[Any]:
        look = tool_looks.get(looked)
        views = tool_jobs.listed(panel.names)
        view = next((item for item in views if str(item.folder.path) == chosen), views[0] if views else None)
        status = view.status() if view else None
        is_looking = look is not None and look.tool in panel.names
        shown = view if status == "running" or not is_looking else None
        parts = [
            *_look_parts(panel, look, int(first or 0)),
            *_job_parts(panel, views, shown, status, int(done_first or 0)),
        ]
        turning = view is not None and tool_jobs.turning(view.folder.path) is not None
        waits = view is not None and status == "new" and tool_jobs.is_queued(view.folder.path)
        is_busy = bool(look and look.is_pending) or status == "running" or turning or waits
        parts.append((is_busy, gr.Timer(active=is_busy)))
        updates = []
        for number, (signature, update) in enumerate(parts):
            updates.append(gr.skip() if seen.get(number, ...) == signature else update)
            seen[number] = signature
        return [*updates, seen]

    return show


def _look_parts(panel: Panel, look: tool_looks.Look | None, first: int) -> list[tuple[Any, Any]]:
    hidden = (False, gr.update(visible=False))
    unasked = (False, gr.update(visible=False, value=False))
    if look is None or look.tool not in panel.names:
        return [("", ""), unasked, hidden, hidden, *_page_updates(0, 0)]
    if look.is_pending:
        return [("…", tool_page.pending()), unasked, hidden, hidden, *_page_updates(0, 0)]
    found = look.proposal()
    first = first if first < len(found.rows) else 0
    folder = str(getattr(look.settings, tool_fields.FOLDER, ""))
    asks = _needs_consent(found)
    told = lora_report.report(look.tool, found)
    text = told or ""
    if told is None or found.rows:
        problems = () if asks else panel.fields[look.tool].labelled(found.problems)
        text = tool_page.proposal(found, folder, first, problems) + text
    is_possible = bool(found.rows) and (asks or not found.problems)
    consent = (found.digest(), gr.update(visible=True, value=False)) if asks else unasked
    return [
        (text, text),
        consent,
        (is_possible, gr.update(visible=is_possible)),
        (is_possible, gr.update(visible=is_possible and bool(panel.queue.value))),
        *_page_updates(len(found.rows), first),
    ]


def _job_parts(
    panel: Panel, views: list[JobView], view: JobView | None, status: Any, first: int
) -> list[tuple[Any, Any]]:
    if view is None:
        hidden = [(False, gr.update(visible=False))] * (1 + CONTROLS)
        return [*hidden, ("", ""), *_page_updates(0, 0), ("", gr.skip())]
    choices, path = _choices(views), str(view.folder.path)
    running = status == "running"
    with view.lock:
        turning = tool_jobs.turning(view.folder.path)
        stand, undone = (0, 0) if running else view.changes()
        able = {
            "stop": running,
            "undo": not running and not turning and stand > 0,
            "redo": not running and not turning and undone > 0,
            "use": status == "finished" and stand > 0 and bool(tool_jobs.made_folder(view)),
        }
        first = first if first < len(view.rows) else 0
        text = tool_page.job(view, status, first)
        rows = len(view.rows)
    ended = "" if running or turning else f"{path} {status} {stand} {undone}"
    return [
        ((choices, path), gr.update(choices=choices, value=path, visible=True)),
        *((on, gr.update(visible=on)) for on in able.values()),
        (text, text),
        *_page_updates(rows, first),
        (ended, ended),
    ]


def _needs_consent(found: Proposal) -> bool:
    """Whether nothing but the user's consent is missing."""
    return bool(found.rows) and bool(found.problems) and all(name_of(item) == _CONSENT for item in found.problems)


def _page_updates(rows: int, first: int) -> list[tuple[Any, Any]]:
    many = rows > tool_page.PAGE_ROWS
    text = tool_page.pages(rows, first)
    return [(many, gr.update(visible=many)), (text, text)]


def _choices(views: list[JobView]) -> list[tuple[str, str]]:
    return [(tool_page.title(view, view.status()), str(view.folder.path)) for view in views]
