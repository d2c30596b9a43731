"""Tab "Compare": choose what to compare, see what it takes, watch it, and look at what came of it.

comparing.js fills the form, comparing_job.js shows the comparisons, from what `comparing_answers` tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import gradio as gr

from engine.compare import COMPARISONS
from engine.compare.settings import AxisName
from engine.drawing.settings import GROUPS
from engine.settings import Setting
from ui import comparing_answers, fields, served_functions
from ui.comparing_form import AXES, DRAWING, FIELDS, FIRST_TOOL, KEY, OWN
from ui.comparing_view import NAMES
from ui.language import say, word
from ui.words import escape


@dataclass(frozen=True)
class AxisWords:
    """What an axis of a kind is called, how its values are written, and an example."""

    title: str
    help: str
    example: str = ""


KINDS: dict[AxisName, AxisWords] = {
    "none": AxisWords(word("Nothing"), ""),
    "checkpoint": AxisWords(
        word("Checkpoint (LoRA file)"),
        word(
            "One a line: a run's folder (all its checkpoints), any folder, a file, none, or a path with NUM in the "
            "place of a number and the numbers after a colon; without numbers all that are there."
        ),
        "runs/my-run\nloras/my-NUM.safetensors: 000001-000005",
    ),
    "strength": AxisWords(
        word("Strength of the LoRA"),
        word("Of the checkpoint on another axis, else of the first LoRA in the list. A range has its step last."),
        "0.2-1:0.2",
    ),
    "prompt": AxisWords(
        word("Words in the prompt"),
        word("The words to replace in the prompt, then what stands there instead, with commas or one a line."),
        "red, blue, green",
    ),
    "seed": AxisWords(word("Seed"), word("Whole numbers: single ones and ranges."), "1-4"),
    "cfg_scale": AxisWords(word("CFG scale"), word("Numbers: single ones and ranges with their step."), "4, 6, 8"),
    "steps": AxisWords(word("Sampling steps"), word("Whole numbers: single ones and ranges."), "10-50:10"),
    "sampler": AxisWords(
        word("Sampler"),
        word("Names of samplers, the noise levels behind where they are to change too."),
        "euler, dpmpp_2m karras",
    ),
    "size": AxisWords(word("Size"), word("Width x height in pixels."), "1024x1024, 832x1216"),
    "base_model": AxisWords(
        word("Base model"), word("Files or folders of SDXL models, one a line."), "model.safetensors"
    ),
    "setting": AxisWords(
        word("Any setting"),
        word("A setting's name (docs/sampling.md has them all), =, and its values."),
        "sampling.cfg_rescale = 0, 0.4, 0.7",
    ),
}
_GROUPS = {
    "picture": word("Picture"),
    "sampling": word("Sampling"),
    "model": word("Model"),
    "loras": word("LoRAs"),
    "image": word("Begin with a picture"),
    "hires": word("Hires fix"),
    "refiner": word("Refiner"),
    "tiling": word("Tiling"),
}
_FIRST = ("picture.prompt", "picture.negative", "model.base")  # shown; the others are folded


def build() -> gr.HTML:
    """Draw the tab."""
    script = "window.atelierForm.drawn(element); window.atelierComparing.start(element, server)"
    return fields.html(_tab, "comparing", js_on_load=script, server_functions=[compare])


def compare(asked: str) -> str:
    """One question of the tab, and its answer, both JSON."""
    return served_functions.answered(asked, comparing_answers.answer)


def _tab() -> str:
    own = "".join(_own(tool) for tool in COMPARISONS)
    first = fields.grid(_field(path) for path in _FIRST)
    form = (
        f'<div id="comparing-form" data-tool="{FIRST_TOOL}">{_start()}{own}'
        f'<div class="sheet">{first}</div>{_drawing()}'
        f'<a href="#" data-more="comparing-form">{say("More settings")}</a></div>'
    )
    right = (
        f'<div id="comparing-right"><div class="comparing-buttons">'
        f'<button type="button" id="comparing-start" class="primary">{say("Start comparing")}</button>'
        f'<button type="button" id="comparing-add">{say("Add to queue")}</button></div>'
        f'<div id="comparing-message"></div><div id="comparing-estimate" class="sheet"></div></div>'
    )
    kinds = {kind: [say(about.help) if about.help else "", about.example] for kind, about in KINDS.items()}
    told = f'data-key="{served_functions.KEY}" data-kinds="{escape(json.dumps(kinds))}"'
    return (
        f'<div class="drawn" id="comparing-root" {told}>{_tools()}<div id="comparing-body">{form}{right}</div>'
        '<div id="comparing-job"></div></div>'
    )


def _tools() -> str:
    choices = "".join(
        f'<label><input type="radio" name="comparing-tool" value="{tool}"{" checked" if tool == FIRST_TOOL else ""}>'
        f"<span>{say(NAMES[tool])}</span></label>"
        for tool in COMPARISONS
    )
    about = "".join(
        f'<p class="quiet" data-tool="{tool}"{"" if tool == FIRST_TOOL else " hidden"}>{say(module.ABOUT)}</p>'
        for tool, module in COMPARISONS.items()
    )
    group = f'role="radiogroup" aria-label="{say("What to compare")}"'
    return f'<div id="comparing-tools"><div class="choices" {group}>{choices}</div>{about}</div>'


def _start() -> str:
    """What the form can begin with; comparing.js lists runs and presets."""
    choose = escape(say("Choose…"))
    label, other = escape(say("Start from")), escape(say("path of a preset or model"))
    return (
        f'<div class="sheet comparing-from"><label class="label-text" for="comparing-from">{label}</label>'
        f'<p class="info-text">{say("Takes the drawing settings from there; of a run also its checkpoints.")}</p>'
        '<div class="entry"><select id="comparing-from"></select>'
        f'<span class="field path-file" id="step-comparing-source"><input type="text" placeholder="{other}" '
        f'aria-label="{other}" autocomplete="off" spellcheck="false">'
        f'<button type="button" class="choose-path" aria-label="{choose} {other}">{choose}</button></span>'
        f'<button type="button" id="comparing-take">{say("Use it")}</button></div></div>'
    )


def _own(tool: str) -> str:
    """The settings that only this tool has."""
    axes = "".join(map(_axis, AXES)) if tool == "compare" else ""
    rest = [f"{tool}.{name}" for name in OWN[tool] if name.split(".")[0] not in AXES]
    hidden = "" if tool == FIRST_TOOL else " hidden"
    return f'<div class="sheet comparing-own" data-tool="{tool}"{hidden}>{axes}{fields.grid(map(_field, rest))}</div>'


def _axis(axis: str) -> str:
    """What changes along an axis, beside the values; comparing.js gives help and example of the kind."""
    kind, values = (f"compare.{axis}.{name}" for name in ("kind", "values"))
    options = "".join(
        f'<option value="{name}">{escape(say(KINDS[name].title))}</option>' for name in get_args(AxisName)
    )
    where = say("{axis} axis", axis=axis.upper())
    about = {"x": word("columns"), "y": word("rows"), "z": word("a grid each")}[axis]
    return (
        f'<div class="comparing-axis" data-axis="{axis}"><div class="field" {_known(kind, "text")}>'
        f'<label class="label-text" for="entry-{_id(kind)}">{where} <span class="quiet">{say(about)}</span></label>'
        f'<div class="entry"><select id="entry-{_id(kind)}" data-entry>{options}</select></div></div>'
        f'<div class="field" {_known(values, "text")}>'
        f'<p class="info-text" id="help-{_id(values)}"></p><div class="entry"><textarea id="entry-{_id(values)}" '
        f'aria-label="{where}: {say("values")}" aria-describedby="help-{_id(values)}" data-entry rows="2" '
        'spellcheck="false"></textarea></div><div class="comparing-add-to" hidden></div></div></div>'
    )


def _known(name: str, kind: str) -> str:
    return f'id="{_id(name)}" data-group="{KEY}" data-name="{name}" data-kind="{kind}"'


def _id(name: str) -> str:
    return _place(name).id


def _place(name: str) -> fields.Place:
    return fields.Place(f"{KEY}.{name}", KEY, name)


def _field(name: str) -> str:
    return fields.field(FIELDS[name], _place(name))


def _drawing() -> str:
    """How pictures are drawn, folded."""
    parts = "".join(_group(group) for group in GROUPS if group in _GROUPS)
    about = '<span class="quiet" id="comparing-drawn-with"></span>'
    head = f"<summary>{say('How the pictures are drawn')} {about}</summary>"
    return f'<details class="section" id="comparing-drawing">{head}{parts}</details>'


def _group(group: str) -> str:
    items = [path for path, item in DRAWING.items() if item.section == group and path not in _FIRST]
    level = _level(DRAWING[path] for path in items)
    return f'<div class="section-part {level}"><h5>{say(_GROUPS[group])}</h5>{fields.grid(map(_field, items))}</div>'


def _level(items: Iterable[Setting]) -> str:
    return "level-advanced" if all(item.level != "basic" for item in items) else ""
