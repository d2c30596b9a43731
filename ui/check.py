"""What the page knows about the form while it is typed into: every problem, the plan, and which fields make sense."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.errors import PresetError, Problem
from engine.forecast import Forecast, forecast_here
from engine.plan import Plan, make_plan
from engine.preset import BY_PATH, SETTINGS, Preset, build
from engine.rules import rule_problems
from ui.plan_sentence import sentence
from ui.scans import scans

_PLAN_KEPT_SECONDS = 2.0  # one keystroke asks for the plan several times; files may change after that
_plans: dict[str, tuple[float, Plan]] = {}
_plans_lock = threading.Lock()


@dataclass(frozen=True)
class Check:
    """The form, looked at. `preset` is None while the form has faults; `plan` then leaves the faulty fields out.

    `off`: the settings that make no sense at present.
    """

    preset: Preset | None
    plan: Plan | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    off: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What will be trained; empty while something is missing."""
        if self.preset is None or self.plan is None or not self.plan.steps:
            return ""
        return sentence(self.preset, self.plan, self.forecast)

    @cached_property
    def forecast(self) -> Forecast:
        """What the run will take, on this machine; only where there are a preset and a plan."""
        assert self.preset is not None and self.plan is not None
        return forecast_here(self.preset, self.plan)


def check(content: Mapping[str, Any], anew: bool = False) -> Check:
    """Look at the form's content (as of `form.read_all`). Never raises for what the user can mend.

    anew: read the folders again, whatever is known of them; before a run begins.
    """
    if anew:
        scans.forget()
        with _plans_lock:
            _plans.clear()
    problems: list[Problem] = []
    try:
        preset = whole = build(content)
    except PresetError as error:
        problems += error.problems
        preset, whole = None, _without_faults(error)
    plan = plan_of(whole) if whole else None
    if plan:
        faulty = {problem.where for problem in problems}
        problems += [problem for problem in plan.problems if problem.where not in faulty]
    warnings = dict.fromkeys(plan.warnings if plan else ())
    return Check(preset, plan, tuple(dict.fromkeys(problems)), tuple(warnings), switched_off(content))


def plan_of(preset: Preset) -> Plan:
    """The plan of a preset; the last ones are kept for a moment."""
    key = preset.model_dump_json()
    now = time.monotonic()
    with _plans_lock:
        kept = _plans.get(key)
    if kept and now - kept[0] < _PLAN_KEPT_SECONDS:
        return kept[1]
    plan = make_plan(preset, scanning=scans)
    with _plans_lock:
        for old in [name for name, (made, _) in _plans.items() if now - made > _PLAN_KEPT_SECONDS]:
            del _plans[old]
        _plans[key] = (time.monotonic(), plan)
    return plan


def switched_off(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings whose `when` does not hold."""
    return tuple(item.path for item in SETTINGS if any(_value(content, path) != wanted for path, wanted in item.when))


def _value(content: Mapping[str, Any], path: str) -> Any:
    section, name = path.split(".")
    return content.get(section, {}).get(name, BY_PATH[path].default)


def _without_faults(error: PresetError) -> Preset | None:
    """The preset with allowed values in the place of faulty ones; None where that does not help."""
    if error.rest is None:
        return None
    sections = error.rest.model_dump()
    for problem in rule_problems(error.rest):
        if problem.where in BY_PATH:
            section, name = problem.where.split(".")
            sections[section][name] = BY_PATH[problem.where].default
    try:
        return build(sections)
    except PresetError:
        return None
