"""The walk of the first visit: base model, pictures, recipe, start. Drawn by the browser (first_steps.js).

It fills the fields of the form, as loading a preset does; checks, forecast and marks follow from that. What is told of
a model or folder before that comes from first_steps_answers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ui import first_steps_answers, last, preset_files, served_functions
from ui import form as forms

FIELDS = first_steps_answers.FIELDS  # what the walk calls a setting


def build_button() -> None:
    """Draw the button in the header that opens the walk again."""
    gr.HTML('<button type="button" id="first-steps-open">First steps</button>', elem_id="first-steps-button")


def build() -> None:
    """Draw the place of the walk, above all tabs; empty until the browser opens it."""
    gr.HTML(
        f'<div id="first-steps" class="drawn" data-key="{served_functions.KEY}"></div>',
        elem_id="first-steps-place",
        js_on_load="window.atelierFirstSteps.start(element, server)",
        server_functions=[first_steps],
    )


def first_steps(asked: str) -> str:
    """One question of the walk, and its answer, both JSON."""
    return served_functions.answered(asked, first_steps_answers.answer)


def fill(asked: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with both paths goes into the form, which is kept before, as before a load. Raises UserError."""
    values = {path: asked[name] for name, path in FIELDS.items() if isinstance(asked.get(name), str)}
    recipe = str(asked.get("recipe") or "")
    wanted = first_steps_answers.with_recipe(preset_files.load_listed(recipe), content, values)
    last.keep_before(content)
    last.keep_loaded(wanted)
    return {"message": "", "preset": recipe, "shown": forms.show_content(wanted), "edited": ""}
