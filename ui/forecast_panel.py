"""The part of the tab Training that looks ahead: the forecast, "measure now", and "make it fit". See forecast.js."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.cards import cards
from engine.errors import Problem, UserError
from engine.fit import Fit
from engine.forecast_commands import fit_into
from engine.forecast_words import change_words, fit_lines, rows
from engine.sentence import card_gb
from ui import form as forms
from ui import last, measuring
from ui.check import Check, check
from ui.data_page import problem_list
from ui.language import say
from ui.told import retold
from ui.words import escape

_USUAL_GB = 12
Asked = Mapping[str, Any]
Answer = dict[str, Any]


def drawn() -> str:
    """The part as HTML; form.js fills in the table, forecast.js the rest."""
    card = next(iter(cards()), None)
    gb = card_gb(card.memory_bytes) if card else _USUAL_GB
    memory = escape(say("Card's memory in GB"))
    buttons = (
        f'<button type="button" id="measure">{say("Measure three steps now")}</button>'
        f'<button type="button" id="measure-cancel" hidden>{say("Cancel")}</button>'
        f'<label id="fit-gb">{memory} <input type="number" min="1" value="{gb}"></label>'
        f'<button type="button" id="fit">{say("Make it fit")}</button>'
    )
    after = (
        f'<button type="button" id="fit-apply" class="primary" hidden>{say("Apply what is ticked")}</button>'
        f'<button type="button" id="fit-undo" hidden>{say("Undo")}</button>'
    )
    return (
        f'<div id="forecast-panel" class="sheet"><h4>{say("Forecast")}</h4><div id="forecast"></div>'
        f'<div class="buttons">{buttons}</div><div id="forecast-message" role="status"></div>'
        f'<div id="fit-changes" hidden></div><div class="buttons">{after}</div></div>'
    )


def table(found: Check) -> str:
    """The forecast as rows; empty while something is missing."""
    if found.preset is None or found.plan is None or not found.plan.steps:
        return f'<p class="quiet">{say("Known as soon as model and pictures are chosen.")}</p>'
    lines = rows(found.preset, found.plan, found.forecast)
    body = "".join(f"<tr><th>{escape(say(what))}</th><td>{escape(retold(words))}</td></tr>" for what, words in lines)
    return f'<table class="plain forecast"><tbody>{body}</tbody></table>'


def measure(_: Asked, content: Asked) -> Answer:
    """Begin to measure three steps of what the form says."""
    found = check(content)
    if found.preset is None or found.problems:
        return {"message": problem_list(found.problems, "problem"), "goes_on": False}
    try:
        measuring.start(found.preset)
    except UserError as error:
        return {"message": problem_list(error.problems, "problem"), "goes_on": measuring.goes_on()}
    return measured(_, content)


def cancel(_: Asked, content: Asked) -> Answer:
    measuring.cancel()
    return measured(_, content)


def measured(_: Asked, __: Asked) -> Answer:
    """How a measurement goes: {"message", "goes_on"}."""
    seen = measuring.look()
    style = "fault" if seen.is_fault else "quiet" if seen.goes_on else "done"
    message = f'<p class="{style}">{escape(seen.words)}</p>' if seen.words else ""
    return {"message": message, "goes_on": seen.goes_on}


def propose(asked: Asked, content: Asked) -> Answer:
    """What makes the form fit into "gb": {"message", "changes": [[words, values as JSON]]}, each to be ticked."""
    found = check(content)
    if found.preset is None or found.plan is None or not found.plan.steps:
        return {"message": problem_list(found.problems, "problem"), "changes": []}
    try:
        answer = fit_into(found.preset, found.plan, float(asked.get("gb") or 0))
    except (UserError, TypeError, ValueError):
        sentence = say("Give the card's memory as a number of GB, from 1.")
        return {"message": problem_list([Problem("", sentence)], "problem"), "changes": []}
    lines = [retold(line) for line in fit_lines(answer)]
    first, end = lines[0], lines[-1] if answer.changes else ""
    message = f'<p class="{"done" if answer.fits else "fault"}">{escape(first)} {escape(end)}</p>'
    return {"message": message, "changes": _choices(answer)}


def _choices(answer: Fit) -> list[list[str]]:
    return [[retold(change_words(change)), json.dumps(dict(change.values))] for change in answer.changes]


def apply(asked: Asked, content: Asked) -> Answer:
    """The ticked "changes" go into the form; that before is kept, as before a preset is loaded. Raises UserError."""
    values = {path: value for text in asked.get("changes") or () for path, value in json.loads(text).items()}
    changed = check(content).preset
    if changed is None:
        raise UserError(say("the form was changed and has faults now. Mend them, then ask again."))
    changed = changed.changed(values)
    last.keep_before(content)
    done = say("Applied. The bar below tells what the run takes now.")
    return {"message": f'<p class="done">{done}</p>', "shown": forms.show_all(changed)}


def undo(_: Asked, __: Asked) -> Answer:
    """The form as it was before the changes."""
    before = last.before()
    if before is None:
        return {"message": ""}
    return {"message": f'<p class="done">{say("The form is as before.")}</p>', "shown": forms.show_content(before)}
