"""The fields of a tool: drawn from its settings as those of the form are, and read back as its settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.preset import ROOT
from engine.settings import Setting
from engine.tools.tool import make_settings, settings_table
from ui import fields as drawing
from ui import form
from ui.language import either, say, word
from ui.told import retold
from ui.tool_table import TOOLS
from ui.words import escape

FOLDER = "folder"  # every tool's first setting; left empty it means the training folder of the form
_OWN_FOLDER = ("download",)  # but not for these: theirs is no folder of images
_EMPTY = word("empty: the training folder")


@dataclass
class ToolFields:
    """The fields of one tool by what `--set` calls them: "name", or "group.name"."""

    tool: str
    items: dict[str, Setting]
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """What fields.js calls these fields together."""
        return f"tool.{self.tool}"

    def path(self, name: str) -> str:
        """What a field is called on the page, where all tools' fields are."""
        return f"tool.{self.tool}.{name}"

    def values(self, shown: Mapping[str, Any], training_folder: str) -> dict[str, Any]:
        """The raw values of the fields as the tool's settings take them; paths are made absolute."""
        found = {name: form.read(item, shown.get(name, item.default)) for name, item in self.items.items()}
        if FOLDER in found and not found[FOLDER] and self.tool not in _OWN_FOLDER:
            found[FOLDER] = training_folder
        for name, item in self.items.items():
            if item.kind in ("folder", "file") and found[name]:
                found[name] = str((ROOT / Path(found[name]).expanduser()).absolute())
        return {**found, **self.fixed}

    def defaults(self) -> dict[str, Any]:
        return {name: item.default for name, item in self.items.items()}

    def settings(self, values: Mapping[str, Any]) -> Any:
        """The tool's settings; a hidden field keeps its default. Raises PresetError with every fault."""
        off = set(self.off(values))
        wanted = {name: value for name, value in values.items() if name not in off}
        return make_settings(self.tool, TOOLS[self.tool].Settings, wanted)

    def off(self, values: Mapping[str, Any]) -> list[str]:
        """The fields that make no sense with these values: their `when` does not hold, or their group is not chosen."""
        return [name for name, item in self.items.items() if not self._is_on(name, item, values)]

    def _is_on(self, name: str, item: Setting, values: Mapping[str, Any]) -> bool:
        group = name.partition(".")[0] if "." in name else ""
        if group and any(group in other.choices and values.get(key) != group for key, other in self.items.items()):
            return False
        return all(values.get(self._name(path, group)) == wanted for path, wanted in item.when)

    def _name(self, path: str, group: str) -> str:
        """The setting that a `when` speaks of, as "tool.name", "group.name" or "name"."""
        last = path.rpartition(".")[2]
        return f"{group}.{last}" if f"{group}.{last}" in self.items else last

    def marks(self, problems: Iterable[Problem], values: Mapping[str, Any]) -> dict[str, Any]:
        """What page.js marks in the form: the sentences beside each field, and the fields that make no sense now."""
        beside: dict[str, list[str]] = {}
        for problem in problems:
            if (name := name_of(problem)) in self.items:
                beside.setdefault(self.path(name), []).append(retold(problem.message))
        return {"problems": beside, "off": [self.path(name) for name in self.off(values)]}

    def labelled(self, problems: Iterable[Problem]) -> list[Problem]:
        """The problems with the labels of the fields in the place of their names."""
        return [
            Problem(either(self.items[name].label, self.items[name].zh), problem.message)
            if (name := name_of(problem)) in self.items
            else problem
            for problem in problems
        ]


def name_of(problem: Problem) -> str:
    """The name of the setting that a problem is about, if it is about one."""
    return problem.where.removeprefix("--set ").strip()


def fields_of(tool: str, fixed: Mapping[str, Any]) -> ToolFields:
    """The fields of a tool; the settings of `fixed` have those values and no field."""
    table = settings_table(tool, TOOLS[tool].Settings)
    return ToolFields(tool, {name: item for name, item in table.items() if name not in fixed}, dict(fixed))


def draw(fields: ToolFields, is_chosen: bool) -> str:
    """The fields of a tool as HTML."""
    drawn = []
    for name, item in fields.items.items():
        empty = _EMPTY if name == FOLDER and fields.tool not in _OWN_FOLDER else ""
        drawn.append(drawing.field(item, drawing.Place(fields.path(name), fields.group, name, empty)))
    more = f'<a href="#" data-more="tool-{fields.tool}">{say("More settings")}</a>'
    more = more if any(item.level != "basic" for item in fields.items.values()) else ""
    marks = {"source": f"tool-{fields.tool}", **fields.marks((), fields.defaults())}
    chosen = " chosen" if is_chosen else ""
    head = f'<div id="tool-{fields.tool}" class="tool-fields drawn{chosen}" data-marks="{escape(json.dumps(marks))}">'
    return f"{head}{drawing.grid(drawn)}{more}</div>"
