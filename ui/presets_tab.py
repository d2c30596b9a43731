"""Tab "Presets": load (and undo it), save, import from other trainers, export to kohya_ss, compare, delete.

Drawn here once in each language; presets.js fills it and asks what is answered below.
"""

from __future__ import annotations

import base64
import binascii
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from engine import kohya
from engine.errors import UserError
from engine.preset import Preset
from engine.preset import build as build_preset
from engine.settings import Setting
from ui import applying, fields, last, preset_files
from ui import form as forms
from ui import preset_views as views
from ui.data_page import problem_list
from ui.language import say, word
from ui.words import escape, plural

Asked = Mapping[str, Any]
Answer = dict[str, Any]

_PRESENT = "present form"
_ABOUT_ITSELF = (
    Setting("", "about", str, "", word("What it is for; kept in the preset."), "说明", "Note", kind="lines"),
    Setting("", "author", str, "", "", "作者", "Author"),
)


def build() -> gr.HTML:
    """Draw the tab."""
    return fields.html(_tab, "presets", js_on_load="window.atelierPresets.start(element)")


def _tab() -> str:
    told = '<div id="preset-message" role="status"></div><div id="preset-receipt"></div>'
    return f'<div class="drawn"><div class="two">{_loading()}{_saving()}</div>{told}{_comparing()}</div>'


def _loading() -> str:
    kept = say("Where the preset has none of its own.")
    keep = (
        '<label class="checkbox-container"><input type="checkbox" id="preset-keep" checked>'
        f'<span>{say("Keep my model, folders and names")} <span class="quiet">{kept}</span></span></label>'
    )
    bring = f'{say("Import a file…")}<input type="file" id="preset-import" accept=".json,.toml">'
    return (
        f'<section class="sheet"><h4>{say("Load")}</h4>{_choice("preset-choice", say("Preset"))}'
        f'<div id="preset-about"></div>{keep}<div class="buttons">'
        f"{_button('load', say('Load into the form'), 'primary')}{_button('undo', say('Undo the last load'))}</div>"
        '<div id="preset-changes"></div><div class="buttons">'
        f'<label class="file-button">{bring}</label>{_button("delete", say("Delete"))}</div>'
        f'<p class="quiet">{say("Files of kohya_ss, sd-scripts and OneTrainer become presets of yours.")}</p></section>'
    )


def _saving() -> str:
    about = "".join(fields.field(item, fields.Place(item.name, fields.FORM, item.name)) for item in _ABOUT_ITSELF)
    return (
        f'<section class="sheet"><h4>{say("Save the present form")}</h4>'
        f'<label class="label-text" for="preset-name">{say("Name")}</label>'
        f'<input type="text" id="preset-name" placeholder="{say("my style, 12 GB")}" autocomplete="off">{about}'
        f'<div class="buttons">{_button("save-as", say("Save as new"), "primary")}{_button("save", say("Save over"))}'
        f"{_button('export', say('Download for kohya_ss'))}</div></section>"
    )


def _comparing() -> str:
    both = _choice("compare-left", say("Left")) + _choice("compare-right", say("Right"))
    return (
        f'<section class="sheet"><h4>{say("Compare")}</h4><div class="two">{both}</div>'
        '<div id="differences"></div></section>'
    )


def _choice(name: str, label: str) -> str:
    return f'<div><label class="label-text" for="{name}">{label}</label><select id="{name}"></select></div>'


def _button(what: str, text: str, style: str = "") -> str:
    return f'<button type="button" id="preset-{what}" class="{style}">{text}</button>'


def look(asked: Asked, content: Asked) -> Answer:
    """What the tab shows of "chosen", "left" and "right" (paths) beside the form; "keep" is null where the box is to
    propose. {"items", "with_form": [[title, path]], "chosen", "left", "right", "keep", "about", "changes",
    "differences", "deletes", "undoes"}."""
    items = _listed()
    paths = [path for _, path in items]
    first = paths[0] if paths else ""
    chosen, left, right = (str(asked.get(name) or "") for name in ("chosen", "left", "right"))
    chosen = chosen if chosen in paths else first
    left, right = left if left in paths else _PRESENT, right if right in (*paths, _PRESENT) else first
    keep = asked.get("keep")
    keep = keeps_yours(chosen) if keep is None or asked.get("keep_for") != chosen else bool(keep)
    shown = {"items": items, "with_form": [[say("What the form holds now"), _PRESENT], *items], "chosen": chosen}
    shown |= {"left": left, "right": right, "keep": keep, "undoes": last.before() is not None}
    return {**shown, **_described(chosen, keep, content), "differences": compare(left, right, content)}


def _described(chosen: str, keep: bool, present: Asked) -> Answer:
    """The chosen preset's note and what it would change; whether it may be deleted."""
    if not chosen:
        what = f'<p class="quiet">{say("No preset is here yet. Save one on the right.")}</p>'
        return {"about": what, "changes": "", "deletes": False}
    own = any(item.own and str(item.path) == chosen for item in preset_files.preset_files())
    try:
        preset = preset_files.load_listed(chosen)
    except UserError as error:
        return {"about": problem_list(error.problems, "problem"), "changes": "", "deletes": own}
    content, kept = applying.applied(preset, present, keep)
    changes = views.changes(applying.changes(present, content), kept)
    return {"about": views.about(preset, own), "changes": changes, "deletes": own}


