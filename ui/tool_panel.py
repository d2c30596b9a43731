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

from ui import fields as drawing
from ui import tool_fields, tool_handlers, tool_jobs, tool_page
from ui.handlers import QUIET
from ui.tool_fields import ToolFields
from ui.tool_jobs import Direction
from ui.tool_table import TOOLS

TICK_SECONDS = 1.0
_USED = ("data.folder", "data.regularization_folder", "captions.extension")  # what a job can have made, to train it
_MARKS = "(marks) => window.atelier.showMarks(marks)"
_FILL = "(filled) => window.atelierForm.filled(filled)"
_LOOK = "() => window.atelierForm.filesChanged()"  # at the form: files are other files now
GIVEN = "(_, ...rest) => [window.atelierFields.given(), ...rest]"  # all fields' content as the first input


@dataclass(frozen=True)
class Bridge:
    """Between Gradio's events and our own fields: `given` is the first input of an event whose `js` is GIVEN, and gets
    the content of all fields; `filled` is an output, and what fields are to show. Both JSON, {group: {name: value}}."""

    given: gr.Textbox
    filled: gr.Textbox


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
    edited: gr.Button
    looked: gr.State = field(default_factory=lambda: gr.State(""))
    seen: gr.State = field(default_factory=lambda: gr.State({}))

    def values(self, tool: str, given: str) -> dict[str, Any]:
        """The values of one tool out of the content of all fields; paths are absolute."""
        fields = self.fields[tool]
        return fields.values(tool_handlers.group(given, fields.group), tool_handlers.training_folder(given))

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
        fields = {name: tool_fields.fields_of(name, fixed) for name in names}
        drawing.html(lambda: _drawn(fields), f"{key}-fields")
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
        marks = gr.Textbox(visible="hidden", elem_id=f"{key}-marks")
        ended = gr.Textbox(visible="hidden", elem_id=f"{key}-ended")
        edited = gr.Button(visible="hidden", elem_id=f"{key}-edited")  # tools.js presses it
    return ToolPanel(
        key, tuple(names), timer, tool, fields, look, consent, go, queue, message, marks, proposal, rows, job, controls,
        confirm, sure, unsure, state, done_rows, ended, edited,
    )  # fmt: skip


def _drawn(fields: Mapping[str, ToolFields]) -> str:
    """What the tools are for, and their fields; those of the first one are seen."""
    first = next(iter(fields))
    return tool_page.tools_about(tuple(fields)) + "".join(
        tool_fields.draw(of, of.tool == first) for of in fields.values()
    )


def _pages(name: str) -> Pages:
    with gr.Row(elem_classes="pages", visible=False) as row:
        back = gr.Button("‹ Back", size="sm", min_width=80, elem_id=f"{name}-back")
        where = gr.HTML(elem_id=f"{name}-where")
        forth = gr.Button("More ›", size="sm", min_width=80, elem_id=f"{name}-forth")
        first = gr.Number(0, visible="hidden")
    return Pages(row, back, where, forth, first)


def connect(panel: ToolPanel, bridge: Bridge, use: str = "") -> dict[str, Any]:
    """Wire the panel; returns the looks at it.

    `use`: the field ("group/name") that takes the folder which a job made; where none is given, the fields of the data
    that it is trained with.
    """
    follow: dict[str, Any] = {
        "fn": tool_handlers.shower(panel),
        "inputs": [panel.looked, panel.rows.first, panel.job, panel.done_rows.first, panel.seen],
        "outputs": [*panel.outputs, panel.seen],
        **QUIET,
    }
    mark: dict[str, Any] = {"fn": None, "inputs": [panel.marks], "js": _MARKS, "api_visibility": "private"}
    show_tool = f"(tool) => window.atelier.showTool('{panel.key}', tool)"
    panel.tool.change(None, [panel.tool], js=show_tool, api_visibility="private")
    panel.tool.input(lambda: ["", ""], None, [panel.looked, panel.message], **QUIET).then(**follow)
    given: dict[str, Any] = {"inputs": [bridge.given, panel.tool], "js": GIVEN, **QUIET}
    edited = panel.edited.click(tool_handlers.editor(panel), outputs=[panel.marks, panel.looked], **given)
    edited.then(**mark).then(**follow)
    shown = [panel.message, panel.looked, panel.marks, panel.rows.first]
    look = panel.look.click(tool_handlers.looker(panel), outputs=shown, **given)
    look.then(**mark).then(**follow)
    begun = [panel.message, panel.looked, panel.job, panel.done_rows.first]
    for button, starting in ((panel.go, tool_jobs.start), (panel.queue, tool_jobs.enqueue)):
        start = tool_handlers.starter(panel, starting)
        button.click(start, [panel.looked, panel.consent], begun, **QUIET).then(**follow)
    for pages in (panel.rows, panel.done_rows):
        for button, count in ((pages.back, -1), (pages.forth, 1)):
            button.click(tool_handlers.turner(count), [pages.first], [pages.first], **QUIET).then(**follow)
    panel.job.input(lambda: 0, None, [panel.done_rows.first], **QUIET).then(**follow)
    panel.timer.tick(**follow)
    used = {"data.folder": use} if use else {path: f"{drawing.FORM}/{path}" for path in _USED}
    _connect_controls(panel, used, follow, bridge)
    return {"mark": mark, "follow": follow}


def _connect_controls(panel: ToolPanel, used: Mapping[str, str], follow: dict[str, Any], bridge: Bridge) -> None:
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
    filled = controls["use"].click(tool_handlers.user(panel, used), [panel.job], [bridge.filled], **QUIET)
    filled.then(None, [bridge.filled], js=_FILL, api_visibility="private")
    panel.ended.change(None, None, js=_LOOK, api_visibility="private")
