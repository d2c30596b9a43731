"""Tab "Training": every setting that is not on another tab, by section, in the order of engine/sections/."""

from __future__ import annotations

import gradio as gr

from engine.preset import SECTIONS, SETTINGS
from engine.settings import LEVELS, Setting
from ui import data_tab, fields, forecast_panel
from ui.check import Check
from ui.data_page import problem_list
from ui.language import say, word
from ui.words import escape

# What a section is about, after its name; a section that is not here is shown with its name alone.
_ABOUT = {
    "model": word("what is trained on"),
    "data": word("size and shape of the pictures (the folders are on the tab Data set)"),
    "captions": word("how texts are read"),
    "adapter": word("the LoRA itself: its size and which parts of the model it changes"),
    "optimizer": word("how fast and in which rhythm it learns"),
    "noise": word("what the model practises on"),
    "loss": word("how mistakes count"),
    "run": word("name, length, batch, checkpoints"),
    "sample": word("preview pictures on the way"),
    "validation": word("the loss on pictures that are not trained, to see when it has learned enough"),
    "memory": word("precision and device"),
    "logging": word("what is recorded, and where"),
    "sharing": word("what the LoRA file tells about itself, and upload to the Hugging Face hub"),
}
_LEVELS = {"basic": word("Basic"), "advanced": word("Advanced"), "expert": word("Expert")}


def build() -> gr.HTML:
    """Draw the tab."""
    return fields.html(
        _tab, "training", js_on_load="window.atelier.helpSwitch(element); window.atelierForm.drawn(element)"
    )


def _tab() -> str:
    sections = "".join(map(_section, SECTIONS))
    tips = f'<label class="quiet"><input type="checkbox" id="help-tips"> {say("help as tooltips")}</label>'
    return (
        '<div class="drawn">'
        f'<div id="level-row">{_level_switch()}<span class="quiet">{_level_words()}</span>{tips}</div>'
        f'<div id="training-body"><div id="section-list">{_section_list()}</div><div id="training-sections">'
        f'<div id="training-problems"></div>{forecast_panel.drawn()}{sections}</div></div></div>'
    )


def _items(section: str) -> list[Setting]:
    return [item for item in SETTINGS if item.section == section and item.path not in data_tab.FIELDS]


def _section(section: str) -> str:
    """A section with its fields; that of the optimizer ends with the picture of the learning rate."""
    items = _items(section)
    if not items:
        return ""
    name, about = escape(say(section.capitalize())), _ABOUT.get(section, "")
    title = say("{section} · {about}", section=name, about=escape(say(about))) if about else name
    more = '<div id="rate-chart"></div>' if section == "optimizer" else ""
    return (
        f'<details open class="section level-{_lowest(section)}" id="section-{section}"><summary>{title}</summary>'
        f"{fields.of_form(items)}{more}</details>"
    )


def _level_switch() -> str:
    choices = "".join(
        f'<label><input type="radio" name="level" value="{level}"><span>{escape(say(title))}</span></label>'
        for level, title in _LEVELS.items()
    )
    return f'<div id="level" role="radiogroup">{choices}</div>'


def _section_list() -> str:
    """What stands beside the sections: a search over all settings, and a way to each section; sections.js fills it."""
    links = "".join(
        f'<a href="#" class="level-{_lowest(section)}" data-section="{section}" '
        f'title="{escape(say(_ABOUT.get(section, "")))}"><span>{escape(say(section.capitalize()))}</span><i></i></a>'
        for section in SECTIONS
    )
    name = escape(say("Find a setting"))
    find = f'<input type="search" id="find-setting" placeholder="{name}" aria-label="{name}">'
    only = f'<label><input type="checkbox" id="only-changed"> {say("only what differs from the preset")}</label>'
    return f'<nav class="sections">{find}{only}<p id="find-count" class="quiet" hidden></p>{links}</nav>'


def _lowest(section: str) -> str:
    """The level from which on a section shows anything on this tab."""
    return min((item.level for item in _items(section)), key=LEVELS.index, default=LEVELS[0])


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
