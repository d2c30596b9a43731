"""A panel of tools: choose one, fill in its fields, look at what it would do, do it, watch, stop, undo.

All that is shown is rebuilt from the job folders, so that a page that is loaded again shows the same job.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from captioning.tools import TOOLS
from engine.errors import Problem, UserError
from engine.preset import resolve
from ui import tool_fields, tool_jobs, tool_looks, tool_page
from ui.data_page import problem_list
from ui.form import Form
from ui.handlers import QUIET
from ui.tool_fields import ToolFields
from ui.tool_jobs import Direction, JobView

TICK_SECONDS = 1.0
_MARKS = "(marks) => window.atelier.showMarks(marks)"


@dataclass
class ToolPanel:
    """The parts of a panel. `key` is what its elements' ids begin with, `names` are its tools."""

    key: str
    names: tuple[str, ...]
    timer: gr.Timer
    tool: gr.Radio
    fields: dict[str, ToolFields]
    look: gr.Button
    go: gr.Button
    message: gr.HTML
    marks: gr.Textbox
    proposal: gr.HTML
    rows: Pages
    job: gr.Dropdown
    controls: dict[str, gr.Button]
    confirm: gr.Row
    sure: gr.Button
    unsure: gr.Button
    state: gr.HTML
    done_rows: Pages
    ended: gr.Textbox
    looked: gr.State = field(default_factory=lambda: gr.State(""))
    seen: gr.State = field(default_factory=lambda: gr.State({}))

    @property
    def inputs(self) -> list[Component]:
        """All fields of all tools, in the order of `names`."""
        return [component for name in self.names for component in self.fields[name].inputs]

    def values(self, tool: str, training_folder: str, shown: Sequence[Any]) -> dict[str, Any]:
        """The values of one tool out of what `inputs` show; paths are absolute."""
        at = 0
        for name in self.names:
            count = len(self.fields[name].items)
            if name == tool:
                return self.fields[name].values(shown[at : at + count], str(resolve(training_folder)))
            at += count
        raise KeyError(tool)

    @property
    def outputs(self) -> list[Component | gr.Row]:
        controls = self.controls.values()
        job = [self.job, *controls, self.state, *self.done_rows.outputs, self.ended]
        return [self.proposal, self.go, *self.rows.outputs, *job, self.timer]


@dataclass
class Pages:
    """A row to turn the pages of a table."""

    row: gr.Row
    back: gr.Button
    where: gr.HTML
    forth: gr.Button
    first: gr.Number

    @property
    def outputs(self) -> list[Component | gr.Row]:
        return [self.row, self.where]

    def updates(self, rows: int, first: int) -> list[tuple[Any, Any]]:
        many = rows > tool_page.PAGE_ROWS
        text = tool_page.pages(rows, first)
        return [(many, gr.update(visible=many)), (text, text)]


@dataclass(frozen=True)
class Words:
    """What the two buttons say."""

    look: str = "Look"
    go: str = "Do it"


def build(
    key: str,
    names: Sequence[str],
    timer: gr.Timer,
    words: Words = Words(),
    skip: Sequence[str] = (),
    beside: gr.Button | None = None,
) -> ToolPanel:
    """Draw the panel. The timer stands outside of all tabs: inside it would begin with the first visit.

    `skip`: settings without a field; `beside`: a button that is not drawn yet, put beside Look.
    """
    with gr.Column(elem_id=f"{key}-panel", elem_classes="tool-panel"):
        choices = [(TOOLS[name].TITLE, name) for name in names]
        tool = gr.Radio(
            choices, value=names[0], show_label=False, container=False, elem_id=f"{key}-tool", visible=len(names) > 1
        )
        gr.HTML(tool_page.tools_about(names))
        fields = {name: tool_fields.draw(name, skip) for name in names}
        with gr.Row(elem_classes="buttons"):
            look = gr.Button(words.look, variant="primary", elem_id=f"{key}-look", min_width=120)
            if beside is not None:
                beside.render()
            go = gr.Button(words.go, variant="primary", elem_id=f"{key}-go", min_width=120, visible=False)
        message = gr.HTML(elem_id=f"{key}-message")
        proposal = gr.HTML(elem_id=f"{key}-proposal")
        rows = _pages(f"{key}-rows")
        with gr.Row(elem_classes="buttons", equal_height=True):
            job = gr.Dropdown(
                [], label="Job", show_label=False, container=False, elem_id=f"{key}-job", scale=3, visible=False
            )
            controls = {
                "stop": gr.Button("Stop", variant="stop", elem_id=f"{key}-stop", min_width=90, visible=False),
                "undo": gr.Button("Undo", elem_id=f"{key}-undo", min_width=90, visible=False),
                "redo": gr.Button("Do it again", elem_id=f"{key}-redo", min_width=90, visible=False),
                "use": gr.Button("Use this folder for training", elem_id=f"{key}-use", min_width=200, visible=False),
            }
        with gr.Row(elem_classes="buttons confirm", visible=False) as confirm:
            gr.HTML("<p>Put back every change that this job made? Files that were edited since stay as they are.</p>")
            sure = gr.Button("Yes, undo", variant="stop", elem_id=f"{key}-sure", min_width=110)
            unsure = gr.Button("No", elem_id=f"{key}-unsure", min_width=80)
        state = gr.HTML(elem_id=f"{key}-state")
        done_rows = _pages(f"{key}-done")
        marks = gr.Textbox(_all_marks(fields), visible="hidden", elem_id=f"{key}-marks")
        ended = gr.Textbox(visible="hidden", elem_id=f"{key}-ended")
    return ToolPanel(
        key, tuple(names), timer, tool, fields, look, go, message, marks, proposal, rows, job, controls, confirm,
        sure, unsure, state, done_rows, ended,
    )  # fmt: skip


