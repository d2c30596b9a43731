"""The captioners by name, and the settings of each. A new one is a file in this folder and a line here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from pydantic import ValidationError, create_model

from captioning import blip, wd
from captioning.protocol import CaptionerModule, CaptionerSettings
from engine.errors import PresetError, Problem, UserError
from engine.settings import Setting, settings_of

CAPTIONERS: dict[str, CaptionerModule] = {
    "blip": blip,
    "wd": wd,
}


def settings_table(name: str) -> dict[str, Setting]:
    """All that is known about each setting of a captioner, by name, in the order of its file."""
    sections = create_model("Sections", **{name: (CAPTIONERS[name].Settings, ...)})  # type: ignore[call-overload]
    return {item.name: item for item in settings_of(sections)}


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """{"name": "value"} of "name=value" texts. Raises UserError for a text without "="."""
    for text in texts:
        if "=" not in text:
            raise UserError(f"must look like name=value (got {text!r}).", "--set")
    return {name.strip(): value.strip() for name, _, value in (text.partition("=") for text in texts)}


def make_settings(name: str, values: Mapping[str, str]) -> CaptionerSettings:
    """Settings of the captioner `name` (a key of CAPTIONERS) from texts; raises PresetError with all faults at once."""
    try:
        return CAPTIONERS[name].Settings.model_validate_strings(dict(values))
    except ValidationError as error:
        table = settings_table(name)
        faults = {str(fault["loc"][0]): fault for fault in error.errors()}
        raise PresetError([_problem(key, values[key], table, name) for key in faults]) from None


def _problem(key: str, value: str, table: Mapping[str, Setting], captioner: str) -> Problem:
    if key in table:
        return Problem(f"--set {key}", f"must be {table[key].limits_text} (got {value!r}).")
    near = difflib.get_close_matches(key, table, n=1)
    hint = f" Did you mean {near[0]}?" if near else f" It has: {', '.join(table)}."
    return Problem(f"--set {key}", f"the captioner {captioner} has no such setting.{hint}")
