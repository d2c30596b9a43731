"""The settings that a picture carries, as the browser gets them."""

from __future__ import annotations

from typing import Any

from engine.drawing.picture_notes import NOTES, Found
from engine.drawing.settings import BY_PATH
from ui import form as forms
from ui.language import say


def told(found: Found) -> dict[str, Any]:
    """Settings for the browser: those that are not the defaults with their labels, and all of them to be used."""
    shown = [item for path, item in BY_PATH.items() if path in found.values and found.values[path] != item.default]
    rows = [
        [forms.label_of(item), forms.text_of(item, found.values[item.path])]
        for item in shown
        if item.path not in ("picture.prompt", "picture.negative")
    ]
    return {
        "source": found.source,
        "prompt": found.values.get("picture.prompt", ""),
        "negative": found.values.get("picture.negative", ""),
        "rows": rows,
        "notes": [say(NOTES[note.key], **note.values) for note in found.notes],
        "values": found.values,
    }
