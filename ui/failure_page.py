"""Why a run failed or goes badly, as HTML: cause, what to do, a change of settings on a button, the end of the log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import psutil

from engine import events
from engine.ended import read_ended
from engine.errors import UserError
from engine.failures import Facts, Failure, diagnose, notices
from engine.failures.report import report, tail
from engine.gpus import gpus
from engine.preset import Preset, load
from engine.run import Status
from ui import run_list, words
from ui.language import say
from ui.run_view import RunView
from ui.told import fault, retold
from ui.words import escape

_KEPT = 40  # of the first and last steps


def facts_of(view: RunView, state: Status) -> Facts:
    """What the run has left, for `diagnose`. Hold the view's lock."""
    last, started = view.step, view.started
    ended = read_ended(view.run.path, view.last_time) if state == "killed" else None
    on_gpu = started is not None and not started.device.startswith("CPU")
    failed = view.end if isinstance(view.end, events.Failed) else None
    exit_code = failed.exit_code if failed else ended.exit_code if ended else None
    return Facts(
        how=state,
        told=_told(failed) if failed else "",
        log="" if state in ("running", "finished", "stopped") else view.log_tail(),
        warnings=tuple(f"{item.where}: {item.message}" for item in view.warnings.values()),
        exit_code=exit_code,
        memory_kills=ended.memory_kills if ended else 0,
        booted_since=state == "killed" and _booted_since(view),
        stage=view.stage,
        losses=_ends(view.curves.losses),
        seconds_per_step=_ends(view.curves.seconds),
        memory_bytes=last.memory_bytes if last else 0,
        gpu_bytes=_gpu_bytes() if on_gpu else 0,
        preset=_preset(view.run.preset),
    )


def panel(view: RunView, state: Status) -> str:
    """What went wrong, where something did; "" for a run that is well."""
    facts = facts_of(view, state)
    failure = diagnose(facts)
    milder = "".join(_notice(found, state) for found in notices(facts))
    if failure is None:
        return milder
    failed = view.end if isinstance(view.end, events.Failed) and state == "failed" else None
    buttons = _fix_button(failure) + f'<button type="button" data-does="report">{say("Copy report")}</button>'
    lines = "\n".join(tail(facts.log))
    log = f"<details><summary>{say('The last lines of the log')}</summary><pre>{escape(lines)}</pre></details>"
    return (
        f'<div class="fault" data-failure="{failure.name}"><p>{escape(say(failure.cause))}</p>'
        f"<p>{escape(say(failure.remedy))}</p>{_message(failed)}{_changes(failure, facts.preset)}"
        f'<div class="does">{buttons}</div>{log if lines else ""}</div>{milder}'
    )


def apply_fix(view: RunView, state: Status, name: str) -> str:
    """Start again with the changes that the page offers for a failure; what is in the way, or "".

    The run is resumed where it goes on just as it would have; else a new one is made, and this one stays as it is.
    """
    with view.lock:
        facts, resumes = facts_of(view, state), view.state_step > 0
    found = [diagnose(facts), *notices(facts)]
    failure = next((item for item in found if item is not None and item.name == name and item.fix), None)
    if failure is None or state == "running":
        return say("There is nothing to change any more. Look at the run again.")
    try:
        changed = load(view.run.preset).changed(failure.fix)
        if failure.exact and resumes:
            changed.save(view.run.preset)
            run_list.resume(view.run.path)
        else:
            run_list.start(changed)
    except UserError as error:
        return fault(error)
    return ""


def report_of(view: RunView, state: Status) -> str:
    """The report on a run, without anything private."""
    with view.lock:
        facts = facts_of(view, state)
    return report(view.run, facts, diagnose(facts))


def _told(failed: events.Failed) -> str:
    """Message, problems, and of the traceback the lines that tell what was raised (not the program's own lines)."""
    problems = [f"{item.get('where', '')}: {item.get('message', '')}" for item in failed.problems]
    raised = [line for line in failed.traceback.split("\n") if line and not line[0].isspace()]
    return "\n".join(dict.fromkeys([failed.message, *problems, *raised]))


def _notice(failure: Failure, state: Status) -> str:
    again = "" if state == "running" else f'<div class="does">{_fix_button(failure)}</div>'
    return (
        f'<div class="notice" data-failure="{failure.name}"><p>{escape(say(failure.cause))}</p>'
        f"<p>{escape(say(failure.remedy))}</p>{again}</div>"
    )


def _fix_button(failure: Failure) -> str:
    if not failure.fix:
        return ""
    listed = "\n".join(f"{words.place(path)}: {_shown(value)}" for path, value in failure.fix.items())
    text = say("Resume with this") if failure.exact else say("Start again with this")
    return (
        f'<button type="button" class="primary" data-does="fix" data-failure="{failure.name}" '
        f'data-changes="{escape(listed)}">{text}</button>'
    )


def _message(failed: events.Failed | None) -> str:
    """What the run itself told: one sentence, or all problems; and the traceback, folded."""
    if failed is None:
        return ""
    lines = [f"{words.place(item.get('where', ''))}: {retold(item.get('message', ''))}" for item in failed.problems]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines) if len(lines) > 1 else ""
    text = say("Several things need to be corrected:") if items else retold(failed.message)
    trace = f"<details><summary>{say('Traceback')}</summary><pre>{escape(failed.traceback)}</pre></details>"
    told = f'<p class="told">{escape(text)}</p>' + (f"<ul>{items}</ul>" if items else "")
    return told + (trace if failed.traceback else "")


def _changes(failure: Failure, preset: Preset) -> str:
    """The offered changes as a table: setting, now, then."""
    rows = "".join(
        f"<tr><td>{escape(words.place(path))}</td><td>{escape(_shown(preset.get(path)))}</td>"
        f"<td>→ {escape(_shown(value))}</td></tr>"
        for path, value in failure.fix.items()
    )
    return f'<table class="plain"><tbody>{rows}</tbody></table>' if rows else ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return say("on") if value else say("off")
    return words.rate(value) if isinstance(value, float) else str(value) or say("empty")


def _ends(values: Sequence[Any]) -> Sequence[Any]:
    return values if len(values) <= 2 * _KEPT else [*values[:_KEPT], *values[-_KEPT:]]


def _booted_since(view: RunView) -> bool:
    try:
        return view.run.events.stat().st_mtime < psutil.boot_time()
    except OSError:
        return False


def _preset(path: Path) -> Preset:
    try:
        return _read_preset(path, path.stat().st_mtime_ns)
    except (UserError, OSError):  # an older or damaged one: no change is offered that does not fit the defaults
        return Preset()


@lru_cache(maxsize=16)
def _read_preset(path: Path, mtime_ns: int) -> Preset:
    return load(path)


@cache
def _gpu_bytes() -> int:
    """The memory of the smallest card."""
    return min((gpu.memory_bytes for gpu in gpus()), default=0)
