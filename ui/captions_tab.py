"""Tab "Captions": the workbench for captions, and the panel by which a model writes them.

The workbench is drawn by the browser (captions*.js) from what `captions_answers` tells it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

import gradio as gr

from ui import caption_panel, captions_answers

# Known to pages that this program sent only: another site that a browser visits cannot make it write captions.
_KEY = secrets.token_urlsafe(16)


def build(timers: Sequence[gr.Timer]) -> caption_panel.CaptionPanel:
    """Draw the tab; returns the captioner's panel. The timers stand outside of all tabs."""
    with gr.Tabs(elem_id="captions-parts", elem_classes="parts"):
        with gr.Tab("Read and edit", id="bench", elem_id="part-bench"):
            gr.HTML(
                f'<div id="bench" data-key="{_KEY}"></div>',
                elem_id="captions-bench",
                js_on_load="window.atelierBench.start(element, server)",
                server_functions=[captions],
            )
        return caption_panel.build(timers)


def captions(request: str) -> str:
    """One request of the workbench, and its answer, both JSON."""
    asked = json.loads(request)
    if not secrets.compare_digest(str(asked.get("key")).encode(), _KEY.encode()):
        return json.dumps({"error": "this page is older than the program that it speaks with. Load it again."})
    return json.dumps(captions_answers.answer(asked))
