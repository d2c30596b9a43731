"""Tab "Run": one run followed live.

The browser draws it (run.js) from what `run_answers` tells: with Gradio's own timer and components each look at the run
costs the browser up to half a second of work.
"""

from __future__ import annotations

import gradio as gr

from ui import served_functions
from ui.run_answers import answer

LOOK = "() => window.atelierRun.look()"  # look at once, instead of with the next turn


def build_status() -> None:
    """Draw the line beside the program's name. It stands outside of all tabs and is what looks at the runs."""
    gr.HTML(
        f'<div id="status-line" data-key="{served_functions.KEY}"></div>',
        elem_id="status",
        js_on_load="window.atelierRun.start(element, server)",
        server_functions=[runs],
    )


def build() -> None:
    """Draw the tab: the places that run.js fills."""
    places = "".join(f'<div id="run-{name}"></div>' for name in ("message", "progress", "change", "curves", "samples"))
    gr.HTML(
        f'<div id="run-live" class="drawn"><div id="run-controls"></div>{places}'
        '<div class="two"><div id="run-checkpoints"></div><div id="run-log" class="sheet" hidden></div></div>'
        '<div id="run-timeline"></div></div>',
        elem_id="run",
    )


def runs(asked: str) -> str:
    """One question of the Run tab, and its answer, both JSON."""
    return served_functions.answered(asked, answer)
