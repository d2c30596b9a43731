"""The part of the tab Training that looks ahead: the forecast, "measure now", and "make it fit"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engine.cards import cards
from engine.errors import PresetError, Problem, UserError
from engine.fit import Fit
from engine.forecast_commands import fit_into
from engine.forecast_words import change_words, fit_lines, rows
from engine.sentence import card_gb
from ui import form as forms
from ui import last, measuring
from ui.check import Check, check
from ui.data_page import problem_list
from ui.form import Form
from ui.handlers import QUIET
from ui.language import say
from ui.told import retold
from ui.words import escape

TICK_SECONDS = 1.0
_USUAL_GB = 12


@dataclass
class ForecastPanel:
    forecast: gr.HTML
    measure: gr.Button
    cancel: gr.Button
    gb: gr.Number
    fit: gr.Button
    message: gr.HTML
    changes: gr.CheckboxGroup
    apply: gr.Button
    undo: gr.Button
    timer: gr.Timer


def build(timer: gr.Timer) -> ForecastPanel:
    """Draw the part. The timer stands outside of all tabs."""
    card = next(iter(cards()), None)
    gb = float(card_gb(card.memory_bytes)) if card else _USUAL_GB
    with gr.Column(elem_id="forecast-panel", elem_classes="sheet"):
        gr.HTML("<h4>Forecast</h4>")
        forecast = gr.HTML(elem_id="forecast")
        with gr.Row(elem_classes="buttons", equal_height=True):
            measure = gr.Button("Measure three steps now", elem_id="measure", min_width=200, scale=0)
            cancel = gr.Button("Cancel", visible=False, elem_id="measure-cancel", min_width=120, scale=0)
            number = gr.Number(gb, label="Card's memory in GB", minimum=1, elem_id="fit-gb", min_width=120, scale=0)
            fit = gr.Button("Make it fit", elem_id="fit", min_width=140, scale=0)
        message = gr.HTML(elem_id="forecast-message")
        changes = gr.CheckboxGroup([], visible=False, show_label=False, container=False, elem_id="fit-changes")
        with gr.Row(elem_classes="buttons"):
            apply = gr.Button("Apply what is ticked", variant="primary", visible=False, elem_id="fit-apply", scale=0)
            undo = gr.Button("Undo", visible=False, elem_id="fit-undo", scale=0)
    return ForecastPanel(forecast, measure, cancel, number, fit, message, changes, apply, undo, timer)


def connect(panel: ForecastPanel, form: Form, check_after: dict[str, Any]) -> None:
    """Wire the buttons. `check_after` is the look at the form that follows a change."""
    followed = [panel.message, panel.timer, panel.measure, panel.cancel]
    panel.measure.click(_measure, form.inputs, followed, **QUIET)
    panel.cancel.click(_cancel, None, followed, **QUIET)
    ended = panel.timer.tick(_follow, None, followed, **QUIET)
    ended.then(_show_forecast, form.inputs, [panel.forecast], **QUIET)
    proposed = [panel.message, panel.changes, panel.apply, panel.undo]
    panel.fit.click(_propose, [panel.gb, *form.inputs], proposed, **QUIET)
    applied = panel.apply.click(_apply, [panel.changes, *form.inputs], [*proposed, *form.inputs], **QUIET)
    undone = panel.undo.click(_undo, form.inputs, [*proposed, *form.inputs], **QUIET)
    for event in (applied, undone):
        event.then(**check_after)


def table(found: Check) -> str:
    """The forecast as rows; empty while something is missing."""
    if found.preset is None or found.plan is None or not found.plan.steps:
        return f'<p class="quiet">{say("Known as soon as model and pictures are chosen.")}</p>'
    lines = rows(found.preset, found.plan, found.forecast)
    body = "".join(f"<tr><th>{escape(say(what))}</th><td>{escape(retold(words))}</td></tr>" for what, words in lines)
    return f'<table class="plain forecast"><tbody>{body}</tbody></table>'


def _show_forecast(*shown: Any) -> Any:
    return gr.skip() if measuring.goes_on() else table(check(forms.read_all(shown)))


def _measure(*shown: Any) -> list[Any]:
    found = check(forms.read_all(shown))
    if found.preset is None or found.problems:
        return _told(problem_list(found.problems, "problem"), False)
    try:
        measuring.start(found.preset)
    except UserError as error:
        return _told(problem_list(error.problems, "problem"), measuring.goes_on())
    return _follow()


def _cancel() -> list[Any]:
    measuring.cancel()
    return _follow()


def _follow() -> list[Any]:
    seen = measuring.look()
    style = "fault" if seen.is_fault else "quiet" if seen.goes_on else "done"
    return _told(f'<p class="{style}" role="status">{escape(seen.words)}</p>' if seen.words else "", seen.goes_on)


def _told(message: str, goes_on: bool) -> list[Any]:
    return [message, gr.Timer(active=goes_on), gr.update(interactive=not goes_on), gr.update(visible=goes_on)]


def _propose(gb: float | None, *shown: Any) -> list[Any]:
    """What makes the form fit, each change to be ticked."""
    found = check(forms.read_all(shown))
    hidden = [gr.update(visible=False)] * 3
    if found.preset is None or found.plan is None or not found.plan.steps:
        return [problem_list(found.problems, "problem"), *hidden]
    try:
        answer = fit_into(found.preset, found.plan, float(gb or 0))
    except UserError:
        return [
            problem_list([Problem("", say("Give the card's memory as a number of GB, from 1."))], "problem"),
            *hidden,
        ]
    lines = [retold(line) for line in fit_lines(answer)]
    first, end = lines[0], lines[-1] if answer.changes else ""
    message = f'<p class="{"done" if answer.fits else "fault"}">{escape(first)} {escape(end)}</p>'
    if not answer.changes:
        return [message, *hidden]
    choices = _choices(answer)
    return [
        message,
        gr.update(choices=choices, value=[value for _, value in choices], visible=True),
        gr.update(visible=True),
        gr.update(visible=False),
    ]


def _choices(answer: Fit) -> list[tuple[str, str]]:
    return [(retold(change_words(change)), json.dumps(dict(change.values))) for change in answer.changes]


def _apply(ticked: list[str] | None, *shown: Any) -> list[Any]:
    """The ticked changes go into the form; the form before is kept, as before a preset is loaded."""
    nothing = [gr.skip()] * len(shown)
    present = forms.read_all(shown)
    try:
        values = {path: value for text in ticked or () for path, value in json.loads(text).items()}
        changed = check(present).preset
        if changed is None:
            raise UserError(say("the form was changed and has faults now. Mend them, then ask again."))
        changed = changed.changed(values)
        last.keep_before(present)
    except (PresetError, UserError) as error:
        return [problem_list(error.problems, "problem"), gr.skip(), gr.skip(), gr.skip(), *nothing]
    message = f'<p class="done">{say("Applied. The bar below tells what the run takes now.")}</p>'
    hidden = gr.update(visible=False)
    return [message, hidden, hidden, gr.update(visible=True), *forms.show_all(changed)]


def _undo(*shown: Any) -> list[Any]:
    """The form as it was before the changes."""
    before = last.before()
    hidden = gr.update(visible=False)
    if before is None:
        return ["", hidden, hidden, hidden, *[gr.skip()] * len(shown)]
    message = f'<p class="done">{say("The form is as before.")}</p>'
    return [message, hidden, hidden, hidden, *forms.show_content(before)]
