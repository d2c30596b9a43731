"""What the page remembers between visits: the form as it was left, the level, and which preset it came from.

Kept in one file beside the user's presets; a missing or damaged file means a first visit. Nothing else depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.errors import PresetError, UserError
from engine.home import home
from engine.preset import ROOT, VERSION, migrate
from engine.secrets import without_secrets
from engine.settings import LEVELS

SHIPPED = ROOT / "presets"
FIRST_PRESET = SHIPPED / "demo.json"


def own_presets() -> Path:
    return home() / "presets" / "user"


@dataclass(frozen=True)
class Last:
    """The form's content (nested, as a preset, but perhaps faulty), the level shown, and the preset's file."""

    content: dict[str, Any]
    level: str = "basic"
    preset: str = ""


def remember(content: Mapping[str, Any], level: str, preset: str) -> None:
    """Keep the form for the next visit, keys and tokens left out. Raises UserError where it cannot be written."""
    kept = {"content": without_secrets(content), "level": level, "preset": preset}
    write_text_whole(_file(), json.dumps(kept, ensure_ascii=False, indent=1) + "\n")


def recall() -> Last:
    """The form as it was left; on a first visit the demo preset's file is named and the content is empty."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        content = migrate({"version": VERSION, **kept["content"]})
        level = kept["level"] if kept["level"] in LEVELS else "basic"
        return Last(content, level, str(kept["preset"]))
    except (OSError, ValueError, KeyError, TypeError, PresetError, UserError):
        return Last({}, preset=str(FIRST_PRESET) if FIRST_PRESET.exists() else "")


def keep_loaded(content: Mapping[str, Any]) -> None:
    """Keep a preset's content as it was loaded or saved; what is changed after that is marked. Raises UserError."""
    _write("loaded", content)


def loaded() -> dict[str, Any] | None:
    """The content that was loaded or saved last; None where none was."""
    return _read("loaded")


def keep_before(content: Mapping[str, Any]) -> None:
    """Keep the form, and what it came from, before a preset is loaded, so that this can be undone. Raises UserError."""
    _write("before", content)
    _write("loaded-before", loaded() or {})


def before() -> dict[str, Any] | None:
    """The form as it was before the last load; None where nothing was loaded."""
    return _read("before")


def loaded_before() -> dict[str, Any]:
    """What that form came from."""
    return _read("loaded-before") or {}


def knows_first_steps() -> bool:
    """Whether the walk of the first visit was seen or closed."""
    return _first_steps_file().exists()


def keep_first_steps() -> None:
    """Remember that the walk was seen. Raises UserError."""
    write_text_whole(_first_steps_file(), "{}\n")


def _first_steps_file() -> Path:
    return own_presets() / ".first-steps.json"


def _write(name: str, content: Mapping[str, Any]) -> None:
    path = own_presets() / f".{name}.json"
    write_text_whole(path, json.dumps(without_secrets(content), ensure_ascii=False, indent=1) + "\n")


def _read(name: str) -> dict[str, Any] | None:
    try:
        kept = json.loads((own_presets() / f".{name}.json").read_text(encoding="utf-8"))
        return migrate({"version": VERSION, **kept}) if kept else None
    except (OSError, ValueError, TypeError, PresetError):
        return None


def _file() -> Path:
    return own_presets() / ".last.json"
