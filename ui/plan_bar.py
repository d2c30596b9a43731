"""The bar at the bottom of every tab: what will be trained in one sentence, what is in the way, and Start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import gradio as gr

from engine.errors import Problem, UserError
from engine.preset import BY_PATH
from ui import fields, measuring, run_list
from ui.check import Check, check
from ui.data_page import problem_list
from ui.language import say
from ui.told import retold
from ui.words import escape, place, plural

MOST_BLOCKING = 20  # problems that the walk of the first visit lists


def build() -> gr.HTML:
    """Draw the bar; form.js fills it and hears its buttons."""
    return fields.html(_bar, "plan-bar")


def _bar() -> str:
    buttons = (
        f'<button type="button" id="queue-add">{say("Add to queue")}</button>'
        f'<button type="button" id="start" class="primary">{say("Start training")}</button>'
    )
    return (
        '<div class="drawn"><div id="start-message" role="status"></div>'
        f'<div class="row"><div id="plan-sentence"></div>{buttons}</div></div>'
    )


def start(_: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Start names everything that is in its way; otherwise the run begins and the page turns to it."""
    found: Check = check(content, anew=True)
    if found.preset is None or found.problems:
        return {"message": blocked(found.problems)}
    if measuring.goes_on():
        sentence = say("three steps are being measured now. Wait for them, or cancel on the tab Training.")
        return {"message": blocked([Problem("", sentence)])}
    try:
        run_list.start(found.preset)
    except UserError as error:
        return {"message": blocked(error.problems)}
    return {"message": "", "tab": "run"}


def sentence(check: Check) -> str:
    """What will be trained, or how much is in the way of it."""
    if check.problems:
        first = check.problems[0]
        count = plural(len(check.problems), "thing")
        where = f'<a href="#" data-field="{escape(first.where)}">' if first.where in BY_PATH else "<a>"
        label = escape(place(first.where))
        more = " · " + say("and {count} more", count=len(check.problems) - 1) if len(check.problems) > 1 else ""
        what = f"<b>{say('{things} to correct before training can start', things=count)}</b>"
        return f'<div class="plan blocked">{what}<p>{where}{label}</a> {escape(retold(first.message))}{more}</p></div>'
    notes = [_model(check), plural(len(check.warnings), "warning") if check.warnings else ""]
    note = escape(" · ".join(filter(None, notes)))
    text = escape(check.sentence)
    return f'<div class="plan"><b>{say("Will be trained")}</b> <span class="quiet">{note}</span><p>{text}</p></div>'


def _model(check: Check) -> str:
    """What the base model was recognized as: "on model.safetensors, SDXL base, epsilon prediction"."""
    model = check.plan.model if check.plan else None
    if model is None:
        return ""
    snr = say(", zero-terminal SNR") if model.zero_terminal_snr else ""
    kind = {"name": model.path.name, "kind": model.kind, "prediction": model.prediction.replace("_", "-")}
    return say("on {name}: SDXL {kind}, {prediction} prediction", **kind) + snr


def marks(check: Check, changed: Mapping[str, Any]) -> dict[str, Any]:
    """For page.js: the sentences beside each field, what makes no sense now, what is not as in the preset.

    `changed`: by setting what the preset has there (`field_reset.changed`). The sentence of the run, and what is in its
    way, go along.
    """
    beside: dict[str, list[str]] = {}
    for problem in check.problems:
        if problem.where in BY_PATH:
            beside.setdefault(problem.where, []).append(retold(problem.message))
    told = {"sentence": check.sentence, "blocking": blocking(check)}
    return {"problems": beside, "off": check.off, "changed": changed, **told}


def blocking(check: Check) -> list[dict[str, str]]:
    """What is in the way of a start, for the walk of the first visit: setting ("" for a file), its name, sentence."""
    return [
        {
            "field": item.where if item.where in BY_PATH else "",
            "label": place(item.where),
            "message": retold(item.message),
        }
        for item in check.problems[:MOST_BLOCKING]
    ]


def blocked(problems: Iterable[Problem]) -> str:
    """Why Start did not start, all reasons at once."""
    listed = list(problems)
    return f'<div class="fault"><p>{say("Not started. Please correct:")}</p>{problem_list(listed, "problem")}</div>'