def _listed() -> list[list[str]]:
    """All presets as a list shows them: [title, path]."""
    return [
        [say("{title} (yours)", title=item.title) if item.own else say(item.title), str(item.path)]
        for item in preset_files.preset_files()
    ]


def keeps_yours(chosen: str | None) -> bool:
    """A recipe leaves the user's folders alone; a preset of the user's own is loaded as it was saved."""
    return not any(item.own and str(item.path) == chosen for item in preset_files.preset_files())


def compare(left: str, right: str, present: Asked) -> str:
    """The settings that differ, as a table."""
    try:
        rows = preset_files.differences(_preset(left, present), _preset(right, present))
    except UserError as error:
        return problem_list(error.problems, "problem")
    if not rows:
        return f'<p class="quiet">{say("No difference in any setting.")}</p>'
    table = views.settings_table(rows, (say("Left"), say("Right")))
    return f'<p class="quiet">{plural(len(rows), "difference")}</p>{table}'


def _preset(chosen: str, present: Asked) -> Preset:
    return build_preset(present) if chosen == _PRESENT else preset_files.load_listed(chosen)


def load(asked: Asked, present: Asked) -> Answer:
    """Load "chosen" into the form. "keep_for": the preset that the box stands for; a quick hand may be ahead of it.
    Raises UserError."""
    chosen = str(asked.get("chosen") or "")
    preset, item = preset_files.load_listed(chosen), preset_files.find(chosen)
    last.keep_before(present)
    keep = bool(asked.get("keep")) if asked.get("keep_for") == chosen else keeps_yours(chosen)
    content, kept = applying.applied(preset, present, keep)
    last.keep_loaded(content)
    name = item.title if item.own else say("my {title}", title=say(item.title))
    shown = forms.show_content(content)
    told = {"message": views.loaded(item.title, kept), "receipt": "", "name": name}
    return {**told, "preset": chosen, "shown": shown, "edited": ""}


def undo(_: Asked, present: Asked) -> Answer:
    """The form as it was before the last load; pressed again, as it was after it. Raises UserError."""
    before, from_what = last.before(), last.loaded_before()
    if before is None:
        return {"message": f'<p class="quiet">{say("Nothing was loaded yet.")}</p>', "receipt": ""}
    last.keep_before(present)
    last.keep_loaded(from_what)
    done = say("The form is as before. Undo again to go back.")
    return {"message": f'<p class="done">{done}</p>', "receipt": "", "shown": forms.show_content(before), "edited": ""}


def save(asked: Asked, present: Asked) -> Answer:
    """Save the form as "name"; "over" replaces a preset of that name. Raises UserError."""
    preset = build_preset(present)
    path = preset_files.save(preset, str(asked.get("name") or ""), asked.get("over") is True)
    last.keep_loaded(preset.model_dump())
    done = say("Saved as “{name}”.", name=escape(path.stem))
    return {"message": f'<p class="done">{done}</p>', "name": path.stem, "chosen": str(path), "preset": str(path)}


def delete(asked: Asked, _: Asked) -> Answer:
    """Move "chosen", a preset of the user's, into the bin. Raises UserError."""
    chosen = str(asked.get("chosen") or "")
    title, bin_ = preset_files.find(chosen).title, preset_files.delete(chosen)
    done = say("“{name}” is deleted; its file lies in {folder}.", name=escape(title), folder=escape(bin_))
    return {"message": f'<p class="done">{done}</p>'}


def bring(asked: Asked, _: Asked) -> Answer:
    """Another trainer's file ("name", and "data" in base64) becomes a preset of the user's. Raises UserError."""
    try:
        data = base64.b64decode(str(asked.get("data") or ""), validate=True)
    except binascii.Error:
        data = b""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / (Path(str(asked.get("name") or "").replace("\\", "/")).name.strip() or "preset.json")
        try:
            file.write_bytes(data)
        except (OSError, ValueError) as error:
            raise UserError(say("this file's name cannot be used. Rename the file, then choose it again.")) from error
        return _imported(file)


def _imported(file: Path) -> Answer:
    """The receipt of a file that was brought in; it may hold a key, and is removed by who put it there."""
    path, receipt, problems = preset_files.bring(file)
    shown = views.receipt(receipt, file.name) if receipt else ""
    if path is None:
        what = f'<p class="fault">{say("Nothing was saved: these settings do not go together.")}</p>'
        return {"message": what + problem_list(problems, "problem"), "receipt": shown}
    done = say("Saved as “{name}”. Look through it, then load it into the form.", name=escape(path.stem))
    return {"message": f'<p class="done">{done}</p>', "receipt": shown, "chosen": str(path)}


def export(asked: Asked, present: Asked) -> Answer:
    """The form as a file for kohya_ss: {"file": its name, "text"}; nothing is written here. Raises UserError."""
    preset = build_preset(present)
    made = kohya.export(preset)
    file = preset_files.file_name(str(asked.get("name") or "") or preset.run.name) + " kohya_ss.json"
    done = say("“{file}” goes to your downloads.", file=escape(file))
    text = json.dumps(made.content, ensure_ascii=False, indent=2)
    return {"message": f'<p class="done">{done}</p>', "receipt": views.export(made), "file": file, "text": text}
