"""Tab "Presets": load (and undo it), save, import from other trainers, export to kohya_ss, compare, delete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from engine import kohya
from engine.errors import UserError
from engine.preset import BY_PATH, Preset
from engine.preset import build as build_preset
from ui import applying, last, preset_files
from ui import form as forms
from ui import preset_views as views
from ui.data_page import problem_list
from ui.form import Form
from ui.handlers import QUIET
from ui.language import say
from ui.words import escape, plural

_PRESENT = "present form"
# Hands the browser a file that was made of the form; nothing is written on the server
_DOWNLOAD = """(made) => {
  if (!made) return;
  const {name, text} = JSON.parse(made);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}"""


@dataclass
class PresetsTab:
    tab: gr.Tab
    chosen: gr.Dropdown
    about_chosen: gr.HTML
    keep: gr.Checkbox
    keep_for: gr.Textbox
    changes: gr.HTML
    load: gr.Button
    undo: gr.Button
    delete: gr.Button
    upload: gr.UploadButton
    name: gr.Textbox
    save: gr.Button
    save_as: gr.Button
    export: gr.Button
    made: gr.Textbox
    message: gr.HTML
    receipt: gr.HTML
    left: gr.Dropdown
    right: gr.Dropdown
    differences: gr.HTML


def build(form: Form, tab: gr.Tab) -> PresetsTab:
    """Draw the tab."""
    message = gr.HTML(elem_id="preset-message", render=False)
    receipt = gr.HTML(elem_id="preset-receipt", render=False)
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h4>Load</h4>")
            chosen = gr.Dropdown([], label="Preset", elem_id="preset-choice")
            about_chosen = gr.HTML(elem_id="preset-about")
            keep = gr.Checkbox(
                True,
                label="Keep my model, folders and names",
                info="Where the preset has none of its own.",
                elem_id="preset-keep",
            )
            keep_for = gr.Textbox(visible="hidden", elem_id="preset-keep-for")
            with gr.Row():
                load = gr.Button("Load into the form", variant="primary", elem_id="preset-load")
                undo = gr.Button("Undo the last load", interactive=False, elem_id="preset-undo")
            changes = gr.HTML(elem_id="preset-changes")
            with gr.Row():
                upload = gr.UploadButton(
                    "Import a file…", file_types=[".json", ".toml"], elem_id="preset-import", variant="secondary"
                )
                delete = gr.Button("Delete", interactive=False, elem_id="preset-delete")
            gr.HTML('<p class="quiet">Files of kohya_ss, sd-scripts and OneTrainer become presets of yours.</p>')
        with gr.Column(elem_classes="sheet"):
            gr.HTML("<h4>Save the present form</h4>")
            name = gr.Textbox(label="Name", placeholder="my style, 12 GB", max_lines=1, elem_id="preset-name")
            form.about = gr.Textbox(label="Note", info="What it is for; kept in the preset.", lines=3, interactive=True)
            form.author = gr.Textbox(label="Author", max_lines=1, interactive=True)
            with gr.Row():
                save_as = gr.Button("Save as new", variant="primary", elem_id="preset-save-as")
                save = gr.Button("Save over", elem_id="preset-save")
            export = gr.Button("Download for kohya_ss", elem_id="preset-export")
            made = gr.Textbox(visible="hidden", elem_id="preset-made")
    message.render()
    receipt.render()
    with gr.Column(elem_classes="sheet"):
        gr.HTML("<h4>Compare</h4>")
        with gr.Row():
            left = gr.Dropdown([], label="Left", elem_id="compare-left")
            right = gr.Dropdown([], label="Right", elem_id="compare-right")
        differences = gr.HTML(elem_id="differences")
    return PresetsTab(
        tab, chosen, about_chosen, keep, keep_for, changes, load, undo, delete, upload, name, save, save_as, export,
        made, message, receipt, left, right, differences,
    )  # fmt: skip


def connect(tab: PresetsTab, form: Form, check_after: dict[str, Any]) -> None:
    """Wire the buttons. `check_after` is the look at the form that follows a load."""
    lists: dict[str, Any] = {
        "fn": choices_update,
        "inputs": [tab.chosen, tab.left, tab.right],
        "outputs": [tab.chosen, tab.left, tab.right],
        **QUIET,
    }
    keep = propose(tab)
    refresh = look(tab, form)
    tab.chosen.input(**keep).then(**refresh)
    gr.on([tab.keep.input, tab.tab.select], **refresh)
    loads = [tab.chosen, tab.keep, tab.keep_for, *form.inputs]
    loaded = tab.load.click(_load, loads, [tab.message, tab.receipt, tab.name, *form.inputs], **QUIET)
    undone = tab.undo.click(_undo, form.inputs, [tab.message, tab.receipt, *form.inputs], **QUIET)
    for event in (loaded, undone):
        event.then(**check_after).then(**refresh)
    for button, overwrite in ((tab.save_as, False), (tab.save, True)):
        saved = button.click(_saver(overwrite), [tab.name, *form.inputs], [tab.message, tab.name, tab.chosen], **QUIET)
        saved.then(**lists).then(**keep).then(**check_after).then(**refresh)
    tab.delete.click(_delete, [tab.chosen], [tab.message], **QUIET).then(**lists).then(**keep).then(**refresh)
    brought = tab.upload.upload(
        _import, [tab.upload], [tab.message, tab.receipt, tab.chosen], **{**QUIET, "preprocess": True}
    )
    brought.then(**lists).then(**keep).then(**refresh)
    exported = tab.export.click(_export, [tab.name, *form.inputs], [tab.message, tab.receipt, tab.made], **QUIET)
    exported.then(None, [tab.made], js=_DOWNLOAD, api_visibility="private")
    gr.on([tab.left.input, tab.right.input], compare, [tab.left, tab.right, *form.inputs], [tab.differences], **QUIET)


def look(tab: PresetsTab, form: Form) -> dict[str, Any]:
    """The look at the chosen preset beside the form, as an event's arguments."""
    return {
        "fn": describe,
        "inputs": [tab.chosen, tab.keep, tab.left, tab.right, *form.inputs],
        "outputs": [tab.about_chosen, tab.changes, tab.delete, tab.undo, tab.differences],
        **QUIET,
    }


