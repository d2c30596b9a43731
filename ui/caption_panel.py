"""The captioning panel of the tab Captions: a trial on three pictures, then a model writes the captions of a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from captioning.catalogue import MODELS
from captioning.tools import TOOLS
from engine.errors import PresetError, UserError
from ui import tool_handlers, tool_jobs, tool_panel
from ui.handlers import QUIET
from ui.language import say
from ui.words import escape

TOOL = "caption"
DOWNLOAD = "download"
TRIED_IMAGES = 3


@dataclass
class CaptionPanel:
    """The parts of the panel, and the tabs that it and the download of models are in."""

    tools: tool_panel.ToolPanel
    trial: gr.Button
    part: gr.Tab
    download: tool_panel.ToolPanel
    download_part: gr.Tab


def build(timers: Sequence[gr.Timer]) -> CaptionPanel:
    """Draw the two parts. Timers, one for each, stand outside of all tabs."""
    with gr.Tab("Let a model write", id="captioner", elem_id="part-captioner", render_children=True) as part:
        panel, trial = _captioner(timers[0])
    with gr.Tab("Get a model", id="download", elem_id="part-download", render_children=True) as download_part:
        gr.HTML(_known_models())
        words = tool_panel.Words("Ask the hub for its size", "Download", "Use this model", "Yes, download this.")
        download = tool_panel.build(DOWNLOAD, [DOWNLOAD], timers[1], words, {"network": True, "agreed_bytes": 0})
    return CaptionPanel(panel, trial, part, download, download_part)


def _captioner(timer: gr.Timer) -> tuple[tool_panel.ToolPanel, gr.Button]:
    trial = gr.Button(
        say("Try on {count} pictures", count=TRIED_IMAGES), elem_id="caption-try", min_width=170, render=False
    )
    labels = tool_panel.Words("Look which need one", "Write captions", queue="Add to queue")
    panel = tool_panel.build("caption", [TOOL], timer, labels, {"preview": 0}, trial)
    return panel, trial


def _known_models() -> str:
    """The models that are known to fit: for which captioner, from where, how large, under which licence."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(known.captioner)}</td><td>{escape(known.about)}</td>"
        f'<td class="number">{_size(known.rough_gb)}</td>'
        f"<td>{escape(known.licence)}</td><td><code>{escape(known.repository)}</code></td></tr>"
        for name, known in MODELS.items()
    )
    head = "<tr><th>Model</th><th>Captioner</th><th></th><th>Size</th><th>Licence</th><th>On the hub</th></tr>"
    about = (
        "A captioner needs the files of a model in one folder. If you have them, name that folder under “Let a model "
        "write”. If not, Atelier can fetch them from the Hugging Face hub; it asks before anything is downloaded. "
        "Without a network, copy the files from a machine that has one."
    )
    table = f'<table class="plain"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    summary = "<summary>Models that fit</summary>"
    return f'<div class="sheet"><p>{about}</p><details data-keep="models">{summary}{table}</details></div>'


def _size(rough_gb: float | None) -> str:
    return say("about {size} GB", size=f"{rough_gb:g}") if rough_gb else say("size not known")


def connect(panel: CaptionPanel, bridge: tool_panel.Bridge) -> list[tuple[dict[str, Any], gr.Tab]]:
    """Wire the panels; returns the looks at each, as `tool_panel.connect` does, and its tab."""
    tools = panel.tools
    looks = tool_panel.connect(tools, bridge)
    begun = [tools.message, tools.looked, tools.marks, tools.job, tools.done_rows.first]
    tried = panel.trial.click(_trier(tools), [bridge.given], begun, js=tool_panel.GIVEN, **QUIET)
    tried.then(**looks["mark"]).then(**looks["follow"])
    download = tool_panel.connect(panel.download, bridge, f"{tools.fields[TOOL].group}/model")
    return [(looks, panel.part), (download, panel.download_part)]


def _trier(tools: tool_panel.ToolPanel):
    """Begin a job that captions a few pictures and writes nothing."""

    def try_it(given: str) -> list[Any]:
        fields = tools.fields[TOOL]
        values = {**tools.values(TOOL, given), "preview": TRIED_IMAGES}
        try:
            settings = fields.settings(values)
            if problems := TOOLS[TOOL].propose(settings).problems:
                raise PresetError(problems)
            job = tool_jobs.start(TOOL, settings, None)
        except UserError as error:
            marks = json.dumps(tool_handlers.marks_of(fields, error.problems, values))
            return [tool_handlers.fault(fields.labelled(error.problems)), "", marks, gr.skip(), 0]
        marks = json.dumps(tool_handlers.marks_of(fields, (), values))
        return ["", "", marks, tool_handlers.job_update(tools, str(job.path)), 0]

    return try_it
