"""A panel of tools: choose one, fill in its fields, look at what it would do, do it, watch, stop, undo.

All that is shown is rebuilt from the job folders, so that a page that is loaded again shows the same job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.preset import resolve
from ui import tool_fields, tool_handlers, tool_jobs, tool_page
from ui.form import Form
from ui.handlers import QUIET
from ui.tool_fields import ToolFields
from ui.tool_jobs import Direction
from ui.tool_table import TOOLS

TICK_SECONDS = 1.0
_USED = ("data.folder", "data.regularization_folder", "captions.extension")  # what a job can have made, to train it
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
    consent: gr.Checkbox
    go: gr.Button
    queue: gr.Button
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
        return [self.proposal, self.consent, self.go, self.queue, *self.rows.outputs, *job, self.timer]


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


@dataclass(frozen=True)
class Words:
    """What the buttons say; without words for it nothing goes into the queue."""

    look: str = "Look"
    go: str = "Do it"
    use: str = "Use this folder for training"
    consent: str = "Yes"
    queue: str = ""


def build(
    key: str,
    names: Sequence[str],
    timer: gr.Timer,
    words: Words = Words(),
    fixed: Mapping[str, Any] = MappingProxyType({}),
    beside: gr.Button | None = None,
) -> ToolPanel:
    """Draw the panel. The timer stands outside of all tabs: inside it would begin with the first visit.

    `fixed`: settings that have no field, and their values; `beside`: a button that is not drawn yet, put beside Look.
    """
    with gr.Column(elem_id=f"{key}-panel", elem_classes="tool-panel"):
        choices = [(TOOLS[name].TITLE, name) for name in names]
        tool = gr.Radio(
            choices, value=names[0], show_label=False, container=False, elem_id=f"{key}-tool", visible=len(names) > 1
        )
        gr.HTML(tool_page.tools_about(names))
        fields = {name: tool_fields.draw(name, fixed) for name in names}
        with gr.Row(elem_classes="buttons"):
            look = gr.Button(words.look, variant="primary", elem_id=f"{key}-look", min_width=120)
            if beside is not None:
                beside.render()
            go = gr.Button(words.go, variant="primary", elem_id=f"{key}-go", min_width=120, visible=False)
            queue = gr.Button(words.queue, elem_id=f"{key}-queue", min_width=120, visible=False)
        consent = gr.Checkbox(False, label=words.consent, elem_id=f"{key}-consent", visible=False, container=False)
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
                "use": gr.Button(words.use, elem_id=f"{key}-use", min_width=200, visible=False),
            }
        with gr.Row(elem_classes="buttons confirm", visible=False) as confirm:
            gr.HTML("<p>Put back every change that this job made? Files that were edited since stay as they are.</p>")
            sure = gr.Button("Yes, undo", variant="stop", elem_id=f"{key}-sure", min_width=110)
            unsure = gr.Button("No", elem_id=f"{key}-unsure", min_width=80)
        state = gr.HTML(elem_id=f"{key}-state")
        done_rows = _pages(f"{key}-done")
        marks = gr.Textbox(tool_handlers.all_marks(fields), visible="hidden", elem_id=f"{key}-marks")
        ended = gr.Textbox(visible="hidden", elem_id=f"{key}-ended")
    return ToolPanel(
        key, tuple(names), timer, tool, fields, look, consent, go, queue, message, marks, proposal, rows, job, controls,
        confirm, sure, unsure, state, done_rows, ended,
    )  # fmt: skip


def _pages(name: str) -> Pages:
    with gr.Row(elem_classes="pages", visible=False) as row:
        back = gr.Button("‹ Back", size="sm", min_width=80, elem_id=f"{name}-back")
        where = gr.HTML(elem_id=f"{name}-where")
        forth = gr.Button("More ›", size="sm", min_width=80, elem_id=f"{name}-forth")
        first = gr.Number(0, visible="hidden")
    return Pages(row, back, where, forth, first)


def connect(panel: ToolPanel, form: Form, look_at_form: dict[str, Any], use: Component | None = None) -> dict[str, Any]:
    """Wire the panel; returns the looks at it by which a page that was opened is filled.

    `look_at_form` is done where files or the training folder changed. `use`: the field that takes the folder which a
    job made; where none is given, the fields of the data that it is trained with.
    """
    folder = form.fields["data.folder"]
    follow: dict[str, Any] = {
        "fn": tool_handlers.shower(panel),
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
            tool_handlers.editor(fields),
            [folder, *fields.inputs],
            [panel.marks, panel.looked],
            trigger_mode="always_last",
            **QUIET,
        )
        edited.then(**mark).then(**follow)
    given = [panel.tool, folder, *panel.inputs]
    shown = [panel.message, panel.looked, panel.marks, panel.rows.first]
    look = {"fn": tool_handlers.looker(panel), "inputs": given, "outputs": shown, **QUIET}
    panel.look.click(**look).then(**mark).then(**follow)
    begun = [panel.message, panel.looked, panel.job, panel.done_rows.first]
    for button, starting in ((panel.go, tool_jobs.start), (panel.queue, tool_jobs.enqueue)):
        start = tool_handlers.starter(panel, starting)
        button.click(start, [panel.looked, panel.consent], begun, **QUIET).then(**follow)
    for pages in (panel.rows, panel.done_rows):
        for button, count in ((pages.back, -1), (pages.forth, 1)):
            button.click(tool_handlers.turner(count), [pages.first], [pages.first], **QUIET).then(**follow)
    panel.job.input(lambda: 0, None, [panel.done_rows.first], **QUIET).then(**follow)
    panel.timer.tick(**follow)
    used = {"data.folder": use} if use else {path: form.fields[path] for path in _USED}
    _connect_controls(panel, used, follow, look_at_form)
    return {"look": look, "mark": mark, "show_tool": show_tool, "follow": follow}


def _connect_controls(
    panel: ToolPanel, used: dict[str, Component], follow: dict[str, Any], look_at_form: dict[str, Any]
) -> None:
    controls = panel.controls
    controls["stop"].click(tool_handlers.stopper(panel), [panel.job], [panel.message], **QUIET).then(**follow)
    controls["undo"].click(lambda: gr.update(visible=True), None, [panel.confirm], **QUIET)
    panel.unsure.click(lambda: gr.update(visible=False), None, [panel.confirm], **QUIET)
    turns: tuple[tuple[gr.Button, Direction], ...] = ((panel.sure, "undo"), (controls["redo"], "redo"))
    for button, direction in turns:
        turn = button.click(
            tool_handlers.director(panel, direction), [panel.job], [panel.message, panel.confirm], **QUIET
        )
        turn.then(**follow)
    use = tool_handlers.user(panel, tuple(used))
    controls["use"].click(use, [panel.job], [*used.values()], **QUIET).then(**look_at_form)
    panel.ended.change(**look_at_form)  # files are other files now
