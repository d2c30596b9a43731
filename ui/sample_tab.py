"""Tab "Sample": draw pictures with a finished LoRA.

The form is Gradio's, made of the settings of a picture (sample_form.py). What is drawn now and all pictures that were
are the browser's (sample.js), from what `sample_answers` tells.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engine.drawing.desk import desk
from engine.drawing.plan import plan_drawing
from engine.drawing.settings import DRAWING_SETTINGS, GROUPS, build
from engine.errors import UserError
from engine.preset import load
from ui import run_list, sample_answers, sample_form, served_functions
from ui.data_page import problem_list
from ui.drawing_view import view_of
from ui.handlers import QUIET
from ui.language import say, word
from ui.sample_form import SampleForm

LOOK = "() => window.atelierSample.look()"
_SHOW_MARKS = "(marks) => window.atelier.showMarks(marks)"
_TITLES = {
    "loras": word("LoRAs"),
    "image": word("Begin with a picture"),
    "hires": word("Hires fix"),
    "refiner": word("Refiner"),
    "model": word("Model"),
    "tiling": word("Tiling"),
    "preview": word("Preview"),
}
_OPEN = ("loras",)
_FIRST = ("picture.prompt", "picture.negative", "model.base")


@dataclass
class SampleTab:
    form: SampleForm
    draw: gr.Button
    message: gr.HTML
    place: gr.HTML
    marks: gr.Textbox


def build_tab() -> SampleTab:
    """Draw the tab."""
    form = SampleForm()
    with gr.Row(elem_id="sample-body", equal_height=False):
        with gr.Column(elem_id="sample-form"):
            _fields(form)
        with gr.Column(elem_id="sample-right"):
            draw = gr.Button("Generate", variant="primary", elem_id="sample-draw")
            message = gr.HTML(elem_id="sample-message")
            place = gr.HTML(
                f'<div id="sample-live" class="drawn" data-key="{served_functions.KEY}"></div>',
                elem_id="sample-place",
                js_on_load="window.atelierSample.start(element, server, trigger)",
                server_functions=[sample],
            )
    gr.HTML('<div id="sample-history" class="drawn"></div>', elem_id="sample-pictures")
    marks = gr.Textbox(visible="hidden", elem_id="sample-marks")
    return SampleTab(form, draw, message, place, marks)


def _fields(form: SampleForm) -> None:
    with gr.Column(elem_classes=["sheet", "sample-main"]):
        with gr.Row(elem_classes="fields", equal_height=False):
            for path in _FIRST:
                form.add(path)
            for item in DRAWING_SETTINGS:
                if item.section in sample_form.MAIN and item.path not in _FIRST:
                    form.add(item.path)
        gr.HTML('<div id="sample-sizes" class="drawn sample-tools"></div>')
    for group in GROUPS:
        items = [item for item in DRAWING_SETTINGS if item.section == group and item.path not in _FIRST]
        if group in sample_form.MAIN or not items:
            continue
        is_advanced = all(item.level != "basic" for item in items)
        classes = ["section", "level-advanced"] if is_advanced else ["section"]
        with gr.Accordion(_TITLES[group], open=group in _OPEN, elem_id=f"sample-{group}", elem_classes=classes):
            with gr.Row(elem_classes="fields", equal_height=False):
                for item in items:
                    form.add(item.path)
            if group in ("loras", "image"):
                gr.HTML(f'<div id="sample-{group}-tools" class="drawn sample-tools"></div>')
    gr.HTML('<a href="#" data-more="sample-form">More settings</a>', elem_id="sample-more")


def connect(tab: SampleTab, arrived: Any) -> None:
    """Wire the tab. `arrived`: the event after which the form is filled as it was left."""
    form = tab.form
    look: dict[str, Any] = {"fn": _look, "inputs": form.inputs, "outputs": [tab.marks], **QUIET}
    show: dict[str, Any] = {"fn": None, "inputs": [tab.marks], "js": _SHOW_MARKS, "api_visibility": "private"}
    gr.on(form.triggers, trigger_mode="always_last", **look).then(**show)
    asked = tab.draw.click(_draw, form.inputs, [tab.message, tab.marks], **QUIET)
    asked.then(**show).then(None, js=LOOK, api_visibility="private")
    filled = getattr(tab.place, "submit")(_fill, form.inputs, [tab.message, *form.inputs], **QUIET)  # noqa: B009
    filled.then(**look).then(**show)
    arrived.then(_arrive, None, form.inputs, **QUIET).then(**look).then(**show)


def sample(asked: str) -> str:
    """One question of the tab, and its answer, both JSON."""
    return served_functions.answered(asked, sample_answers.answer)


def _arrive() -> list[Any]:
    return sample_form.show_content(sample_form.recall())


def _look(*shown: Any) -> str:
    """After each change: keep the form, and mark what is wrong in it."""
    content = sample_form.read_all(shown)
    with contextlib.suppress(UserError):  # a disk that refuses this is told when pictures are asked for
        sample_form.remember(content)
    return sample_form.marks(content, sample_form.problems(content))


def _draw(*shown: Any) -> list[Any]:
    """Ask for the pictures of the form, or say everything that is in the way."""
    content = sample_form.read_all(shown)
    try:
        preset = build(content)
        sample_form.remember(content)
        plan_drawing(preset)  # names all that is wrong with its files
        view_of(desk()).ask(preset)
    except UserError as error:
        found = list(error.problems)
        told = problem_list(sample_form.labelled(found), "problem")
        marks = sample_form.marks(content, found)
        return [f'<div class="fault"><p>{say("Not started. Please correct:")}</p>{told}</div>', marks]
    return ["", sample_form.marks(content, [])]


def _fill(wanted: gr.EventData, *shown: Any) -> list[Any]:
    """What the browser puts into the form: settings of a picture, a size, a LoRA, or all for a run's checkpoint."""
    values = getattr(wanted, "values", None)
    lora, run = getattr(wanted, "lora", None), getattr(wanted, "run", None)
    new: dict[str, Any] = dict(values) if isinstance(values, dict) else {}
    present = sample_form.read_all(shown)
    try:
        if isinstance(lora, str) and run:
            new |= _for_checkpoint(lora)
        elif isinstance(lora, str):
            new["loras.files"] = sample_form.with_lora(str(present["loras"]["files"]), lora)
    except UserError as error:
        return [problem_list(error.problems, "problem"), *[gr.skip()] * len(shown)]
    return ["", *sample_form.updates(new)]


def _for_checkpoint(path: str) -> dict[str, Any]:
    for run in run_list.all_runs():
        if path in {str(file) for file in run.checkpoints.glob("*.safetensors")}:
            return sample_form.for_run(load(run.preset), path)
    raise UserError(say("There is no such run any more."))
