"""The local JSON API, version 1, under /api/v1/ of the page's own address: docs/api.md. The Queue tab speaks it too.

Every answer is JSON. A fault of the user is status 422 with {"error": sentence, "problems": [{"where", "message"}]}.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse

from engine import queue as queues
from engine.errors import PresetError, Problem, UserError
from engine.gpus import gpus
from engine.preset import Preset, build, migrate
from engine.queue import Entry, Queue
from engine.run import Request, RunFolder
from launchers.worker import start_worker
from ui import history, preset_files, run_list, served
from ui.check import Check, check
from ui.language import spoken
from ui.run_view import RunView, view_of
from ui.told import fault, retold

PREFIX = "/api/v1"
_MOST_LINES = 5000
Answer = dict[str, Any]
PresetBody = Annotated[Answer, Body()]  # a preset file's content is the whole body

router = APIRouter(prefix=PREFIX)


def add_to(app: FastAPI) -> None:
    """Add the API to the page's application."""
    app.include_router(router)
    app.add_exception_handler(UserError, _refused)


@router.post("/check")
def look(preset: PresetBody) -> Answer:
    """What a preset would do, and all that is in its way."""
    found = check(migrate(preset))
    plan = found.plan
    return {
        "sentence": found.sentence,
        "steps": plan.steps if plan else None,
        "steps_per_epoch": plan.steps_per_epoch if plan else None,
        "epochs": plan.epochs if plan else None,
        "problems": _problems(found.problems),
        "warnings": _problems(found.warnings),
    }


@router.post("/forecast")
def forecast(preset: PresetBody) -> Answer:
    """What a run would take on this machine, by what was measured here."""
    found = check(migrate(preset))
    _startable(found)
    return json.loads(found.forecast.to_json())


@router.get("/runs")
def runs() -> Answer:
    """All runs, the last changed first."""
    found = run_list.all_runs()
    return {"runs": [{**_summary(view_of(run.path)), "disk_bytes": history.disk_bytes(run)} for run in found]}


@router.post("/runs", status_code=201)
def start(preset: PresetBody) -> Answer:
    """Begin a run now."""
    path = run_list.start(_startable(check(migrate(preset))))
    return {"run": path.name, "folder": str(path)}


@router.get("/runs/{name}")
def status(name: str) -> Answer:
    """How a run stands."""
    run = history.find(name)
    found = _summary(view_of(run.path))
    return {**found, "disk_bytes": history.disk_bytes(run), "preset": history.preset_content(run)}


@router.post("/runs/{name}/resume")
def resume(name: str) -> Answer:
    """Go on with a run where its last state was saved."""
    run_list.resume(history.find(name).path)
    return {"run": name}


def _asker(what: Request) -> Callable[[str], Answer]:
    def ask(name: str) -> Answer:
        run = history.find(name)
        if not run.is_running():
            raise UserError("is not running.", name)
        run.request(what)
        return {"run": name, "asked": what}

    return ask


for _what in ("stop", "stop_after_epoch", "save", "sample", "pause", "continue"):
    router.post(f"/runs/{{name}}/{_what}", status_code=202)(_asker(_what))


@router.get("/runs/{name}/log")
def log(name: str, lines: int = 200) -> Answer:
    """The end of what a run printed."""
    run = history.find(name)
    content = run.log.read_text(encoding="utf-8", errors="replace") if run.log.exists() else ""
    return {"run": name, "lines": content.splitlines()[-max(1, min(lines, _MOST_LINES)) :]}


@router.get("/runs/{name}/samples")
def samples(name: str) -> Answer:
    """The pictures that a run drew, and where to fetch them."""
    view = view_of(history.find(name).path)
    with view.lock:
        drawn = [event for _, event in sorted(view.samples.items())]
    return {
        "run": name,
        "samples": [
            {
                "step": event.step,
                "prompt": event.prompt,
                "seed": event.seed,
                "file": f"{PREFIX}/runs/{name}/samples/{Path(event.path).name}",
            }
            for event in drawn
        ],
    }


@router.get("/runs/{name}/samples/{file}")
def sample_file(name: str, file: str) -> Response:
    """One picture."""
    run = history.find(name)
    path = run.samples / file
    if Path(file).name != file or not served.lies_in(path, run.samples) or not served.may_serve(str(path)):
        raise HTTPException(404)
    return FileResponse(path)


@router.get("/runs/{name}/curve")
def curve(name: str) -> Answer:
    """The smoothed loss over the steps, at up to 1,000 of them."""
    line = history.smoothed(view_of(history.find(name).path))
    return {"run": name, "steps": line.x, "smoothed_losses": line.y}


@router.put("/runs/{name}/note")
def set_note(name: str, note: Annotated[str, Body(embed=True)]) -> Answer:
    """What the user says about a run."""
    history.set_note(history.find(name), note)
    return {"run": name, "note": note}


@router.delete("/runs/{name}")
def throw_away(name: str) -> Answer:
    """Put a run into the bin."""
    return {"bin": history.throw_away(history.find(name))}


@router.get("/bin")
def show_bin() -> Answer:
    """The runs that were thrown away."""
    return {"bin": [{"name": run.name, "disk_bytes": history.disk_bytes(run)} for run in history.thrown_away()]}


@router.post("/bin/{name}/restore")
def restore(name: str) -> Answer:
    """Put a run back among the others."""
    return {"run": history.bring_back(name).name}


@router.delete("/bin/{name}")
def delete_for_good(name: str) -> Answer:
    """Delete a run that was thrown away."""
    history.delete_for_good(name)
    return {"deleted": name}