def propose(tab: PresetsTab) -> dict[str, Any]:
    """What the box proposes for the chosen preset, as an event's arguments."""
    return {
        "fn": lambda chosen: [keeps_yours(chosen), chosen],
        "inputs": [tab.chosen],
        "outputs": [tab.keep, tab.keep_for],
        **QUIET,
    }


def choices_update(chosen: str | None, left: str | None, right: str | None) -> list[Any]:
    """The lists of presets as they are on disk now; what was chosen stays chosen while it exists."""
    items = _listed()
    paths = [path for _, path in items]
    first = paths[0] if paths else None
    with_form = [(say("What the form holds now"), _PRESENT), *items]
    return [
        gr.update(choices=items, value=chosen if chosen in paths else first),
        gr.update(choices=with_form, value=left if left in paths else _PRESENT),
        gr.update(choices=with_form, value=right if right in (*paths, _PRESENT) else first),
    ]


def _listed() -> list[tuple[str, str]]:
    """All presets as a list shows them: (title, path)."""
    return [
        (say("{title} (yours)", title=item.title) if item.own else say(item.title), str(item.path))
        for item in preset_files.preset_files()
    ]


def _chosen(path: Path) -> Any:
    """The list with a preset that was just written, chosen."""
    return gr.update(choices=_listed(), value=str(path))


def keeps_yours(chosen: str | None) -> bool:
    """A recipe leaves the user's folders alone; a preset of the user's own is loaded as it was saved."""
    return not any(item.own and str(item.path) == chosen for item in preset_files.preset_files())


def describe(chosen: str | None, keep: bool, left: str, right: str, *shown: Any) -> list[Any]:
    """The chosen preset's note and what it would change; whether it may be deleted, and a load be undone."""
    undo = gr.update(interactive=last.before() is not None)
    differences = compare(left, right, *shown)
    if not chosen:
        what = f'<p class="quiet">{say("No preset is here yet. Save one on the right.")}</p>'
        return [what, "", gr.update(interactive=False), undo, differences]
    own = any(item.own and str(item.path) == chosen for item in preset_files.preset_files())
    delete = gr.update(interactive=own)
    try:
        preset = preset_files.load_listed(chosen)
    except UserError as error:
        return [problem_list(error.problems, "problem"), "", delete, undo, differences]
    present = forms.read_all(shown)
    content, kept = applying.applied(preset, present, bool(keep))
    changes = views.changes(applying.changes(present, content), kept)
    return [views.about(preset, own), changes, delete, undo, differences]


