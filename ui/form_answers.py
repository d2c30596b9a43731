"""What the form asks the page's program (form.js and the scripts of its tabs), and the answers.

A question is {"ask": what, "form": {"section.name": raw value}, …}; an answer may hold "message" (HTML), "shown" (what
fields are to show), "tab" (to turn to), "edited" (the queue's entry that the form now holds, or ""), and what its
own function tells.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import UserError
from engine.settings import LEVELS
from ui import (
    data_tab,
    field_reset,
    first_steps,
    forecast_panel,
    last,
    layout_help,
    measuring,
    plan_bar,
    preset_files,
    presets_tab,
    queue_tab,
    rate_chart,
    run_list,
    training_tab,
)
from ui import form as forms
from ui.check import check
from ui.data_page import problem_list
from ui.language import say
from ui.parts import Part, changed, same

Asked = Mapping[str, Any]
Answer = dict[str, Any]

_told_once: list[str] = []  # that the form cannot be remembered


def answer(asked: Asked) -> Answer:
    """The answer to one question; a UserError becomes its message."""
    known = _ANSWERS.get(str(asked.get("ask")))
    if known is None:
        return {"error": say("this page is older than the program that it speaks with. Load it again.")}
    shown = asked.get("form")
    try:
        return known(asked, forms.read_all(shown if isinstance(shown, Mapping) else {}))
    except UserError as error:
        return {"message": problem_list(error.problems, "problem"), "failed": True}


def arrive(asked: Asked, _: Asked) -> Answer:
    """A page was opened: the form as it was left (on the first visit the demo), and which tab is to be seen."""
    kept = last.recall()
    shown = forms.show_content(kept.content) if kept.content else _first_form(kept.preset)
    content = forms.read_all(shown)
    run_list.know_folder(str(content["run"]["folder"]))
    is_running = run_list.running(run_list.all_runs()) is not None
    arrived = {"shown": shown, "level": kept.level, "preset": kept.preset, "measures": measuring.goes_on()}
    return {**arrived, "tab": "run" if is_running else "", **look({**asked, **arrived}, content)}


def _first_form(preset: str) -> dict[str, Any]:
    try:
        first = preset_files.load_listed(preset)
        last.keep_loaded(first.model_dump())
        return forms.show_all(first)
    except UserError:
        return forms.show_content({})


def look(asked: Asked, content: Asked) -> Answer:
    """After each change of the form: keep it, check it, and send each part whose digest is not the one in "seen"."""
    level = str(asked.get("level"))
    _keep(content, level if level in LEVELS else LEVELS[0], str(asked.get("preset") or ""))
    found = check(content)
    folder, first = str(content["data"]["folder"] or ""), asked.get("first")
    parts: dict[str, Part] = {
        "problems": same(training_tab.problems_of(found)),
        "plan": same(plan_bar.sentence(found)),
        "marks": same(plan_bar.marks(found, field_reset.changed(content, field_reset.loaded()))),
        "forecast": same(forecast_panel.table(found)),
        "layout": ((folder, asked.get("files")), lambda: layout_help.told(folder)),
        **data_tab.shown(found, str(asked.get("subset") or ""), first if isinstance(first, int) else 0),
    }
    if (rates := rate_chart.picture(found)) is not None:  # else the last one stays
        parts["rates"] = same(rates)
    seen = asked.get("seen")
    return {"parts": changed(parts, seen if isinstance(seen, Mapping) else {})}


def _keep(content: Asked, level: str, preset: str) -> None:
    """Remember the form for the next visit; a disk that refuses this is told once and does not disturb the work."""
    try:
        last.remember(content, level, preset)
    except UserError as error:
        if not _told_once:
            print(f"The form cannot be remembered for the next visit. {error}", file=sys.stderr)
            _told_once.append(str(error))


_ANSWERS: dict[str, Callable[[Asked, Asked], Answer]] = {
    "arrive": arrive, "look": look, "start": plan_bar.start, "add": queue_tab.add, "edit": queue_tab.edit,
    "recipe": first_steps.fill, "measure": forecast_panel.measure, "cancel": forecast_panel.cancel,
    "measured": forecast_panel.measured, "fit": forecast_panel.propose, "fit_apply": forecast_panel.apply,
    "fit_undo": forecast_panel.undo, "presets": presets_tab.look, "load": presets_tab.load, "undo": presets_tab.undo,
    "save": presets_tab.save, "delete": presets_tab.delete, "import": presets_tab.bring, "export": presets_tab.export,
}  # fmt: skip
