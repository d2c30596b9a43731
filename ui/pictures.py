"""The drawn pictures: listed by day, thrown into a bin and brought back. Only pictures of these folders are touched."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from engine.drawing.desk import pictures_folder, pictures_in
from engine.errors import UserError
from engine.preset import resolve
from ui import served, thumbnails
from ui.language import say

BIN = ".bin"
PAGE_PICTURES = 60
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NAME = re.compile(r"(\d+)-(\d+)(?:-\d+)?\.png")
_MOST_PICTURES = 20_000


def folder_of(content: dict[str, Any]) -> Path:
    """Where the pictures of a form go."""
    chosen = content.get("picture", {}).get("folder")
    return resolve(chosen) if isinstance(chosen, str) and chosen.strip() else pictures_folder()


def listed(folder: Path, most: int = PAGE_PICTURES) -> dict[str, Any]:
    """The newest pictures by day, and how many there are: {"total", "days": [{"day", "items"}]}."""
    paths = [path for _, path in zip(range(_MOST_PICTURES), pictures_in(folder), strict=False)]
    days: dict[str, list[dict[str, Any]]] = {}
    for path in paths[:most]:
        days.setdefault(path.parent.name, []).append(told(path))
    return {"total": len(paths), "days": [{"day": day, "items": items} for day, items in days.items()]}


def told(path: Path) -> dict[str, Any]:
    """A picture for the browser; its small copy is None while that is being made."""
    served.allow(path.parent)
    small = thumbnails.if_ready(path)
    name = _NAME.fullmatch(path.name)
    return {
        "path": str(path),
        "name": path.name,
        "url": thumbnails.url(path),
        "small": thumbnails.url(small) if small else None,
        "seed": name[2] if name else "",
    }


def found(name: str, folder: Path) -> Path:
    """A picture of the folder by the path that the browser has of it. Raises UserError for any other file."""
    path = Path(name)
    is_ours = _DAY.fullmatch(path.parent.name) and path.parent.parent == folder and path.suffix == ".png"
    if "\0" in name or not is_ours or not path.is_file() or not served.lies_in(path, folder):
        raise UserError(say("There is no such picture any more."))
    return path


def throw_away(path: Path) -> str:
    """Move a picture into the bin of its folder; its name there. Raises UserError where the disk refuses."""
    name = f"{path.parent.name}~{time.time_ns()}~{path.name}"
    _move(path, path.parent.parent / BIN / name)
    return name


def bring_back(name: str, folder: Path) -> Path:
    """Put a picture back where it was. Raises UserError where it is not in the bin."""
    day, _, rest = name.partition("~")
    original = rest.partition("~")[2]
    source = folder / BIN / name
    if not _DAY.fullmatch(day) or Path(name).name != name or not original or not source.is_file():
        raise UserError(say("There is no such picture any more."))
    target, number = folder / day / original, 2
    while os.path.lexists(target):
        target, number = target.with_name(f"{Path(original).stem}-{number}.png"), number + 1
    _move(source, target)
    return target


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except OSError as error:
        raise UserError(f"could not be moved to {target} ({error.strerror}).", str(source)) from None
