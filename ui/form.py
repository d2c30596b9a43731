"""The form: what its fields show of a preset, and the way from what they show to a preset.

What a field shows and what a preset holds differ a little (a rate is shown as 1e-4 in a text field). `show` and `read`
are each other's inverse; tests/test_ui_form.py holds them to it for every setting. fields.py draws the fields.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from engine.preset import SETTINGS, VERSION, Preset
from engine.settings import Setting
from ui import words
from ui.language import either, say

Shown = Mapping[str, Any]  # what fields show: "section.name", and "about" and "author" → raw value

ABOUT_ITSELF = ("about", "author")  # what a preset says about itself
_SLIDER_STEPS = 200  # a slider with more positions cannot be set by hand


def field_id(path: str) -> str:
    """The id of a field's element on the page."""
    return "field-" + path.replace(".", "-")


def label_of(item: Setting) -> str:
    """What a setting is called on the page, with its unit where the name does not tell it."""
    label, unit = either(item.label, item.zh), say(item.unit) if item.unit else ""
    return label if not unit or unit.lower() in label.lower() else say("{label} ({unit})", label=label, unit=unit)


def slider_step(item: Setting) -> float | None:
    """The step of the setting's slider; None where a number field serves better."""
    if item.type not in (int, float) or item.kind or item.low is None or item.high is None or item.exclusive_low:
        return None
    span = item.high - item.low
    if item.type is int:
        step = item.multiple_of or 1
        return step if span / step <= _SLIDER_STEPS else None
    if 1 <= span <= 40:
        return 0.01 if span <= 1 else 0.5
    return None


def show(item: Setting, value: Any) -> Any:
    """A preset's value as its field shows it."""
    if item.kind == "rate" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return words.rate(value)
    return value


def text_of(item: Setting, value: Any) -> str:
    """A value in words, for notes beside a field."""
    if isinstance(value, bool):
        return say("on") if value else say("off")
    return (say(str(value)) if item.choices else str(show(item, value))) or say("empty")


def read(item: Setting, shown: Any) -> Any:
    """A field's raw value as a preset takes it. What cannot be read is passed on, so that `build` can say so."""
    if isinstance(shown, str):
        text = shown.replace("\r\n", "\n")
        if item.kind == "rate":
            with contextlib.suppress(ValueError):
                return float(text)
        return text if item.kind == "lines" else text.strip()
    if shown is None and item.type is str:
        return ""
    if item.type is int and isinstance(shown, float) and shown.is_integer():
        return int(shown)
    return shown


def show_all(preset: Preset) -> dict[str, Any]:
    """What all fields show for a preset."""
    shown = {item.path: show(item, preset.get(item.path)) for item in SETTINGS}
    return {**shown, **{name: getattr(preset, name) for name in ABOUT_ITSELF}}


def read_all(shown: Shown) -> dict[str, Any]:
    """The raw values of the fields as the nested content that `engine.preset.build` takes; one that is not there is
    read as its setting's default."""
    content: dict[str, Any] = {"version": VERSION, **{name: str(shown.get(name) or "") for name in ABOUT_ITSELF}}
    for item in SETTINGS:
        content.setdefault(item.section, {})[item.name] = read(item, shown.get(item.path, item.default))
    return content


def show_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the fields show for content that may be incomplete or faulty, such as a form kept from the last visit."""
    shown: dict[str, Any] = {}
    for item in SETTINGS:
        section = content.get(item.section)
        value = section.get(item.name, item.default) if isinstance(section, Mapping) else item.default
        shown[item.path] = show(item, value if fits(item, value) else item.default)
    return {**shown, **{name: str(content.get(name) or "") for name in ABOUT_ITSELF}}


def fits(item: Setting, value: Any) -> bool:
    """Whether the field can show the value at all (not: whether the value is allowed)."""
    if item.type is bool:
        return isinstance(value, bool)
    if item.choices:
        return value in item.choices
    if item.type is str or item.kind == "rate":
        return isinstance(value, (str, int, float))
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))
