"""The fields of a tool: drawn from its settings by the form's own code, and read back as its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from engine.errors import Problem
from engine.preset import ROOT
from engine.settings import Setting
from engine.tools.tool import make_settings, settings_table
from ui import form
from ui.language import either
from ui.told import retold
from ui.tool_table import TOOLS

FOLDER = "folder"  # every tool's first setting; left empty it means the training folder of the form
_OWN_FOLDER = ("download",)  # but not for these: theirs is no folder of images


@dataclass
class ToolFields:
    """The widgets of one tool by what `--set` calls them: "name", or "group.name"."""

    tool: str
    items: dict[str, Setting]
    fixed: dict[str, Any] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Component]:
        """All widgets in the order of the settings."""
        return [self.components[name] for name in self.items]

    def path(self, name: str) -> str:
        """What a field is called on the page, where all tools' fields are."""
        return f"tool.{self.tool}.{name}"

    def values(self, shown: Sequence[Any], training_folder: str) -> dict[str, Any]:
        """The raw values of `inputs` as the tool's settings take them; paths are made absolute."""
        found = {name: form.read(item, value) for (name, item), value in zip(self.items.items(), shown, strict=True)}
        if FOLDER in found and not found[FOLDER] and self.tool not in _OWN_FOLDER:
            found[FOLDER] = training_folder
        for name, item in self.items.items():
            if item.kind in ("folder", "file") and found[name]:
                found[name] = str((ROOT / Path(found[name]).expanduser()).absolute())
        return {**found, **self.fixed}

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


def draw(tool: str, fixed: Mapping[str, Any]) -> ToolFields:
    """Draw the fields of a tool here; the settings of `fixed` have those values and no field."""
    table = settings_table(tool, TOOLS[tool].Settings)
    fields = ToolFields(tool, {name: item for name, item in table.items() if name not in fixed}, dict(fixed))
    with gr.Column(elem_id=f"tool-{tool}", elem_classes="tool-fields"):
        with gr.Row(elem_classes="fields", equal_height=False):
            for name, item in fields.items.items():
                fields.components[name] = form.widget(item, fields.path(name))
                if name == FOLDER and tool not in _OWN_FOLDER:
                    fields.components[name].placeholder = "empty: the training folder"  # type: ignore[attr-defined]
        if any(item.level != "basic" for item in fields.items.values()):
            gr.HTML(f'<a href="#" data-more="tool-{tool}">More settings</a>')
    return fields