def compare(left: str, right: str, *shown: Any) -> str:
    """The settings that differ, as a table."""
    try:
        rows = preset_files.differences(_preset(left, shown), _preset(right, shown))
    except UserError as error:
        return problem_list(error.problems, "problem")
    if not rows:
        return f'<p class="quiet">{say("No difference in any setting.")}</p>'
    table = views.settings_table(rows, (say("Left"), say("Right")))
    return f'<p class="quiet">{plural(len(rows), "difference")}</p>{table}'


def _preset(chosen: str, shown: Sequence[Any]) -> Preset:
    return build_preset(forms.read_all(shown)) if chosen == _PRESENT else preset_files.load_listed(chosen)


def _load(chosen: str | None, keep: bool, keep_for: str | None, *shown: Any) -> list[Any]:
    """Load into the form. `keep_for`: the preset that the box stands for; a quick hand may be ahead of it."""
    nothing = [gr.skip()] * (len(BY_PATH) + 2)
    present = forms.read_all(shown)
    try:
        preset = preset_files.load_listed(chosen or "")
        last.keep_before(present)
    except UserError as error:
        return [problem_list(error.problems, "problem"), gr.skip(), gr.skip(), *nothing]
    item = preset_files.find(chosen or "")
    keep = bool(keep) if keep_for == chosen else keeps_yours(chosen)
    content, kept = applying.applied(preset, present, keep)
    try:
        last.keep_loaded(content)
    except UserError as error:
        return [problem_list(error.problems, "problem"), gr.skip(), gr.skip(), *nothing]
    name = item.title if item.own else say("my {title}", title=say(item.title))
    return [views.loaded(item.title, kept), "", name, *forms.show_content(content)]


def _undo(*shown: Any) -> list[Any]:
    """The form as it was before the last load; pressed again, as it was after it."""
    before, from_what, nothing = last.before(), last.loaded_before(), [gr.skip()] * (len(BY_PATH) + 2)
    if before is None:
        return [f'<p class="quiet">{say("Nothing was loaded yet.")}</p>', "", *nothing]
    try:
        last.keep_before(forms.read_all(shown))
        last.keep_loaded(from_what)
    except UserError as error:
        return [problem_list(error.problems, "problem"), "", *nothing]
    done = say("The form is as before. Undo again to go back.")
    return [f'<p class="done">{done}</p>', "", *forms.show_content(before)]


def _saver(overwrite: bool):
    def save(name: str, *shown: Any) -> list[Any]:
        try:
            preset = build_preset(forms.read_all(shown))
            path = preset_files.save(preset, name or "", overwrite)
            last.keep_loaded(preset.model_dump())
        except UserError as error:
            return [problem_list(error.problems, "problem"), gr.skip(), gr.skip()]
        return [f'<p class="done">{say("Saved as “{name}”.", name=escape(path.stem))}</p>', path.stem, _chosen(path)]

    return save


def _delete(chosen: str | None) -> str:
    try:
        title = preset_files.find(chosen or "").title
        bin_ = preset_files.delete(chosen or "")
    except UserError as error:
        return problem_list(error.problems, "problem")
    done = say("“{name}” is deleted; its file lies in {folder}.", name=escape(title), folder=escape(bin_))
    return f'<p class="done">{done}</p>'


def _import(uploaded: str | None) -> list[Any]:
    """Another trainer's file becomes a preset of the user's; the upload, which may hold a key, is removed."""
    if not uploaded:
        return [gr.skip()] * 3
    file = Path(uploaded)
    try:
        path, receipt, problems = preset_files.bring(file)
    except UserError as error:
        return [problem_list(error.problems, "problem"), "", gr.skip()]
    finally:
        file.unlink(missing_ok=True)
    shown = views.receipt(receipt, file.name) if receipt else ""
    if path is None:
        what = f'<p class="fault">{say("Nothing was saved: these settings do not go together.")}</p>'
        return [what + problem_list(problems, "problem"), shown, gr.skip()]
    done = say("Saved as “{name}”. Look through it, then load it into the form.", name=escape(path.stem))
    return [f'<p class="done">{done}</p>', shown, _chosen(path)]


def _export(name: str, *shown: Any) -> list[Any]:
    try:
        preset = build_preset(forms.read_all(shown))
    except UserError as error:
        return [problem_list(error.problems, "problem"), "", ""]
    made = kohya.export(preset)
    file = preset_files.file_name(name or preset.run.name) + " kohya_ss.json"
    text = json.dumps(made.content, ensure_ascii=False, indent=2)
    message = f'<p class="done">{say("“{file}” goes to your downloads.", file=escape(file))}</p>'
    return [message, views.export(made), json.dumps({"name": file, "text": text})]
