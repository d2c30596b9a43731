"""Help with the training folder: what it was understood as where it is no training folder yet, and the repair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from captioning.layout import Layout, understand
from engine.data.folders import repeats_and_name
from engine.errors import UserError
from engine.preset import resolve
from ui.language import say
from ui.words import escape

_REPEATS = 10  # what is filled in where no folder tells it


def told(folder: str) -> dict[str, Any]:
    """What form.js shows below the folder's field: {"text": HTML, and either "deeper", the folder to take instead, or
    "arrange", what the fields of the tool that arranges it get}; empty where there is nothing to say."""
    layout = layout_of(folder)
    if layout is None:
        return {}
    if _is_deeper(layout):
        return {"text": sentence_of(layout), "deeper": str(layout.training_folder)}
    tells_repeats = any(subset.repeats for subset in layout.subsets)
    filled = {"folder": ""} if tells_repeats else {"folder": "", "repeats": _REPEATS}
    return {"text": sentence_of(layout), "arrange": filled}


def sentence_of(layout: Layout) -> str:
    """What was understood, and what can be done, in HTML."""
    if _is_deeper(layout):
        return f"<p>{escape(layout.sentence)}</p>"
    what = say(
        "Atelier makes a training folder of it by links, without touching your files; you see everything before."
    )
    return f'<p>{escape(layout.sentence)} <span class="quiet">{what}</span></p>'


def layout_of(folder: str) -> Layout | None:
    """What a folder was understood as; None where it is a training folder, or nothing can be said."""
    path = resolve(folder) if folder else None
    if path is None or not path.is_dir() or _has_only_subsets(path):
        return None
    try:
        layout = understand(path)
    except (UserError, OSError):  # told by the plan beside the field
        return None
    is_as_it_should_be = layout.is_trainable and layout.training_folder == layout.folder
    return None if is_as_it_should_be else layout


def _has_only_subsets(path: Path) -> bool:
    """Whether every folder in it is named like 10_name, as is quickly seen."""
    try:
        names = [entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return False
    return bool(names) and all(repeats_and_name(name) is not None for name in names)


def _is_deeper(layout: Layout) -> bool:
    return layout.is_trainable and layout.training_folder is not None
