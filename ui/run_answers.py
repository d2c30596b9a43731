"""What the Run tab asks the page's program, and the answers: the parts of the page that changed, and what buttons do.

Nothing is remembered between two questions: the browser tells what it has ("seen": a digest a part), so any number of
browsers can look at any number of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from engine.errors import UserError
from engine.run import Request, RunFolder, Status
from ui import checkpoints, failure_page, gallery_view, run_changes, run_list, run_page, stars
from ui.language import say
from ui.parts import Part, changed, same
from ui.run_view import RunView, view_of
from ui.timeline_view import timeline
from ui.told import fault


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """One question of the browser: {"ask": what, "run": a folder or ""}; what is "look" or what a button does.

    Further: "change" with "what" and "value", "longer" and "make_longer" with "epochs", "star" with "path", "draw" with
    "checkpoint" (a file's name).
    "look" also has "active" (the run that was running at the last look, or "") and "seen" ({part: digest}); it brings
    {"run", "active", "parts": {part: {"digest", "content"}}}. "report" brings {"report"}. The others, as
    "resume", a request of engine.run, and "fix" (with the "failure" whose changes are wanted), bring {"message"}: ""
    when all is well.
    """
    what, chosen = str(asked.get("ask")), str(asked.get("run") or "")
    if what == "look":
        return look(chosen, str(asked.get("active") or ""), asked.get("seen") or {})
    if what == "resume":
        return {"message": resume(chosen)}
    if what in ("change", "longer", "make_longer", "star", "draw"):
        return _changed(what, chosen, asked)
    if what == "fix":
        return {"message": fix(chosen, str(asked.get("failure") or ""))}
    if what == "report":
        return {"report": report(chosen)}
    if what in get_args(Request):
        return {"message": request(cast(Request, what), chosen)}
    return {"message": say("this page is older than the program that it speaks with. Load it again.")}


def _changed(what: str, chosen: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    run = _existing(chosen)
    if run is None:
        return {"message": say("There is no such run any more.")}
    if what == "change":
        return {"message": run_changes.change(run, str(asked.get("what")), asked.get("value"))}
    if what == "longer":
        return run_changes.longer(run, asked.get("epochs"))
    if what == "make_longer":
        return {"message": run_changes.make_longer(run, asked.get("epochs"))}
    view = view_of(run.path)
    if what == "draw":
        return {"message": checkpoints.draw(view, str(asked.get("checkpoint")))}
    with view.lock:
        drawn = {item.path for item in view.samples.values()}
    try:
        stars.turn(run, str(asked.get("path")), drawn)
    except UserError as error:
        return {"message": fault(error)}
    return {"message": ""}


def look(chosen: str, active_before: str, seen: Mapping[str, str]) -> dict[str, Any]:
    """The run to show, and each part of the page whose digest is not the one in `seen`."""
    all_of = run_list.all_runs()
    active = run_list.running(all_of)
    running = str(active.run.path) if active else ""
    shown = _shown(chosen, running if running != active_before else "", running, [str(run.path) for run in all_of])
    if not shown:
        view, state = None, None
    else:
        view = active if active and running == shown else view_of(Path(shown))
        state = run_list.status(view)
    choices = [list(choice) for choice in run_list.choices(all_of, active)]
    line = run_page.header(active or view, "running" if active else state)
    parts: dict[str, Part] = {"status": same(line), "runs": same({"choices": choices, "shown": shown})}
    parts |= _page_parts(view, state) if view and state else _empty_parts()
    return {"run": shown, "active": running, "parts": changed(parts, seen)}


def _shown(chosen: str, begun: str, running: str, paths: list[str]) -> str:
    """The chosen run, but one that has just begun is followed at once; else the running one, else the newest."""
    if begun:
        return begun
    if chosen in paths:
        return chosen
    return running or (paths[0] if paths else "")


def _page_parts(view: RunView, state: Status) -> dict[str, Part]:
    with view.lock:
        samples, samples_depend_on = gallery_view.samples(view)
        curves_depend_on = (len(view.curves.steps), view.steps_done, tuple(view.validations), len(view.hardware))
        told = list(view.told)
        path = str(view.run.path)
        return {
            "can": same(_able(view, state)),
            "change": same(run_changes.shown(view, state)),
            "timeline": ((path, len(told)), lambda: timeline(told)),
            "progress": same(run_page.progress(view, state)),
            "curves": ((path, curves_depend_on), lambda: _curves(view)),
            "samples": ((path, samples_depend_on), lambda: samples),
            "checkpoints": same(checkpoints.panel(view)),
            "log": same(view.log_tail()),
        }


def _able(view: RunView, state: Status) -> dict[str, bool]:
    """What the buttons can do now, and what two of them say."""
    running = state == "running"
    return {
        "resume": state in ("stopped", "killed", "failed", "new"),
        "ask": running,
        "continue": running and (view.is_paused or view.run.is_requested("pause")),
        "go_on": running and view.run.is_requested("stop_after_epoch"),
    }


def _curves(view: RunView) -> str:
    with view.lock:
        return run_page.curves(view)


def _empty_parts() -> dict[str, Part]:
    empty = {name: same("") for name in ("curves", "samples", "checkpoints", "timeline", "log")}
    empty["change"] = same({"part": "", "run": ""})
    return {
        "can": same(dict.fromkeys(("resume", "ask", "continue", "go_on"), False)),
        "progress": same(run_page.empty()),
        **empty,
    }


def request(what: Request, chosen: str) -> str:
    """Ask the engine of a run for something; what is in the way, or ""."""
    run = _existing(chosen)
    if run is None or not run.is_running():
        return say("No training is running here.")
    if what == "stop_after_epoch" and run.take_request(what):  # asked for once more: withdrawn
        return ""
    run.request(what)
    return ""


def resume(chosen: str) -> str:
    """Let a run go on; what is in the way, or ""."""
    run = _existing(chosen)
    if run is None:
        return say("Choose a run to resume.")
    try:
        run_list.resume(run.path)
    except UserError as error:
        return fault(error)
    return ""


def fix(chosen: str, failure: str) -> str:
    """Start again with the changes that are offered for a failure; what is in the way, or ""."""
    run = _existing(chosen)
    if run is None:
        return say("Choose a run to resume.")
    view = view_of(run.path)
    return failure_page.apply_fix(view, run_list.status(view), failure)


def report(chosen: str) -> str:
    """The report on a run, without anything private; "" where there is no such run."""
    run = _existing(chosen)
    if run is None:
        return ""
    view = view_of(run.path)
    return failure_page.report_of(view, run_list.status(view))


def _existing(chosen: str) -> RunFolder | None:
    """The chosen run, if it is one of those listed: the page never opens another folder."""
    return {str(run.path): run for run in run_list.all_runs()}.get(chosen)
