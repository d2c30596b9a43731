"""Fields of settings as plain HTML, from their declarations alone; fields.js reads and fills them.

A field belongs to a group ("form", or a tool) and has a name in it. With a component of Gradio's for each field, its
store is searched for all of them at every event: on a page of two hundred, a key that is typed costs over a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import gradio as gr

from engine.settings import Setting
from ui import form
from ui.language import say, word
from ui.words import escape

FORM = "form"  # the group of the settings of a run
_PATH_OF = {"file": word("path of a file"), "folder": word("path of a folder")}
_KINDS = {bool: "bool", int: "number", float: "number", str: "text"}
_LINES_ROWS = 4

redrawn: dict[str, Callable[[], str]] = {}  # by id of the element: what is drawn anew in each language


@dataclass(frozen=True)
class Place:
    """Where a field stands: the path in its id, the group that it belongs to, what it is called there."""

    path: str
    group: str
    name: str
    placeholder: str = ""

    @property
    def id(self) -> str:
        return form.field_id(self.path)


def html(draw: Callable[[], str], elem_id: str, **about: object) -> gr.HTML:
    """An element whose HTML `draw` makes in the language of who opens the page; form.js then fills what is in it."""
    redrawn[elem_id] = draw
    about.setdefault("js_on_load", "window.atelierForm.drawn(element)")
    return gr.HTML(draw(), elem_id=elem_id, **about)  # pyright: ignore[reportArgumentType]


def of_form(items: Iterable[Setting]) -> str:
    """The fields of settings of the form, in a grid."""
    return grid(field(item, Place(item.path, FORM, item.path)) for item in items)


def grid(fields: Iterable[str]) -> str:
    return f'<div class="fields">{"".join(fields)}</div>'


def field(item: Setting, place: Place) -> str:
    """One field: label and unit, help, what is entered, its name in kohya_ss. Marks are put in by page.js."""
    classes = ["field", f"level-{item.level}"]
    classes += ["wide"] if item.kind in ("lines", "file", "folder") else []
    classes += [f"path-{item.kind}"] if item.kind in ("file", "folder") else []
    about = f'<p class="info-text" id="help-{place.id}">{escape(say(item.help))}</p>' if item.help else ""
    label = escape(form.label_of(item))
    if item.type is bool:
        checked = " checked" if item.default else ""
        box = f'<input type="checkbox"{_named(place)}{checked}>'
        body = f'<label class="checkbox-container">{box}<span class="label-text">{label}</span></label>{about}'
    else:
        body = (
            f'<label class="label-text" for="entry-{place.id}">{label}</label>{about}'
            f'<div class="entry">{_entry(item, place, label)}</div>'
        )
    kohya = f'<div class="kohya-name">kohya_ss: {escape(item.kohya)}</div>' if item.kohya else ""
    of = f'data-group="{escape(place.group)}" data-name="{escape(place.name)}" data-kind="{kind_of(item)}"'
    return f'<div class="{" ".join(classes)}" id="{place.id}" {of}>{body}{kohya}</div>'


def kind_of(item: Setting) -> str:
    """How fields.js reads the field: "bool", "number" or "text"; a rate is a text, shown as 1e-4."""
    return "text" if item.kind == "rate" or item.choices else _KINDS[item.type]


def _named(place: Place) -> str:
    return f' id="entry-{place.id}" aria-describedby="help-{place.id}" data-entry'


def _entry(item: Setting, place: Place, label: str) -> str:
    value, named = form.show(item, item.default), _named(place)
    if item.choices:
        options = "".join(_option(choice, choice == item.default) for choice in item.choices)
        return f"<select{named}>{options}</select>"
    if item.kind == "color":
        return f'<input type="color"{named} value="{escape(value)}">'
    if item.kind == "lines":
        return f'<textarea{named} rows="{_LINES_ROWS}" spellcheck="false">{escape(value)}</textarea>'
    if kind_of(item) == "number":
        return _number(item, named, label)
    shown = place.placeholder or _PATH_OF.get(item.kind, "")
    placeholder = f' placeholder="{escape(say(shown))}"' if shown else ""
    entry = f'<input type="text"{named} value="{escape(value)}"{placeholder} autocomplete="off" spellcheck="false">'
    if item.kind not in ("file", "folder"):
        return entry
    choose = escape(say("Choose…"))
    return f'{entry}<button type="button" class="choose-path" aria-label="{choose} {label}">{choose}</button>'


def _option(choice: object, is_chosen: bool) -> str:
    chosen = " selected" if is_chosen else ""
    return f'<option value="{escape(choice)}"{chosen}>{escape(say(str(choice)))}</option>'


def _number(item: Setting, named: str, label: str) -> str:
    """A number, with a slider beside it where one serves."""
    slider = form.slider_step(item)
    value = "" if item.default is None else escape(item.default)
    if slider is None:
        step = item.multiple_of or (1 if item.type is int else 0.1)
        return f'<input type="number"{named} step="{step}" value="{value}">'
    shown = f' min="{item.low}" max="{item.high}" step="{slider}" value="{value}"'
    return f'<input type="range" aria-label="{label}"{shown}><input type="number"{named}{shown}>'
