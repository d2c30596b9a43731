"""The captioning panel of the tab Captions: a trial on three pictures, then a model writes the captions of a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from captioning.tools import TOOLS
from engine.errors import PresetError, UserError
from ui import tool_jobs, tool_panel
from ui.form import Form
from ui.handlers import QUIET

TOOL = "caption"
TRIED_IMAGES = 3


@dataclass
class CaptionPanel:
    """The parts of the panel; `part` is the tab that it is in."""

    tools: tool_panel.ToolPanel
    trial: gr.Button
    part: gr.Tab | None = None


def build(form: Form, timer: gr.Timer) -> CaptionPanel:
    """Draw the panel. The timer stands outside of all tabs."""
    trial = gr.Button(f"Try on {TRIED_IMAGES} pictures", elem_id="caption-try", min_width=170, render=False)
    labels = ("Look which need one", "Write captions")
    panel = tool_panel.build("caption", [TOOL], timer, tool_panel.Words(*labels), skip=("preview",), beside=trial)
    return CaptionPanel(panel, trial)


def connect(panel: CaptionPanel, form: Form, look_at_form: dict[str, Any]) -> dict[str, Any]:
    """Wire the panel; returns the looks at it, as `tool_panel.connect` does."""
    tools = panel.tools
    looks = tool_panel.connect(tools, form, look_at_form)
    begun = [tools.message, tools.looked, tools.marks, tools.job, tools.done_rows.first]
    given = [form.fields["data.folder"], *tools.inputs]
    panel.trial.click(_trier(tools), given, begun, **QUIET).then(**looks["mark"]).then(**looks["follow"])
    return looks


def _trier(tools: tool_panel.ToolPanel):
    """Begin a job that captions a few pictures and writes nothing."""

    def try_it(training_folder: str, *shown: Any) -> list[Any]:
        fields = tools.fields[TOOL]
        values = {**tools.values(TOOL, training_folder or "", shown), "preview": TRIED_IMAGES}
        try:
            settings = fields.settings(values)
            if problems := TOOLS[TOOL].propose(settings).problems:
                raise PresetError(problems)
            job = tool_jobs.start(TOOL, settings, None)
        except UserError as error:
            marks = json.dumps(tool_panel.marks_of(fields, error.problems, values))
            return [tool_panel.fault(fields.labelled(error.problems)), "", marks, gr.skip(), 0]
        marks = json.dumps(tool_panel.marks_of(fields, (), values))
        return ["", "", marks, tool_panel.job_update(tools, str(job.path)), 0]

    return try_it
