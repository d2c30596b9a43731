"""What was changed since a preset was loaded, with what the button ↺ beside each changed field puts back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.preset import BY_PATH, SETTINGS, Preset
from ui import form, last
from ui.applying import value_of


def loaded() -> Mapping[str, Any]:
    """The content that the form is compared with: the preset as it was loaded or saved last, else the defaults."""
    return last.loaded() or Preset().model_dump()


def changed(content: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that differ from `base` ("section.name"), each with what `base` has there: "text" as people read
    it, "shown" as the field shows it."""
    paths = (item.path for item in SETTINGS if value_of(content, item.path) != value_of(base, item.path))
    return {path: _told(path, value_of(base, path)) for path in paths}


def _told(path: str, value: Any) -> dict[str, Any]:
    item = BY_PATH[path]
    shown = form.show(item, value if form.fits(item, value) else item.default)
    return {"text": form.text_of(item, value), "shown": shown}
