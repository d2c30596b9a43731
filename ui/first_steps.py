"""The walk of the first visit: base model, pictures, recipe, start. Drawn by the browser (first_steps.js).

It fills the fields of the form, as loading a preset does; checks, forecast and marks follow from that. What is told of
a model or folder before that comes from first_steps_answers.py.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from engine.errors import UserError
from engine.preset import SETTINGS
from ui import first_steps_answers, last, preset_files, served_functions
from ui import form as forms
from ui.data_page import problem_list
from ui.form import Form
from ui.handlers import QUIET

FIELDS = first_steps_answers.FIELDS  # what the walk calls a setting


def build_button() -> None:
    """Draw the button in the header that opens the walk again."""
    gr.HTML('<button type="button" id="first-steps-open">First steps</button>', elem_id="first-steps-button")


def build() -> gr.HTML:
    """Draw the place of the walk, above all tabs; empty until the browser opens it."""
    return gr.HTML(
        f'<div id="first-steps" class="drawn" data-key="{served_functions.KEY}"></div>',
        elem_id="first-steps-place",
        js_on_load="window.atelierFirstSteps.start(element, server, trigger)",
        server_functions=[first_steps],
    )


def connect(place: gr.HTML, form: Form, shown: list[Any], look: dict[str, Any]) -> Any:
    """Wire it. `shown`: the places for a message and for the chosen preset. Returns the event, for what follows."""
    filled = getattr(place, "submit")(fill, form.inputs, [*shown, *form.inputs], **QUIET)  # noqa: B009
    return filled.then(**look)


def first_steps(asked: str) -> str:
    """One question of the walk, and its answer, both JSON."""
    return served_functions.answered(asked, first_steps_answers.answer)


def fill(wanted: gr.EventData, *shown: Any) -> list[Any]:
    """A path, or a recipe with both paths, goes into the form; before a recipe the form is kept, as before a load."""
    given = {path: getattr(wanted, name, None) for name, path in FIELDS.items()}
    values = {path: value for path, value in given.items() if isinstance(value, str)}
    recipe = getattr(wanted, "recipe", None)
    if not isinstance(recipe, str):
        fields = (forms.show(item, values[item.path]) if item.path in values else gr.skip() for item in SETTINGS)
        return [gr.skip(), gr.skip(), *fields, gr.skip(), gr.skip()]
    present = forms.read_all(shown)
    try:
        content = first_steps_answers.with_recipe(preset_files.load_listed(recipe), present, values)
        last.keep_before(present)
        last.keep_loaded(content)
    except UserError as error:
        return [problem_list(error.problems, "problem"), gr.skip(), *[gr.skip()] * len(shown)]
    return ["", recipe, *forms.show_content(content)]
