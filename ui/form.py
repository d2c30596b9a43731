"""The form: one widget per setting, built from its declaration alone, and the way from shown values to a preset.

What a widget shows and what a preset holds differ a little (a rate is shown as 1e-4 in a text field). `show` and `read`
are each other's inverse; tests/test_ui_form.py holds them to it for every setting.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.preset import BY_PATH, SETTINGS, VERSION, Preset
from engine.settings import Setting
from ui import words
from ui.language import either, say

_SLIDER_STEPS = 200  # a slider with more positions cannot be set by hand
_PATH_OF = {"file": "path of a file", "folder": "path of a folder"}
_RGBA = re.compile(r"rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*[\d.]+\s*)?\)")


@dataclass
class Form:
    """The widgets of the page by "section.name", and what a preset says about itself."""

    fields: dict[str, Component] = field(default_factory=dict)
    about: Component | None = None
    author: Component | None = None

    def add(self, path: str) -> Component:
        """Draw the widget of one setting here."""
        self.fields[path] = widget(BY_PATH[path])
        return self.fields[path]

    @property
    def inputs(self) -> list[Component]:
        """All widgets in the order of the settings, then note and author. Handlers get their raw values."""
        assert self.about is not None and self.author is not None and len(self.fields) == len(SETTINGS)
        return [*(self.fields[item.path] for item in SETTINGS), self.about, self.author]

    @property
    def triggers(self) -> list[Callable[..., Any]]:
        """What happens when the user (not the page) changes a field; page.js sends one more after each pause."""
        return [getattr(component, "input") for component in self.inputs]  # noqa: B009 - events are added at run time


def field_id(path: str) -> str:
    """The id of a field's element on the page."""
    return "field-" + path.replace(".", "-")


def widget(item: Setting, path: str = "") -> Component:
    """The widget for a setting: by its kind, its choices and its limits. `path` is another path than the setting's."""
    about: dict[str, Any] = {
        "label": label_of(item),
        "info": item.help,
        "elem_id": field_id(path or item.path),
        "elem_classes": [
            "field",
            f"level-{item.level}",
            *(["wide"] if item.kind in ("lines", "file", "folder") else []),
            *([f"path-{item.kind}"] if item.kind in ("file", "folder") else []),
        ],
        "value": show(item, item.default),
        "interactive": True,
    }
    if item.type is bool:
        return gr.Checkbox(**about)
    if item.choices:
        return gr.Dropdown(choices=list(item.choices), filterable=False, **about)
    if item.kind == "color":
        return gr.ColorPicker(**about)
    if item.kind == "lines":
        return gr.Textbox(lines=4, max_lines=14, **about)
    if item.kind in ("file", "folder"):
        return gr.Textbox(placeholder=_PATH_OF[item.kind], max_lines=1, **about)
    if item.kind == "rate" or item.type is str:
        return gr.Textbox(max_lines=1, **about)
    step = slider_step(item)
    if step is not None:
        return gr.Slider(minimum=item.low or 0, maximum=item.high or 0, step=step, buttons=[], **about)
    return gr.Number(step=item.multiple_of or (1 if item.type is int else 0.1), **about)


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
    """A preset's value as its widget shows it."""
    if item.kind == "rate" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return words.rate(value)
    return value


def text_of(item: Setting, value: Any) -> str:
    """A value in words, for notes beside a field."""
    if isinstance(value, bool):
        return say("on") if value else say("off")
    return (say(str(value)) if item.choices else str(show(item, value))) or say("empty")


def read(item: Setting, shown: Any) -> Any:
    """A widget's raw value as a preset takes it. What cannot be read is passed on, so that `build` can say so."""
    if isinstance(shown, str):
        text = shown.replace("\r\n", "\n")
        if item.kind == "rate":
            with contextlib.suppress(ValueError):
                return float(text)
        if item.kind == "color" and (found := _RGBA.fullmatch(text.strip())):
            return "#" + "".join(f"{round(float(part)):02x}" for part in found.groups())
        return text if item.kind == "lines" else text.strip()
    if shown is None and item.type is str:
        return ""
    if item.type is int and isinstance(shown, float) and shown.is_integer():
        return int(shown)
    return shown


def show_all(preset: Preset) -> list[Any]:
    """What all widgets show for a preset, in the order of `Form.inputs`."""
    return [*(show(item, preset.get(item.path)) for item in SETTINGS), preset.about, preset.author]


def read_all(shown: Sequence[Any]) -> dict[str, Any]:
    """The raw values of `Form.inputs` as the nested content that `engine.preset.build` takes."""
    about, author = (str(text or "") for text in shown[len(SETTINGS) :])
    content: dict[str, Any] = {"version": VERSION, "about": about, "author": author}
    for item, value in zip(SETTINGS, shown, strict=False):
        content.setdefault(item.section, {})[item.name] = read(item, value)
    return content


def show_content(content: Mapping[str, Any]) -> list[Any]:
    """What the widgets show for content that may be incomplete or faulty, such as a form kept from the last visit."""
    shown: list[Any] = []
    for item in SETTINGS:
        section = content.get(item.section)
        value = section.get(item.name, item.default) if isinstance(section, Mapping) else item.default
        shown.append(show(item, value) if fits(item, value) else show(item, item.default))
    return [*shown, *(str(content.get(name) or "") for name in ("about", "author"))]


def fits(item: Setting, value: Any) -> bool:
    """Whether the widget can show the value at all (not: whether the value is allowed)."""
    if item.type is bool:
        return isinstance(value, bool)
    if item.choices:
        return value in item.choices
    if item.type is str or item.kind == "rate":
        return isinstance(value, (str, int, float))
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
