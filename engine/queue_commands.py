"""`python -m engine queue list|add|remove|move|duplicate|again|pause|stop|run`: the queue from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine import queue, run
from engine.commands import planned
from engine.errors import PresetError, UserError
from engine.gpus import gpus
from engine.preset import ROOT
from engine.queue import Entry


def add_parser(parts: Any, add_settings: Any) -> None:
    """Add `queue` and what it can do to the command line."""
    parser = parts.add_parser("queue", help="run one after the other: list, add, remove, move, pause, run …")
    tasks = parser.add_subparsers(required=True, metavar="list | add | remove | move | duplicate | again | pause | run")

    listed = tasks.add_parser("list", help="what waits, runs and has ended, in order")
    listed.add_argument("--json", action="store_true", help="print it as JSON")
    listed.set_defaults(command=show)

    added = tasks.add_parser("add", help="put a preset (frozen as it is now), a run to resume or a tool's job last")
    added.add_argument("target", type=Path, metavar="PRESET.json|RUN_FOLDER|JOB_FOLDER")
    add_settings(added)
    added.set_defaults(command=add)

    for name, what, said in (
        ("remove", _remove, "take an entry out; what it made stays"),
        ("duplicate", _duplicate, "the same once more, behind it"),
        ("again", _again, "let an ended entry wait once more: it goes on from its last state"),
        ("stop", _stop, "ask what runs to save and end"),
    ):
        task = tasks.add_parser(name, help=said)
        task.add_argument("id", help="an entry's id, or its beginning")
        task.set_defaults(command=what)

    moved = tasks.add_parser("move", help="put an entry at another place")
    moved.add_argument("id", help="an entry's id, or its beginning")
    moved.add_argument("place", type=int, help="1 is the first")
    moved.set_defaults(command=_move)

    paused = tasks.add_parser("pause", help="start nothing new; what runs goes on")
    paused.add_argument("--off", action="store_true", help="go on starting")
    paused.set_defaults(command=_pause)

    work = tasks.add_parser("run", help="work the queue off now, and end when it is empty")
    work.set_defaults(command=work_off)


def show(chosen: argparse.Namespace) -> int:
    """Print the entries."""
    here = queue.queue()
    entries = here.entries()
    if chosen.json:
        places = [dataclasses.asdict(place) for place in gpus()]
        told = {"paused": here.is_paused(), "worker": here.has_worker(), "gpus": places}
        print(json.dumps({**told, "entries": [dataclasses.asdict(entry) for entry in entries]}, ensure_ascii=False))
        return 0
    for place, entry in enumerate(entries, 1):
        print(f"{place:>3}  {entry.state:<8}  {entry.title}  ({entry.id})  {entry.message}".rstrip())
    if not entries:
        print("The queue is empty.")
    if here.is_paused():
        print("The queue is paused: nothing new is started.")
    elif here.needs_worker():
        print("Nobody works on it now. Start that: python -m engine queue run (or open the page).")
    return 0


def add(chosen: argparse.Namespace) -> int:
    """Put a preset, run or job at the end; exit code 2 where a preset has faults."""
    entry = queue.queue().add(_entry_of(chosen))
    print(f"{entry.title} waits as {entry.id}.")
    return 0


def _entry_of(chosen: argparse.Namespace) -> Entry:
    target: Path = chosen.target
    if (target / "job.json").is_file():
        return queue.of_job(target, target.name)
    preset, plan = planned(chosen)
    if preset is None or plan.problems:
        raise PresetError(plan.problems)
    if target.is_dir():
        if chosen.assignments:
            what = "is for presets: a run in the queue goes on as it is. Leave it out."
            raise UserError(what, "--set")
        return queue.of_run(run.open_run(target)[0].path, preset)
    return queue.of_preset(preset)


def _remove(chosen: argparse.Namespace) -> int:
    queue.queue().remove(queue.queue().get(chosen.id).id)
    return 0


def _duplicate(chosen: argparse.Namespace) -> int:
    entry = queue.queue().duplicate(chosen.id)
    print(f"{entry.title} waits as {entry.id}.")
    return 0


def _again(chosen: argparse.Namespace) -> int:
    queue.queue().again(chosen.id)
    return 0


def _stop(chosen: argparse.Namespace) -> int:
    queue.queue().stop(chosen.id)
    return 0


def _move(chosen: argparse.Namespace) -> int:
    queue.queue().move(chosen.id, chosen.place - 1)
    return 0


def _pause(chosen: argparse.Namespace) -> int:
    queue.queue().pause(not chosen.off)
    return 0


def work_off(chosen: argparse.Namespace) -> int:
    """Work in the foreground. Another program starts the works, since the engine starts none."""
    if queue.queue().has_worker():
        print("A worker is at it already.")
        return 0
    if queue.queue().is_paused():
        print("The queue is paused: nothing new is started. Go on: python -m engine queue pause --off", file=sys.stderr)
    return subprocess.call([sys.executable, "-m", "launchers.worker"], cwd=ROOT)
