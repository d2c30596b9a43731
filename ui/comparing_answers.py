"""What the tab Compare asks the page's program, and the answers: plain dicts that become JSON.

Nothing is remembered between two questions but the form: which job is looked at, the browser says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.compare import COMPARISONS
from engine.drawing.picture_text import read_settings
from engine.drawing.settings import is_drawing
from engine.errors import UserError
from engine.tools.jobs import JobFolder
from ui import comparing_form as form
from ui import (
    comparing_view,
    last,
    picture_told,
    run_list,
    sample_answers,
    sample_form,
    served,
    served_functions,
    tool_jobs,
)
from ui.language import say
from ui.parts import changed
from ui.tool_jobs import JobView

Asked = Mapping[str, Any]
Answer = dict[str, Any]
Starting = Callable[[str, Any, None], JobFolder]


def answer(asked: Asked) -> Answer:
    """The answer to one question, {"ask": what, …}; a UserError is {"error": sentence}."""
    return served_functions.by_name(asked, ANSWERS)


# ---------------------------------------------------------------- the form


def _arrive(_: Asked) -> Answer:
    """The form as it was left, and what it can begin with."""
    tool, shown = form.recall()
    return {"tool": tool, "shown": shown, **_sources({})}


def _sources(_: Asked) -> Answer:
    """Runs with checkpoints, and drawing presets."""
    runs = [run for run in run_list.all_runs() if any(run.checkpoints.glob("*.safetensors"))]
    folders = (last.SHIPPED, last.own_presets())
    presets = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.json"))]
    return {
        "runs": [{"title": run.name, "path": str(run.path)} for run in runs],
        "presets": [{"title": path.stem, "path": str(path)} for path in presets if is_drawing(path)],
    }


def _edited(asked: Asked) -> Answer:
    """Tell what the form would do; keep it, where the user has changed it ("keep")."""
    tool, shown = _given(asked)
    if asked.get("keep"):
        with contextlib.suppress(UserError):  # a disk that refuses this is told at the start
            form.remember(tool, shown)
    return _told(form.look_at(tool, shown), shown)


def _told(found: form.Look, shown: Mapping[str, Any]) -> Answer:
    axes = found.layout.axes if found.layout else ()
    return {
        "marks": form.marks(found.tool, shown, found.problems),
        "summary": form.plain(found.tool, found.summary),
        "problems": form.listed(found.tool, found.problems),
        "axes": comparing_view.axes(axes),
    }


def _begin(asked: Asked) -> Answer:
    """What the fields show to begin with a run, a preset, a model or the form of the tab Sample. Raises UserError."""
    return {"shown": form.begun_with(str(asked.get("from") or "").strip())}


def _start(asked: Asked) -> Answer:
    return _started(asked, tool_jobs.start)


def _add(asked: Asked) -> Answer:
    return _started(asked, tool_jobs.enqueue)


def _started(asked: Asked, starting: Starting) -> Answer:
    """A job for the form, done now or in the queue; or everything that is in the way."""
    tool, shown = _given(asked)
    form.remember(tool, shown)
    found = form.look_at(tool, shown)
    if found.settings is None or found.problems:
        return _told(found, shown)
    if starting is tool_jobs.start:
        _refuse_beside_training(found.settings.model.device)
    return {"job": str(starting(tool, found.settings, None).path)}


def _refuse_beside_training(device: str) -> None:
    active = run_list.running(run_list.all_runs()) if device != "cpu" else None
    if active is not None:
        what = "is being trained, which pictures beside it could end for lack of memory. Add this to the queue instead."
        raise UserError(what, active.run.name)


def _given(asked: Asked) -> tuple[str, Mapping[str, Any]]:
    tool, shown = str(asked.get("tool")), asked.get("form")
    if tool not in COMPARISONS:
        raise UserError(say("this page is older than the program that it speaks with. Load it again."))
    return tool, shown if isinstance(shown, Mapping) else {}


# ---------------------------------------------------------------- jobs


def _look(asked: Asked) -> Answer:
    """What is new of the comparisons and of one of them: each part whose digest is not the one in "seen"."""
    views = tool_jobs.listed(COMPARISONS)
    chosen = str(asked.get("job") or "")
    view = next((item for item in views if str(item.folder.path) == chosen), views[0] if views else None)
    place = asked.get("z")
    parts, is_busy = comparing_view.parts(views, view, place if isinstance(place, int) else 0)
    seen = asked.get("seen")
    shown = changed(parts, seen if isinstance(seen, dict) else {})
    return {"job": str(view.folder.path) if view else "", "busy": is_busy, "parts": shown}


def _stop(asked: Asked) -> Answer:
    view = _view(asked)
    if view.status() == "running":
        view.folder.request_stop()
    return {}


def _go_on(asked: Asked) -> Answer:
    view = _view(asked)
    _refuse_beside_training(str(view.job.values.get("model.device")))
    tool_jobs.resume(view)
    return {}


def _about(asked: Asked) -> Answer:
    """The settings that a picture of a comparison carries."""
    view, path = _view(asked), Path(str(asked.get("path")))
    if "\0" in str(path) or not path.is_file() or not served.lies_in(path, view.folder.path):
        raise UserError(say("There is no such picture any more."))
    return picture_told.told(read_settings(path, list(sample_form.model_files(sample_form.recall()))))


def _use(asked: Asked) -> Answer:
    """What the form of the tab Sample gets to draw with the proposed checkpoint. Raises UserError."""
    values = comparing_view.proposed_values(_view(asked))
    if not values:
        raise UserError(say("There is no proposal any more."))
    return {"values": values}


def _view(asked: Asked) -> JobView:
    view = tool_jobs.find(str(asked.get("job")), COMPARISONS)
    if view is None:
        raise UserError(say("There is no such comparison any more."))
    return view


ANSWERS: dict[str, Callable[[Asked], Answer]] = {
    "arrive": _arrive,
    "sources": _sources,
    "loras": sample_answers.loras,
    "edited": _edited,
    "begin": _begin,
    "start": _start,
    "add": _add,
    "look": _look,
    "stop": _stop,
    "go_on": _go_on,
    "about": _about,
    "use": _use,
}
