"""Tab "Training": every setting that is not on another tab, by section, in the order of engine/sections/."""

from __future__ import annotations

import gradio as gr

from engine.preset import SECTIONS, SETTINGS
from engine.settings import LEVELS
from ui import data_tab, forecast_panel
from ui.check import Check
from ui.data_page import problem_list
from ui.form import Form
from ui.language import say
from ui.words import escape

# What a section is about, after its name; a section that is not here is shown with its name alone.
_ABOUT = {
    "model": "what is trained on",
    "data": "size and shape of the pictures (the folders are on the tab Data set)",
    "captions": "how texts are read",
    "adapter": "the LoRA itself: its size and which parts of the model it changes",
    "optimizer": "how fast and in which rhythm it learns",
    "noise": "what the model practises on",
    "loss": "how mistakes count",
    "run": "name, length, batch, checkpoints",
    "sample": "preview pictures on the way",
    "validation": "the loss on pictures that are not trained, to see when it has learned enough",
    "memory": "precision and device",
    "logging": "what is recorded, and where",
    "sharing": "what the LoRA file tells about itself, and upload to the Hugging Face hub",
}
_LEVELS = [("Basic", "basic"), ("Advanced", "advanced"), ("Expert", "expert")]


Parts = tuple[gr.Radio, gr.HTML, gr.HTML, forecast_panel.ForecastPanel]


def build(form: Form, timer: gr.Timer) -> Parts:
    """Draw the tab; returns the level switch, the places for problems and the learning rate's picture, the forecast."""
    with gr.Row(elem_id="level-row", equal_height=True):
        level = gr.Radio(_LEVELS, value="basic", show_label=False, container=False, elem_id="level")
        gr.HTML(f'<span class="quiet">{_level_words()}</span>')
        tips = '<label class="quiet"><input type="checkbox" id="help-tips"> help as tooltips</label>'
        gr.HTML(tips, elem_id="help-switch", js_on_load="window.atelier.helpSwitch(element)")
    with gr.Row(elem_id="training-body", equal_height=False):
        gr.HTML(_section_list(), elem_id="section-list")
        with gr.Column(elem_id="training-sections"):
            problems = gr.HTML(elem_id="training-problems")
            forecast = forecast_panel.build(timer)
            rates = _sections(form)
    return level, problems, rates, forecast


def _sections(form: Form) -> gr.HTML:
    """Draw the sections; returns the place for the picture of the learning rate."""
    rates = None
    for section in SECTIONS:
        items = [item for item in SETTINGS if item.section == section and item.path not in data_tab.FIELDS]
        if not items:
            continue
        about = _ABOUT.get(section, "")
        title = say("{section} · {about}", section=section.capitalize(), about=about) if about else section.capitalize()
        with gr.Accordion(
            title, open=True, elem_id=f"section-{section}", elem_classes=["section", f"level-{_lowest(section)}"]
        ):
            with gr.Row(elem_classes="fields", equal_height=False):
                for item in items:
                    form.add(item.path)
            if section == "optimizer":
                rates = gr.HTML(elem_id="rate-chart")
    assert rates is not None
    return rates


def _section_list() -> str:
    """What stands beside the sections: a search over all settings, and a way to each section; sections.js fills it."""
    links = "".join(
        f'<a href="#" class="level-{_lowest(section)}" data-section="{section}" '
        f'title="{escape(_ABOUT.get(section, ""))}"><span>{section.capitalize()}</span><i></i></a>'
        for section in SECTIONS
    )
    find = '<input type="search" id="find-setting" placeholder="Find a setting" aria-label="Find a setting">'
    only = '<label><input type="checkbox" id="only-changed"> only what differs from the preset</label>'
    return f'<nav class="sections">{find}{only}<p id="find-count" class="quiet" hidden></p>{links}</nav>'


def _lowest(section: str) -> str:
    """The level from which on a section shows anything on this tab."""
    items = [item for item in SETTINGS if item.section == section and item.path not in data_tab.FIELDS]
    return min((item.level for item in items), key=LEVELS.index, default=LEVELS[0])


def problems_of(check: Check) -> str:
    """All problems of settings, and the warnings about them, above the form."""
    return problem_list([item for item in check.problems if "." in item.where], "problem") + problem_list(
        [item for item in check.warnings if item.where.split(".")[0] in SECTIONS], "warning"
    )


def _level_words() -> str:
    counts = {level: sum(item.level == level for item in SETTINGS) for level in LEVELS}
    return say(
        "Basic shows {basic} settings and is enough for a good LoRA; {advanced} more are advanced, {expert} are for "
        "experts. Hidden ones keep their values.",
        **counts,
    )
