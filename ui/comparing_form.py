"""The form of the tab "Compare": three comparisons over one set of drawing settings, drawn and read as the other forms.

A field is called "group.name" for a setting of the drawing, which all three share, and "tool.name" for one of a tool's
own; on the page, where all forms are, KEY stands before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.compare import COMPARISONS
from engine.compare.layout import Layout, layout_of_plot
from engine.compare.pick import layout_of_trial
from engine.compare.settings import drawing_values
from engine.drawing.settings import BY_PATH
from engine.errors import Problem, UserError
from engine.home import home
from engine.settings import Setting
from engine.tools.tool import Proposal, make_settings, settings_table
from ui import form as forms
from ui import run_list, sample_form
from ui.language import either, say
from ui.told import retold

KEY = "comparing"  # the group of the fields
FIRST_TOOL = "compare"
AXES = ("x", "y", "z")
_NO_FIELD = ("picture.count", "picture.batch_size", "picture.folder")  # a comparison has one picture a cell, in its job
_NAME = re.compile(r"(?<![\w./-])([a-z]+\.[a-z_]+)(?![\w/])")

DRAWING: dict[str, Setting] = {
    path: item for path, item in BY_PATH.items() if path not in _NO_FIELD and item.section != "preview"
}
OWN: dict[str, dict[str, Setting]] = {
    tool: {name: item for name, item in settings_table(tool, about.Settings).items() if name not in BY_PATH}
    for tool, about in COMPARISONS.items()
}
FIELDS: dict[str, Setting] = {
    **DRAWING,
    **{f"{tool}.{name}": item for tool, items in OWN.items() for name, item in items.items()},
}


@dataclass(frozen=True)
class Look:
    """What a filled-in form would do: settings (None where they are faulty), the estimate, what is in the way, and the
    empty grid (None where it is not known).
    """

    tool: str
    settings: Any
    summary: str
    problems: Sequence[Problem]
    layout: Layout | None = None


def settings_of(tool: str, shown: Mapping[str, Any]) -> Any:
    """A tool's settings of the raw values of the fields. Raises PresetError with every fault."""
    named = {**{path: path for path in DRAWING}, **{name: f"{tool}.{name}" for name in OWN[tool]}}
    values = {name: forms.read(FIELDS[field], shown.get(field, FIELDS[field].default)) for name, field in named.items()}
    return make_settings(tool, COMPARISONS[tool].Settings, values)


def look_at(tool: str, shown: Mapping[str, Any]) -> Look:
    """The dry run; changes nothing."""
    settings = None
    try:
        settings = settings_of(tool, shown)
        found = COMPARISONS[tool].propose(settings)
    except UserError as error:
        return Look(tool, settings, "", error.problems)
    except OSError as error:  # a file that went away between two looks
        problem = Problem(str(error.filename or ""), f"cannot be read ({error.strerror}).")
        return Look(tool, settings, "", (problem,))
    return Look(tool, settings, found.summary, found.problems, _layout_of(tool, found))


def _layout_of(tool: str, found: Proposal) -> Layout:
    return layout_of_trial(found.content) if tool == "pick" else layout_of_plot(found.content)


# ---------------------------------------------------------------- problems


def field_of(tool: str, where: str) -> str:
    """The field that a problem is of, "" where it is of none."""
    name = where.removeprefix("--set ").strip()
    if name in OWN[tool]:
        return f"{tool}.{name}"
    return name if name in DRAWING else ""


def marks(tool: str, shown: Mapping[str, Any], problems: Iterable[Problem]) -> dict[str, Any]:
    """For page.js: the sentences beside each field, and what makes no sense now."""
    beside: dict[str, list[str]] = {}
    for problem in problems:
        if field := field_of(tool, problem.where):
            beside.setdefault(f"{KEY}.{field}", []).append(plain(tool, problem.message))
    return {"source": KEY, "problems": beside, "off": [f"{KEY}.{field}" for field in _off(tool, shown)]}