def _pages(name: str) -> Pages:
    with gr.Row(elem_classes="pages", visible=False) as row:
        back = gr.Button("‹ Back", size="sm", min_width=80, elem_id=f"{name}-back")
        where = gr.HTML(elem_id=f"{name}-where")
        forth = gr.Button("More ›", size="sm", min_width=80, elem_id=f"{name}-forth")
        first = gr.Number(0, visible="hidden")
    return Pages(row, back, where, forth, first)


def connect(panel: ToolPanel, form: Form, look_at_form: dict[str, Any]) -> dict[str, Any]:
    """Wire the panel; returns the looks at it by which a page that was opened is filled.

    `look_at_form` is done where files or the training folder changed.
    """
    folder = form.fields["data.folder"]
    follow: dict[str, Any] = {
        "fn": _shower(panel),
        "inputs": [panel.looked, panel.rows.first, panel.job, panel.done_rows.first, panel.seen],
        "outputs": [*panel.outputs, panel.seen],
        **QUIET,
    }
    mark: dict[str, Any] = {"fn": None, "inputs": [panel.marks], "js": _MARKS, "api_visibility": "private"}
    show_tool: dict[str, Any] = {
        "fn": None,
        "inputs": [panel.tool],
        "js": f"(tool) => window.atelier.showTool('{panel.key}', tool)",
        "api_visibility": "private",
    }
    panel.tool.change(**show_tool)
    panel.tool.input(lambda: ["", ""], None, [panel.looked, panel.message], **QUIET).then(**follow)
    for name in panel.names:
        fields = panel.fields[name]
        triggers = [getattr(component, "input") for component in fields.inputs]  # noqa: B009 - added at run time
        edited = gr.on(
            triggers,
            _editor(fields),
            [folder, *fields.inputs],
            [panel.marks, panel.looked],
            trigger_mode="always_last",
            **QUIET,
        )
        edited.then(**mark).then(**follow)
    given = [panel.tool, folder, *panel.inputs]
    shown = [panel.message, panel.looked, panel.marks, panel.rows.first]
    panel.look.click(_looker(panel), given, shown, **QUIET).then(**mark).then(**follow)
    begun = [panel.message, panel.looked, panel.job, panel.done_rows.first]
    panel.go.click(_starter(panel), [panel.looked], begun, **QUIET).then(**follow)
    for pages in (panel.rows, panel.done_rows):
        for button, count in ((pages.back, -1), (pages.forth, 1)):
            button.click(_turner(count), [pages.first], [pages.first], **QUIET).then(**follow)
    panel.job.input(lambda: 0, None, [panel.done_rows.first], **QUIET).then(**follow)
    panel.timer.tick(**follow)
    _connect_controls(panel, folder, follow, look_at_form)
    return {"follow": follow, "show_tool": show_tool, "mark": mark}


def _connect_controls(
    panel: ToolPanel, folder: Component, follow: dict[str, Any], look_at_form: dict[str, Any]
) -> None:
    controls = panel.controls
    controls["stop"].click(_stopper(panel), [panel.job], [panel.message], **QUIET).then(**follow)
    controls["undo"].click(lambda: gr.update(visible=True), None, [panel.confirm], **QUIET)
    panel.unsure.click(lambda: gr.update(visible=False), None, [panel.confirm], **QUIET)
    turns: tuple[tuple[gr.Button, Direction], ...] = ((panel.sure, "undo"), (controls["redo"], "redo"))
    for button, direction in turns:
        turn = button.click(_director(panel, direction), [panel.job], [panel.message, panel.confirm], **QUIET)
        turn.then(**follow)
    controls["use"].click(_user(panel), [panel.job], [folder], **QUIET).then(**look_at_form)
    panel.ended.change(**look_at_form)  # files are other files now


def _all_marks(fields: dict[str, ToolFields]) -> str:
    defaults = {name: {key: item.default for key, item in one.items.items()} for name, one in fields.items()}
    return json.dumps([marks_of(one, (), defaults[name]) for name, one in fields.items()])


