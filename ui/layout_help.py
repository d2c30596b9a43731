"""Help with the training folder: what it was understood as where it is no training folder yet, and the repair."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from captioning.layout import Layout, understand
from engine.data.folders import repeats_and_name
from engine.errors import UserError
from engine.preset import resolve
from ui.form import Form
from ui.handlers import QUIET
from ui.language import say
from ui.tool_panel import ToolPanel
from ui.words import escape

_REPEATS = 10  # what is filled in where no folder tells it
_ARRANGE = "arrange"


@dataclass
class LayoutHelp:
    row: gr.Row
    text: gr.HTML
    arrange: gr.Button
    deeper: gr.Button

    @property
    def outputs(self) -> list[Any]:
        return [self.row, self.text, self.arrange, self.deeper]


def build() -> LayoutHelp:
    """Draw the row, hidden until there is something to say."""
    with gr.Row(elem_id="layout-help", elem_classes="buttons confirm", visible=False) as row:
        text = gr.HTML(elem_id="layout-text")
        arrange = gr.Button("Arrange it …", variant="primary", elem_id="layout-arrange", min_width=130)
        deeper = gr.Button("Use that folder", variant="primary", elem_id="layout-deeper", min_width=150)
    return LayoutHelp(row, text, arrange, deeper)


def connect(shown: LayoutHelp, form: Form, parts: gr.Tabs, panel: ToolPanel, looks: dict[str, Any]) -> dict[str, Any]:
    """Wire it; returns the look at the folder. `looks`: what `tool_panel.connect` gave, and "form"."""
    folder = form.fields["data.folder"]
    look: dict[str, Any] = {"fn": _look, "inputs": [folder], "outputs": shown.outputs, **QUIET}
    getattr(folder, "change")(**look, trigger_mode="always_last")  # noqa: B009 - added at run time
    panel.ended.change(**look)
    shown.deeper.click(_deeper, [folder], [folder], **QUIET).then(**looks["form"]).then(**look)
    if _ARRANGE not in panel.names:
        return look
    fields = panel.fields[_ARRANGE].components
    filled = [parts, panel.tool, fields["folder"], fields["repeats"]]
    turned = shown.arrange.click(_fill, [folder], filled, **QUIET).then(**looks["show_tool"])
    turned.then(**looks["look"]).then(**looks["mark"]).then(**looks["follow"])
    return look


def sentence_of(layout: Layout) -> str:
    """What was understood, and what can be done, in HTML."""
    if _is_deeper(layout):
        return f"<p>{escape(layout.sentence)}</p>"
    what = say(
        "Atelier makes a training folder of it by links, without touching your files; you see everything before."
    )
    return f'<p>{escape(layout.sentence)} <span class="quiet">{what}</span></p>'


def layout_of(folder: str) -> Layout | None:
    """What a folder was understood as; None where it is a training folder, or nothing can be said."""
    path = resolve(folder) if folder else None
    if path is None or not path.is_dir() or _has_only_subsets(path):
        return None
    try:
        layout = understand(path)
    except (UserError, OSError):  # told by the plan beside the field
        return None
    is_as_it_should_be = layout.is_trainable and layout.training_folder == layout.folder
    return None if is_as_it_should_be else layout


def _has_only_subsets(path: Path) -> bool:
    """Whether every folder in it is named like 10_name, as is quickly seen."""
    try:
        names = [entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return False
    return bool(names) and all(repeats_and_name(name) is not None for name in names)


def _is_deeper(layout: Layout) -> bool:
    return layout.is_trainable and layout.training_folder is not None


def _look(folder: str) -> list[Any]:
    layout = layout_of(folder or "")
    if layout is None:
        return [gr.update(visible=False), "", gr.update(visible=False), gr.update(visible=False)]
    deeper = _is_deeper(layout)
    return [gr.update(visible=True), sentence_of(layout), gr.update(visible=not deeper), gr.update(visible=deeper)]


def _deeper(folder: str) -> Any:
    layout = layout_of(folder or "")
    return str(layout.training_folder) if layout is not None and layout.training_folder else gr.skip()


def _fill(folder: str) -> list[Any]:
    layout = layout_of(folder or "")
    told = layout is not None and any(subset.repeats for subset in layout.subsets)
    return [gr.Tabs(selected="prepare"), _ARRANGE, "", gr.skip() if told else _REPEATS]
