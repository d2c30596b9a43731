"""Tab "Presets": load, save, save under a new name, delete own ones, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from engine.errors import UserError
from engine.preset import BY_PATH, Preset
from engine.preset import build as build_preset
from ui import form as forms
from ui import preset_files
from ui.data_page import problem_list
from ui.form import Form
from ui.handlers import QUIET
from ui.words import escape, plural

_PRESENT = "present form"


@dataclass
class PresetsTab:
    chosen: gr.Dropdown
    load: gr.Button
    delete: gr.Button
    about_chosen: gr.HTML
    name: gr.Textbox
    save: gr.Button
    save_as: gr.Button
    message: gr.HTML
    left: gr.Dropdown
    right: gr.Dropdown
    differences: gr.HTML


def build(form: Form) -> PresetsTab:
    """Draw the tab."""
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h4>Load</h4>")
            chosen = gr.Dropdown([], label="Preset", elem_id="preset-choice")
            about_chosen = gr.HTML(elem_id="preset-about")
            with gr.Row():
                load = gr.Button("Load into the form", variant="primary", elem_id="preset-load")
                delete = gr.Button("Delete", interactive=False, elem_id="preset-delete")
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h4>Save the present form</h4>")
            name = gr.Textbox(label="Name", placeholder="my style, 12 GB", max_lines=1, elem_id="preset-name")
            form.about = gr.Textbox(label="Note", info="What it is for; kept in the preset.", lines=3, interactive=True)
            form.author = gr.Textbox(label="Author", max_lines=1, interactive=True)
            with gr.Row():
                save_as = gr.Button("Save as new", variant="primary", elem_id="preset-save-as")
                save = gr.Button("Save over", elem_id="preset-save")
    message = gr.HTML(elem_id="preset-message")
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h4>Compare</h4>")
        with gr.Row():
            left = gr.Dropdown([], label="Left", elem_id="compare-left")
            right = gr.Dropdown([], label="Right", elem_id="compare-right")
        differences = gr.HTML(elem_id="differences")
    return PresetsTab(chosen, load, delete, about_chosen, name, save, save_as, message, left, right, differences)


def connect(tab: PresetsTab, form: Form, check_after: dict[str, Any]) -> None:
    """Wire the buttons. `check_after` is the look at the form that follows a load."""
    lists = [tab.chosen, tab.left, tab.right]
    tab.chosen.input(describe, [tab.chosen], [tab.about_chosen, tab.delete], **QUIET)
    tab.load.click(_load, [tab.chosen], [tab.message, tab.name, *form.inputs], **QUIET).then(**check_after)
    for button, overwrite in ((tab.save_as, False), (tab.save, True)):
        saved = button.click(_saver(overwrite), [tab.name, *form.inputs], [tab.message, tab.name, tab.chosen], **QUIET)
        saved.then(choices_update, [tab.chosen, tab.left, tab.right], lists, **QUIET).then(
            describe, [tab.chosen], [tab.about_chosen, tab.delete], **QUIET
        )
    tab.delete.click(_delete, [tab.chosen], [tab.message], **QUIET).then(
        choices_update, [tab.chosen, tab.left, tab.right], lists, **QUIET
    ).then(describe, [tab.chosen], [tab.about_chosen, tab.delete], **QUIET)
    gr.on([tab.left.input, tab.right.input], compare, [tab.left, tab.right, *form.inputs], [tab.differences], **QUIET)


def choices_update(chosen: str | None, left: str | None, right: str | None) -> list[Any]:
    """The lists of presets as they are on disk now; what was chosen stays chosen while it exists."""
    items = [
        (f"{item.title} (yours)" if item.own else item.title, str(item.path)) for item in preset_files.preset_files()
    ]
    paths = [path for _, path in items]
    first = paths[0] if paths else None
    with_form = [("What the form holds now", _PRESENT), *items]
    return [
        gr.update(choices=items, value=chosen if chosen in paths else first),
        gr.update(choices=with_form, value=left if left in paths else _PRESENT),
        gr.update(choices=with_form, value=right if right in (*paths, _PRESENT) else first),
    ]


def describe(chosen: str | None) -> list[Any]:
    """What the chosen preset says about itself, and whether it may be deleted."""
    if not chosen:
        return ['<p class="quiet">No preset is here yet. Save one on the right.</p>', gr.update(interactive=False)]
    own = any(item.own and str(item.path) == chosen for item in preset_files.preset_files())
    try:
        preset = preset_files.load_listed(chosen)
    except UserError as error:
        return [problem_list(error.problems, "problem"), gr.update(interactive=own)]
    about = escape(preset.about) or '<span class="quiet">This preset carries no note.</span>'
    author = f'<p class="quiet">by {escape(preset.author)}</p>' if preset.author else ""
    return [f'<p class="about">{about}</p>{author}', gr.update(interactive=own)]


def compare(left: str, right: str, *shown: Any) -> str:
    """The settings that differ, as a table."""
    try:
        rows = preset_files.differences(_preset(left, shown), _preset(right, shown))
    except UserError as error:
        return problem_list(error.problems, "problem")
    if not rows:
        return '<p class="quiet">No difference in any setting.</p>'
    cells = "".join(
        f"<tr><td>{escape(BY_PATH[path].section.capitalize())}</td><td>{escape(BY_PATH[path].label)}</td>"
        f"<td><code>{_text(path, one)}</code></td><td><code>{_text(path, two)}</code></td></tr>"
        for path, one, two in rows
    )
    head = "<tr><th>Section</th><th>Setting</th><th>Left</th><th>Right</th></tr>"
    return (
        f'<p class="quiet">{plural(len(rows), "difference")}</p>'
        f'<table class="plain"><thead>{head}</thead><tbody>{cells}</tbody></table>'
    )


def _preset(chosen: str, shown: Sequence[Any]) -> Preset:
    return build_preset(forms.read_all(shown)) if chosen == _PRESENT else preset_files.load_listed(chosen)


def _text(path: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return escape(forms.show(BY_PATH[path], value)) or "empty"


def _load(chosen: str | None) -> list[Any]:
    try:
        preset = preset_files.load_listed(chosen or "")
    except UserError as error:
        nothing = [gr.skip()] * (len(BY_PATH) + 2)
        return [problem_list(error.problems, "problem"), gr.skip(), *nothing]
    item = preset_files.find(chosen or "")
    text = f'<p class="done">“{escape(item.title)}” is in the form now.</p>'
    return [text, item.title if item.own else f"my {item.title}", *forms.show_all(preset)]


def _saver(overwrite: bool):
    def save(name: str, *shown: Any) -> list[Any]:
        try:
            preset = build_preset(forms.read_all(shown))
            path = preset_files.save(preset, name or "", overwrite)
        except UserError as error:
            return [problem_list(error.problems, "problem"), gr.skip(), gr.skip()]
        return [f'<p class="done">Saved as “{escape(path.stem)}”.</p>', path.stem, str(path)]

    return save


def _delete(chosen: str | None) -> str:
    try:
        title = preset_files.find(chosen or "").title
        preset_files.delete(chosen or "")
    except UserError as error:
        return problem_list(error.problems, "problem")
    return f'<p class="done">“{escape(title)}” is deleted.</p>'