def marks_of(fields: ToolFields, problems: Sequence[Problem], values: dict[str, Any]) -> dict[str, Any]:
    """What page.js marks in the fields of a tool."""
    return {"source": f"tool-{fields.tool}", **fields.marks(problems, values)}


def _editor(fields: ToolFields):
    """A field was changed: its faults are marked, and what was looked at before is no longer what would be done."""

    def edited(training_folder: str, *shown: Any) -> list[Any]:
        values = fields.values(shown, str(resolve(training_folder or "")))
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


def _looker(panel: ToolPanel):
    def look(tool: str, training_folder: str, *shown: Any) -> list[Any]:
        fields = panel.fields[tool]
        values = panel.values(tool, training_folder or "", shown)
        try:
            name = tool_looks.begin(tool, fields.settings(values))
        except UserError as error:
            marks = json.dumps(marks_of(fields, error.problems, values))
            return [fault(fields.labelled(error.problems)), "", marks, 0]
        found = tool_looks.get(name)
        problems = () if found is None or found.is_pending else found.proposal().problems
        return ["", name, json.dumps(marks_of(fields, problems, values)), 0]

    return look


def _starter(panel: ToolPanel):
    def start(looked: str) -> list[Any]:
        look = tool_looks.get(looked)
        if look is None or look.is_pending or look.tool not in panel.names:
            return [fault([Problem("", "What was looked at is no longer known. Press Look again.")]), "", gr.skip(), 0]
        try:
            job = tool_jobs.start(look.tool, look.settings, look.proposal())
        except UserError as error:
            return [fault(error.problems), looked, gr.skip(), 0]
        return ["", "", job_update(panel, str(job.path)), 0]

    return start


def _stopper(panel: ToolPanel):
    def stop(chosen: str | None) -> str:
        view = tool_jobs.find(chosen, panel.names)
        if view is not None and view.status() == "running":
            view.folder.request_stop()
        return ""

    return stop


def _director(panel: ToolPanel, direction: Direction):
    def turn(chosen: str | None) -> list[Any]:
        view = tool_jobs.find(chosen, panel.names)
        try:
            if view is not None:
                tool_jobs.turn(view, direction)
        except UserError as error:
            return [fault(error.problems), gr.update(visible=False)]
        return ["", gr.update(visible=False)]

    return turn


def _user(panel: ToolPanel):
    def use(chosen: str | None) -> Any:
        view = tool_jobs.find(chosen, panel.names)
        return (tool_jobs.made_folder(view) if view else "") or gr.skip()

    return use


def _turner(pages: int):
    return lambda first: max(0, int(first or 0) + pages * tool_page.PAGE_ROWS)


def job_update(panel: ToolPanel, path: str) -> Any:
    """The list of jobs with this one chosen."""
    return gr.update(choices=_choices(tool_jobs.listed(panel.names)), value=path)


def fault(problems: Sequence[Problem]) -> str:
    return f'<div class="fault">{problem_list(problems, "problem")}</div>'


def _shower(panel: ToolPanel):
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
        is_busy = bool(look and look.is_pending) or status == "running" or turning
        parts.append((is_busy, gr.Timer(active=is_busy)))
        updates = []
        for number, (signature, update) in enumerate(parts):
            updates.append(gr.skip() if seen.get(number, ...) == signature else update)
            seen[number] = signature
        return [*updates, seen]

    return show


def _look_parts(panel: ToolPanel, look: tool_looks.Look | None, first: int) -> list[tuple[Any, Any]]:
    if look is None or look.tool not in panel.names:
        return [("", ""), (False, gr.update(visible=False)), *panel.rows.updates(0, 0)]
    if look.is_pending:
        return [("…", tool_page.pending()), (False, gr.update(visible=False)), *panel.rows.updates(0, 0)]
    found = look.proposal()
    first = first if first < len(found.rows) else 0
    folder = str(getattr(look.settings, tool_fields.FOLDER, ""))
    text = tool_page.proposal(found, folder, first, panel.fields[look.tool].labelled(found.problems))
    is_possible = bool(found.rows) and not found.problems
    return [(text, text), (is_possible, gr.update(visible=is_possible)), *panel.rows.updates(len(found.rows), first)]


def _job_parts(
    panel: ToolPanel, views: list[JobView], view: JobView | None, status: Any, first: int
) -> list[tuple[Any, Any]]:
    if view is None:
        hidden = [(False, gr.update(visible=False))] * (1 + len(panel.controls))
        return [*hidden, ("", ""), *panel.done_rows.updates(0, 0), ("", gr.skip())]
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
        *panel.done_rows.updates(rows, first),
        (ended, ended),
    ]


def _choices(views: list[JobView]) -> list[tuple[str, str]]:
    return [(tool_page.title(view, view.status()), str(view.folder.path)) for view in views]
