"""The button ↺ beside a changed field: it puts back what the loaded preset has there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from engine.preset import BY_PATH, SETTINGS, Preset
from ui import form, last
from ui.applying import value_of

# page.js draws the buttons and tells here which one was pressed (something called "path" would be a file to Gradio)
_ON_LOAD = "window.atelier.whenReset((setting) => trigger('submit', { setting }))"


def build() -> gr.HTML:
    """The part that hears of the buttons; page.css hides it, being empty (one that is not visible would not hear)."""
    return gr.HTML("", elem_id="put-back", js_on_load=_ON_LOAD)


def loaded() -> Mapping[str, Any]:
    """The content that the form is compared with: the preset as it was loaded or saved last, else the defaults."""
    return last.loaded() or Preset().model_dump()


def changed(content: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, str]:
    """The settings that differ from `base` ("section.name"), each with what `base` has there, as people read it."""
    paths = (item.path for item in SETTINGS if value_of(content, item.path) != value_of(base, item.path))
    return {path: form.text_of(BY_PATH[path], value_of(base, path)) for path in paths}


def put_back(pressed: gr.EventData) -> list[Any]:
    """What the fields get, in the order of the settings: one its value, the others nothing."""
    path, base = str(getattr(pressed, "setting", "")), loaded()
    return [form.show(item, value_of(base, path)) if item.path == path else gr.skip() for item in SETTINGS]
