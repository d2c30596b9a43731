"""Tab "Captions": the workbench for captions, and the panel by which a model writes them.

The workbench is drawn by the browser (captions*.js) from what `captions_answers` tells it.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from ui import caption_panel, captions_answers, served_functions


def build(timers: Sequence[gr.Timer]) -> caption_panel.CaptionPanel:
    """Draw the tab; returns the captioner's panel. The timers stand outside of all tabs."""
    with gr.Tabs(elem_id="captions-parts", elem_classes="parts"):
        with gr.Tab("Read and edit", id="bench", elem_id="part-bench"):
            gr.HTML(
                f'<div id="bench" class="drawn" data-key="{served_functions.KEY}"></div>',
                elem_id="captions-bench",
                js_on_load="window.atelierBench.start(element, server)",
                server_functions=[captions],
            )
        return caption_panel.build(timers)


def captions(request: str) -> str:
    """One request of the workbench, and its answer, both JSON."""
    return served_functions.answered(request, captions_answers.answer)