def _off(tool: str, shown: Mapping[str, Any]) -> list[str]:
    def value(field: str) -> Any:
        return shown.get(field, FIELDS[field].default)

    found = [path for path, item in DRAWING.items() if any(value(other) != wanted for other, wanted in item.when)]
    found += ["picture.prompt"] if tool == "pick" else []  # it has prompts of its own
    found += [f"compare.{axis}.values" for axis in AXES if value(f"compare.{axis}.kind") == "none"]
    found += ["timeline.strip.columns"] if value("timeline.strip.kind") == "animation" else []
    found += ["timeline.strip.seconds"] if value("timeline.strip.kind") == "strip" else []
    return found + ([] if str(value("pick.clip.weights")).strip() else ["pick.clip.model"])


def labelled(tool: str, problems: Iterable[Problem]) -> list[Problem]:
    """The problems as the page tells them, with the labels of the fields in the place of their names."""
    return [Problem(_label(field_of(tool, item.where)) or item.where, plain(tool, item.message)) for item in problems]


def listed(tool: str, problems: Iterable[Problem]) -> list[dict[str, str]]:
    """The problems for the browser: the field that each leads to, what that is called, and the sentence."""
    found = []
    for problem in problems:
        field = field_of(tool, problem.where)
        about = {"field": f"{KEY}.{field}" if field else "", "label": _label(field) or problem.where}
        found.append({**about, "message": plain(tool, problem.message)})
    return found


def _label(field: str) -> str:
    if not field:
        return ""
    label = either(FIELDS[field].label, FIELDS[field].zh)
    parts = field.split(".")
    return f"{parts[1].upper()}: {label}" if len(parts) == 3 and parts[1] in AXES else label


def plain(tool: str, message: str) -> str:
    """A sentence of the engine as the page tells it: settings by the labels of their fields."""

    def label(found: re.Match[str]) -> str:
        field = field_of(tool, found[1])
        return say("“{label}”", label=_label(field)) if field else found[0]

    return _NAME.sub(label, retold(message))


# ---------------------------------------------------------------- filling it


def begun_with(source: str) -> dict[str, Any]:
    """What the fields show to begin with something: "sample" (the form of that tab), a run's folder, a drawing preset
    or a model. Raises UserError for anything else.
    """
    values = _of_sample() if source == "sample" else drawing_values([source])
    shown = {path: forms.show(item, values.get(path, item.default)) for path, item in DRAWING.items()}
    is_run = source != "sample" and (Path(source).expanduser() / "preset.json").is_file()
    return {**shown, **(of_run(source) if is_run else {})}


def _of_sample() -> dict[str, Any]:
    content = sample_form.recall()
    found = sample_form.show_content(content)
    return {path: found[path] for path in DRAWING}


def of_run(folder: str) -> dict[str, Any]:
    """What the tools' own fields show for a run: all its checkpoints."""
    axis = {"compare.x.kind": "checkpoint", "compare.x.values": folder}
    return {**axis, "timeline.run": folder, "pick.run": folder}


def remember(tool: str, shown: Mapping[str, Any]) -> None:
    """Keep the form for the next visit. Raises UserError where it cannot be written."""
    kept = {"tool": tool, "shown": {name: shown[name] for name in FIELDS if name in shown}}
    write_text_whole(_file(), json.dumps(kept, ensure_ascii=False, indent=1) + "\n")


def recall() -> tuple[str, dict[str, Any]]:
    """The tool and the form as they were left; on the first visit with the newest run, else as the tab Sample draws."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
        tool, shown = str(kept["tool"]), dict(kept["shown"])
    except (OSError, ValueError, KeyError, TypeError):  # a missing or damaged file means a first visit
        return FIRST_TOOL, {**_defaults(), **_first()}
    fitting = {name: value for name, value in shown.items() if name in FIELDS and forms.fits(FIELDS[name], value)}
    return tool if tool in COMPARISONS else FIRST_TOOL, {**_defaults(), **fitting}


def _defaults() -> dict[str, Any]:
    return {name: forms.show(item, item.default) for name, item in FIELDS.items()}


def _first() -> dict[str, Any]:
    for run in run_list.all_runs():
        if any(run.checkpoints.glob("*.safetensors")):
            try:
                return begun_with(str(run.path))
            except UserError:  # a damaged run is told where it is chosen
                break
    return {**begun_with("sample"), "compare.x.kind": "seed", "compare.x.values": "1-4"}


def _file() -> Path:
    return home() / "comparing" / "form.json"