@router.get("/compare")
def compare(first: str, second: str) -> Answer:
    """The settings in which two runs differ."""
    rows = history.differences(history.find(first), history.find(second))
    return {"first": first, "second": second, "differences": [dataclasses.asdict(row) for row in rows]}


@router.get("/queue")
def queue() -> Answer:
    """What waits, runs and has ended, in order."""
    here = queues.queue()
    entries = [{**dataclasses.asdict(entry), "run": _run_of(entry)} for entry in here.entries()]
    for entry in entries:
        entry.pop("preset")
        entry["message"] = _told(entry["message"])
    places = [dataclasses.asdict(place) for place in gpus()]
    return {"paused": here.is_paused(), "works": here.has_worker(), "gpus": places, "entries": entries}


@router.post("/queue", status_code=201)
def add(preset: PresetBody) -> Answer:
    """Put a preset at the end of the queue."""
    wanted = _startable(check(migrate(preset)))
    run_list.know_folder(wanted.run.folder)
    return _changed(lambda here: here.add(queues.of_preset(wanted)))


@router.post("/runs/{name}/again", status_code=201)
def run_again(name: str) -> Answer:
    """Put the settings of a run at the end of the queue, as a new run."""
    entry = queues.of_preset(_preset_of(history.find(name)))
    return _changed(lambda here: here.add(entry))


@router.post("/runs/{name}/preset", status_code=201)
def make_preset(name: str) -> Answer:
    """Keep the settings of a run as a preset of the user's."""
    path = preset_files.save(_preset_of(history.find(name)), name, overwrite=False)
    return {"preset": path.stem, "file": str(path)}


@router.post("/runs/{name}/queue", status_code=201)
def add_run(name: str) -> Answer:
    """Put a run at the end of the queue, to go on from its last state."""
    run = history.find(name)
    entry = queues.of_run(run.path, _preset_of(run))
    return _changed(lambda here: here.add(entry))


@router.post("/queue/pause")
def pause(paused: Annotated[bool, Body(embed=True)]) -> Answer:
    """Start nothing new, or go on."""
    queues.queue().pause(paused)
    start_worker()
    return {"paused": paused}


@router.get("/queue/{entry_id}")
def entry(entry_id: str) -> Answer:
    """One entry with its preset."""
    return dataclasses.asdict(queues.queue().get(entry_id))


@router.put("/queue/{entry_id}")
def edit(entry_id: str, preset: PresetBody) -> Answer:
    """Change what a waiting run will be."""
    wanted = _startable(check(migrate(preset)))
    return _changed(lambda here: here.replace_preset(entry_id, wanted))


@router.post("/queue/{entry_id}/move")
def move(entry_id: str, place: Annotated[int, Body(embed=True)]) -> Answer:
    """Put an entry at another place; 1 is the first."""
    queues.queue().move(entry_id, place - 1)
    return queue()


@router.post("/queue/{entry_id}/duplicate", status_code=201)
def duplicate(entry_id: str) -> Answer:
    """The same once more, behind it."""
    return _changed(lambda here: here.duplicate(entry_id))


@router.post("/queue/{entry_id}/again")
def again(entry_id: str) -> Answer:
    """Let an ended entry wait once more."""
    return _changed(lambda here: here.again(entry_id))


@router.post("/queue/{entry_id}/stop", status_code=202)
def stop(entry_id: str) -> Answer:
    """Ask what runs to save and end."""
    queues.queue().stop(entry_id)
    return {"id": entry_id}


@router.delete("/queue/{entry_id}")
def remove(entry_id: str) -> Answer:
    """Take an entry out; what it made stays."""
    queues.queue().remove(queues.queue().get(entry_id).id)
    return {"id": entry_id}


def _changed(change: Callable[[Queue], Entry]) -> Answer:
    """The entry after a change of the queue, which is worked on from then on."""
    entry = change(queues.queue())
    start_worker()
    return {"id": entry.id, "title": entry.title, "state": entry.state}


def _startable(found: Check) -> Preset:
    """The preset of a form without faults. Raises PresetError with all of them."""
    if found.preset is None or found.problems:
        raise PresetError(found.problems)
    return found.preset


def _preset_of(run: RunFolder) -> Preset:
    return build(migrate(history.preset_content(run)))


def _run_of(entry: Entry) -> str:
    return Path(entry.folder).name if entry.folder and entry.kind == "run" else ""


def _summary(view: RunView) -> Answer:
    view.refresh()
    state = run_list.status(view)
    with view.lock:
        loss = view.curves.smoothed[-1] if view.curves.smoothed else None
        return {
            "run": view.run.name,
            "folder": str(view.run.path),
            "state": state,
            "stage": view.stage,
            "step": view.curves.steps[-1] if view.curves.steps else 0,
            "steps": view.started.steps if view.started else None,
            "smoothed_loss": loss,
            "changed": view.last_time,
            "checkpoint": _name(view.run),
            "note": history.note(view.run),
        }


def _name(run: RunFolder) -> str:
    last = run.last_checkpoint()
    return str(last) if last else ""


def _problems(problems: Sequence[Problem]) -> list[Answer]:
    return [{"where": item.where, "message": _told(item.message)} for item in problems]


def _told(message: str) -> str:
    return message if spoken() == "en" else retold(message)


def _refused(_: object, error: Exception) -> Response:
    assert isinstance(error, UserError)
    told = str(error) if spoken() == "en" else fault(error)  # programs know settings by their names
    return JSONResponse({"error": told, "problems": _problems(error.problems)}, 422)
