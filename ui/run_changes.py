"""Changing a run from the page: its learning rates and prompts while it trains, its length when it has ended."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from engine.changes import Changes, valid_factor, valid_prompts
from engine.errors import UserError
from engine.extend import Extension, extend, extension
from engine.preset import build, migrate
from engine.run import CHANGE_REQUESTS, RunFolder, Status, open_run
from ui import history, run_list
from ui.language import say
from ui.run_view import RunView
from ui.told import fault


def shown(view: RunView, state: Status) -> dict[str, Any]:
    """What the form of changes shows: which part of it, and the values in force or asked for."""
    part = "running" if state == "running" and view.started else "ended" if _is_over(view, state) else ""
    found: dict[str, Any] = {"part": part, "run": str(view.run.path)}
    if part == "running":
        found |= _in_force(view)
        found["waits"] = any(view.run.is_requested(what) for what in CHANGE_REQUESTS)
    return found


def _is_over(view: RunView, state: Status) -> bool:
    return state == "finished" or (state == "stopped" and view.state_step > 0)


def _in_force(view: RunView) -> dict[str, Any]:
    """Factor and prompts by the run's list of changes, which the engine keeps."""
    try:
        preset = build(migrate(history.preset_content(view.run)))
        changes, far = Changes.of(view.run, preset), max(view.steps_done, 0)
        return {"rate_factor": changes.rate_factor(far), "prompts": changes.prompt_text(far)}
    except UserError:
        return {"rate_factor": 1.0, "prompts": ""}


def change(run: RunFolder, what: str, value: Any) -> str:
    """Ask a running run to go on with another value; what is in the way, or ""."""
    if not run.is_running():
        return say("No training is running here.")
    try:
        preset = open_run(run.path)[1]
        if what == "rate_factor":
            run.request_change("rate_factor", valid_factor(preset, _number(value)))
        elif what == "prompts":
            run.request_change("prompts", valid_prompts(preset, value))
        else:
            return say("this page is older than the program that it speaks with. Load it again.")
    except UserError as error:
        return fault(error)
    return ""


def longer(run: RunFolder, epochs: Any) -> dict[str, str]:
    """What a run becomes with more epochs: {"message": what is in the way, or "", "told": what that means}."""
    try:
        return {"message": "", "told": _words(extension(run.path, _count(epochs)))}
    except UserError as error:
        return {"message": fault(error), "told": ""}


def make_longer(run: RunFolder, epochs: Any) -> str:
    """Give a run more epochs and let it go on; what is in the way, or ""."""
    try:
        run_list.refuse_second()
        extend(run.path, _count(epochs))
        run_list.resume(Path(run.path))
    except UserError as error:
        return fault(error)
    return ""


def _words(made: Extension) -> str:
    ended, begins, ends = (f"{factor:.3g}" for factor in made.factors)
    length = say("{now} steps instead of {before}", now=f"{made.steps:,}", before=f"{made.before_steps:,}")
    if made.keeps_rates:
        rates = say("The learning rates go on as they ended, at {ended} × those set.", ended=ended)
    else:
        rates = say(
            "The schedule ({name}) is laid over all steps anew: the learning rates ended at {ended} × those set, go on "
            "at {begins} × and end at {ends} ×.",
            name=made.preset.optimizer.schedule,
            ended=ended,
            begins=begins,
            ends=ends,
        )
    return f"{length}. {rates}"


def _number(value: Any) -> Any:
    """A number as a field of the browser gives it; anything else as it is, to be refused."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return number if not isinstance(number, float) or math.isfinite(number) else value


def _count(value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise UserError(f"the number of epochs must be a whole number (got {value}).") from None
