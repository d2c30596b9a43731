"""The dialog for choosing a file or folder of the machine that the page runs on. The browser draws it (chooser.js).

It only looks, and only below the roots of ui/roots.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import gradio as gr

from engine.data.folders import image_suffixes
from engine.errors import UserError
from engine.plan_sizes import size_text
from engine.preset import resolve
from ui import last
from ui.language import say
from ui.roots import Root, inside, is_hidden, looked_up, roots
from ui.told import fault

_KEY = secrets.token_urlsafe(16)  # known to pages that this program sent: no other site can ask
MOST_ENTRIES = 2_000
COUNTING_SECONDS = 0.25  # pictures are counted no longer than this for one look
# What a field of files is about, by the end of its path; others show every file
ENDINGS = {
    "model.base": (".safetensors",), "model.vae": (".safetensors",), "adapter.start_from": (".safetensors",),
    "sharing.thumbnail": (".png", ".jpg", ".jpeg", ".webp"), "data.folder": (".toml",),
}  # fmt: skip
_EITHER = ("model.base", "model.vae", "data.folder")  # a file or a folder


def build() -> None:
    """Draw the place where the dialog lives, outside of all tabs."""
    gr.HTML(
        f'<div id="chooser" data-key="{_KEY}"></div>',
        elem_id="chooser-place",
        js_on_load="window.atelierChooser.start(element, server)",
        server_functions=[look_into],
    )


def look_into(request: str) -> str:
    """One look into a folder, and its answer, both JSON."""
    asked = json.loads(request)
    if not secrets.compare_digest(str(asked.get("key")).encode(), _KEY.encode()):
        return json.dumps({"error": say("this page is older than the program that it speaks with. Load it again.")})
    return json.dumps(answer(str(asked.get("path") or ""), str(asked.get("field") or ""), bool(asked.get("open"))))


def answer(path: str, field: str, is_opened: bool = False) -> dict[str, Any]:
    """What a folder holds. `is_opened`: the user went there; else it is where to begin, or the nearest to it.

    {roots: [{title, path}], path, parts: [{title, path}], folders: [{name, path, pictures}], files: [{name, path,
    size}], takes: what may be chosen} or {error}.
    """
    allowed = roots(last.recall().content)
    if not allowed:
        return {"error": say("the page may look into no folder of this machine.")}
    try:
        folder = looked_up(path, allowed) if is_opened else _nearest(path, allowed)
        return {**_content(folder, allowed, field), "roots": [_root(root) for root in allowed]}
    except UserError as error:
        return {"error": fault(error)}
    except OSError as error:
        return {"error": say("{folder} cannot be read ({reason}).", folder=path, reason=error.strerror or "")}


def _nearest(text: str, allowed: list[Root]) -> Path:
    """The folder to begin with: that of the field's value, or the nearest above it that may be seen."""
    try:
        path = resolve(text.strip()) if text.strip() and "\0" not in text else allowed[0].path
    except (OSError, RuntimeError, ValueError):
        path = allowed[0].path
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):  # a name that is too long, a drive that is gone
            if inside(folder, allowed) is not None and folder.is_dir():
                return folder
    return allowed[0].path


def _content(folder: Path, allowed: list[Root], field: str) -> dict[str, Any]:
    root = inside(folder, allowed)
    if root is None or not folder.is_dir():
        raise UserError(say("this is no folder. Choose another one."), str(folder))
    entries = _entries(folder, allowed)
    until = time.monotonic() + COUNTING_SECONDS
    endings = ENDINGS.get(field, ())
    shows_files = field in _EITHER or not field.endswith("folder")
    between = [*reversed([part for part in folder.parents if part.is_relative_to(root.path)]), folder]
    return {
        "path": str(folder),
        "parts": [{"title": root.title if part == root.path else part.name, "path": str(part)} for part in between],
        "folders": [
            {"name": name, "path": str(path), "pictures": pictures_in(path, until)}
            for name, path in entries
            if path.is_dir()
        ],
        "files": [
            {"name": name, "path": str(path), "size": size_text(path.stat().st_size)}
            for name, path in entries
            if shows_files and path.is_file() and (not endings or path.suffix.lower() in endings)
        ],
        "more": len(entries) == MOST_ENTRIES,
    }


def _entries(folder: Path, allowed: list[Root]) -> list[tuple[str, Path]]:
    """What may be seen in a folder, by name: (name, path as it is called there). Links that lead out are left out."""
    found = []
    with os.scandir(folder) as listing:
        for entry in listing:
            path = folder / entry.name
            if is_hidden(entry.name) or (entry.is_symlink() and not _leads_inside(path, allowed)):
                continue
            found.append((entry.name, path))
            if len(found) == MOST_ENTRIES:
                break
    return sorted(found, key=lambda item: (item[0].lower(), item[0]))


def _leads_inside(link: Path, allowed: list[Root]) -> bool:
    try:
        return inside(link.resolve(strict=True), allowed) is not None
    except (OSError, RuntimeError):
        return False


def pictures_in(folder: Path, until: float) -> int | None:
    """Pictures in a folder and in the folders right below it; None where counting them takes too long."""
    count, waiting, suffixes = 0, [(folder, 0)], set(image_suffixes())
    while waiting:
        place, depth = waiting.pop()
        try:
            with os.scandir(place) as listing:
                for entry in listing:
                    if time.monotonic() > until:
                        return None
                    if depth == 0 and not is_hidden(entry.name) and entry.is_dir(follow_symlinks=False):
                        waiting.append((place / entry.name, 1))
                    count += Path(entry.name).suffix.lower() in suffixes
        except OSError:
            continue
    return count


def _root(root: Root) -> dict[str, str]:
    return {"title": root.title, "path": str(root.path)}
