"""Tab "Sample": draw pictures with a finished LoRA. sample.js fills it, from what `sample_answers` tells."""

from __future__ import annotations

import gradio as gr

from engine.drawing.settings import BY_PATH, DRAWING_SETTINGS, GROUPS
from engine.settings import Setting
from ui import fields, sample_answers, sample_form, served_functions
from ui.language import say, word

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
_WITH_TOOLS = ("loras", "image")  # sample.js puts buttons below their fields


def build() -> gr.HTML:
    """Draw the tab."""
    script = "window.atelierForm.drawn(element); window.atelierSample.start(element, server)"
    return fields.html(_tab, "sample", js_on_load=script, server_functions=[sample])


def _tab() -> str:
    main = [item for item in DRAWING_SETTINGS if item.section in sample_form.MAIN and item.path not in _FIRST]
    first = _grid([*(BY_PATH[path] for path in _FIRST), *main])
    form = (
        f'<div id="sample-form"><div class="sheet sample-main">{first}'
        f'<div id="sample-sizes" class="sample-tools"></div></div>{"".join(map(_group, GROUPS))}'
        f'<a href="#" data-more="sample-form">{say("More settings")}</a></div>'
    )
    right = (
        f'<div id="sample-right"><button type="button" id="sample-draw" class="primary">{say("Generate")}</button>'
        f'<div id="sample-message"></div><div id="sample-live" data-key="{served_functions.KEY}"></div></div>'
    )
    return f'<div class="drawn"><div id="sample-body">{form}{right}</div><div id="sample-history"></div></div>'


def _group(group: str) -> str:
    items = [item for item in DRAWING_SETTINGS if item.section == group and item.path not in _FIRST]
    if group in sample_form.MAIN or not items:
        return ""
    level = " level-advanced" if all(item.level != "basic" for item in items) else ""
    tools = f'<div id="sample-{group}-tools" class="sample-tools"></div>' if group in _WITH_TOOLS else ""
    opened = " open" if group in _OPEN else ""
    head = f'<details class="section{level}" id="sample-{group}"{opened}><summary>{say(_TITLES[group])}</summary>'
    return f"{head}{_grid(items)}{tools}</details>"


def _grid(items: list[Setting]) -> str:
    places = ((item, fields.Place(f"{sample_form.KEY}.{item.path}", sample_form.KEY, item.path)) for item in items)
    return fields.grid(fields.field(item, place) for item, place in places)


def sample(asked: str) -> str:
    """One question of the tab, and its answer, both JSON."""
    return served_functions.answered(asked, sample_answers.answer)
