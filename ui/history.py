"""What is kept of past runs: notes, how much disk they use, two of them compared, and a bin for those thrown away."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.errors import UserError
from engine.preset import BY_PATH
from engine.run import RunFolder
from ui import applying, run_list
from ui.charts import Line, thinned
from ui.run_view import RunView, view_of

BIN = ".bin"
_NOTE = "note.txt"
_MOST_NOTE = 20_000
_STAMP = "~"
_sizes: dict[Path, tuple[tuple[int, int], int]] = {}


def find(name: str) -> RunFolder:
    """The listed run of this name or folder: no other folder is ever opened. Raises UserError."""
    for run in run_list.all_runs():
        if name in (run.name, str(run.path)):
            return run
    raise UserError("there is no such run. Look at the list again.", name)


def note(run: RunFolder) -> str:
    try:
        return (run.path / _NOTE).read_text(encoding="utf-8", errors="replace")[:_MOST_NOTE]
    except OSError:
        return ""


def set_note(run: RunFolder, text: str) -> None:
    """Keep what the user says about a run; empty text removes it. Raises UserError."""
    if len(text) > _MOST_NOTE:
        raise UserError(f"a note has at most {_MOST_NOTE:,} characters (got {len(text):,}). Shorten it.", run.name)
    if text.strip():
        write_text_whole(run.path / _NOTE, text)
    else:
        (run.path / _NOTE).unlink(missing_ok=True)


def disk_bytes(run: RunFolder) -> int:
    """How much disk a run uses; counted anew when it told something since."""
    try:
        facts = run.events.stat()
        key = facts.st_mtime_ns, facts.st_size
    except OSError:
        key = 0, 0
    kept = _sizes.get(run.path)
    if kept is None or kept[0] != key:
        kept = _sizes[run.path] = key, _folder_bytes(run.path)
    return kept[1]


def preset_content(run: RunFolder) -> dict[str, Any]:
    """The settings of a run as its file says them; empty where it cannot be read."""
    try:
        content = json.loads(run.preset.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


@dataclass(frozen=True)
class Difference:
    """A setting that two runs have different values of."""

    path: str
    label: str
    first: Any
    second: Any


def differences(first: RunFolder, second: RunFolder) -> list[Difference]:
    """The settings that differ, in the order of the form."""
    rows = applying.changes(preset_content(first), preset_content(second))
    return [Difference(path, BY_PATH[path].label, one, other) for path, one, other in rows]


def throw_away(run: RunFolder) -> str:
    """Move a run into the bin of its runs folder; its name there. Raises UserError while it runs."""
    if run_list.status(view_of(run.path)) == "running":
        raise UserError("is running. Stop it first.", run.name)
    name = f"{run.name}{_STAMP}{time.strftime('%Y%m%d-%H%M%S')}"
    _move(run.path, _free(run.path.parent / BIN / name))
    return name


def thrown_away() -> list[RunFolder]:
    """The runs in all bins, the last thrown away first."""
    bins = [folder / BIN for folder in run_list.known_folders()]
    found = [RunFolder(path) for bin in bins if bin.is_dir() for path in bin.iterdir() if path.is_dir()]
    return sorted(found, key=lambda run: run.name.rpartition(_STAMP)[2], reverse=True)


def bring_back(name: str) -> Path:
    """Put a run back where it was, beside another one that took its name. Raises UserError."""
    run = _in_bin(name)
    target = _free(run.path.parent.parent / (run.name.rpartition(_STAMP)[0] or run.name))
    _move(run.path, target)
    return target


def delete_for_good(name: str) -> None:
    """Delete a run in the bin. Raises UserError where it is not there or the disk refuses."""
    run = _in_bin(name)
    try:
        shutil.rmtree(run.path)
    except OSError as error:
        raise UserError(f"could not be deleted ({error.strerror}).", str(run.path)) from None


def smoothed(view: RunView) -> Line:
    """Steps and smoothed losses of a run, so few that a browser draws them at once."""
    with view.lock:
        return thinned(Line("loss", list(view.curves.steps), list(view.curves.smoothed), "smooth"))


def _in_bin(name: str) -> RunFolder:
    for run in thrown_away():
        if run.name == name:
            return run
    raise UserError("there is no such run in the bin. Look at the list again.", name)


def _free(path: Path) -> Path:
    number, free = 2, path
    while os.path.lexists(free):
        number, free = number + 1, path.with_name(f"{path.name}-{number}")
    return free


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise UserError(f"could not be moved to {target} ({error.strerror}).", str(source)) from None


def _folder_bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(parent, name).lstat().st_size
            except OSError:  # gone meanwhile
                continue
    return total
