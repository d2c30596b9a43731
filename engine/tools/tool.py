"""What a tool is: a module with settings, a dry run (`propose`), and the work itself (`carry_out`). No torch."""

from __future__ import annotations

import difflib
import hashlib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from engine.errors import PresetError, Problem
from engine.settings import Setting, settings_of
from engine.tools.journal import Journal

Outcome = Literal["done", "kept", "failed"]


class ToolSettings(BaseModel):
    """Settings of a tool: each field is one `setting(...)` line; a field may also be a group of such lines."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


@dataclass(frozen=True)
class Row:
    """One line of a tool's table: a file, what is to become of it, and where. Paths are absolute."""

    source: str
    action: str
    target: str = ""
    note: str = ""


@dataclass(frozen=True)
class Proposal:
    """The dry run: what would be done. With `problems` nothing can be done. `content` is the tool's own."""

    rows: tuple[Row, ...]
    summary: str
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    content: Any = None

    def digest(self) -> str:
        """Tells whether a proposal that is made later is still this one."""
        return hashlib.sha256(json.dumps([list(asdict(row).values()) for row in self.rows]).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return {
            "summary": self.summary,
            "rows": [asdict(row) for row in self.rows],
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": [asdict(problem) for problem in self.warnings],
        }


class Report(Protocol):
    """What a tool tells while it works, and the journal by which it touches files."""

    journal: Journal

    @property
    def folder(self) -> Path:
        """The job's own folder, for what a tool keeps there."""
        ...

    def total(self, count: int) -> None:
        """How many rows there will be."""
        ...

    def done(self, row: Row, outcome: Outcome = "done", note: str = "") -> None:
        """What became of a row; `note` is put in the place of the row's own where it is given."""
        ...

    def progress(self, done: int, total: int) -> None:
        """How far the work is where rows tell too little, as in bytes of a download."""
        ...

    def warn(self, message: str, where: str = "") -> None: ...

    def stage(self, name: str) -> None:
        """A new stage begins, in words."""
        ...

    def defect(self, details: str) -> None:
        """A fault that is not the user's, with its traceback: the job goes on and ends with exit code 1."""
        ...

    def is_stop_asked(self) -> bool:
        """Whether the work is to end; looked at between two files."""
        ...


class ToolModule(Protocol):
    """One file: what a user chooses on the page or names on the command line."""

    @property
    def TITLE(self) -> str: ...  # noqa: N802 - a constant

    @property
    def ABOUT(self) -> str: ...  # noqa: N802

    @property
    def Settings(self) -> type[ToolSettings]: ...  # noqa: N802 - a class

    def propose(self, settings: Any) -> Proposal:
        """The dry run: changes nothing, imports no torch. Raises UserError kinds."""
        ...

    def carry_out(self, proposal: Proposal, settings: Any, report: Report) -> None:
        """Do it, row by row. A row that fails is reported and does not end the others."""
        ...


class ResumingTool(Protocol):
    """What a tool has besides, whose job can be begun again: it finds what was done before and keeps it."""

    @property
    def RESUMES(self) -> bool: ...  # noqa: N802


class StartingTool(Protocol):
    """What a tool has besides, whose words on the command line stand for several settings, as a preset's file does."""

    @property
    def WORDS(self) -> str: ...  # noqa: N802

    def start_values(self, words: list[str]) -> dict[str, Any]:
        """The settings by name that the words stand for. Raises UserError."""
        ...


class ReadingTool(Protocol):
    """What a tool has besides, that can also tell what it read; without a row there is nothing to do but that."""

    def told(self, proposal: Proposal) -> tuple[str, dict[str, Any]]:
        """What was found, as text and as JSON takes it."""
        ...


@dataclass(frozen=True)
class Program:
    """Who carries out jobs: `python -m NAME run JOB_FOLDER`, and its tools by name."""

    name: str
    tools: Mapping[str, ToolModule]


def program_of(settings: BaseModel) -> str:
    """The name of the program whose tool these settings are for: the package that they are declared in."""
    return type(settings).__module__.partition(".")[0]


def settings_table(tool: str, settings_class: type[BaseModel]) -> dict[str, Setting]:
    """All that is known about each setting, by what `--set` calls it: "name", or "group.name" within a group."""
    hints = typing.get_type_hints(settings_class)
    own = {item.name: item for item in _settings(tool, settings_class) if not _is_group(item.type)}
    for name, hint in hints.items():
        if _is_group(hint) and name in settings_class.model_fields:
            own |= {item.path: item for item in _settings(name, hint)}
    return own


def make_settings(tool: str, settings_class: type[BaseModel], values: Mapping[str, Any]) -> Any:
    """Settings of a tool from values or texts by name; raises PresetError with all faults at once."""
    content: dict[str, Any] = {}
    for name, value in values.items():
        group, mark, inner = name.partition(".")
        if mark:
            content.setdefault(group, {})[inner] = value
        else:
            content[name] = value
    try:
        return settings_class.model_validate(content)
    except ValidationError as error:
        table = settings_table(tool, settings_class)
        faults = {".".join(map(str, fault["loc"])): fault["input"] for fault in error.errors()}
        raise PresetError([_problem(name, value, table) for name, value in faults.items()]) from None


def values_of(settings: BaseModel) -> dict[str, Any]:
    """The values by the names of `--set`, as JSON takes them."""
    found: dict[str, Any] = {}
    for name, value in settings.model_dump().items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            found[name] = value
    return found


def names_of(names: Sequence[str], at_most: int = 5) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most:,} more"


def counted(number: int, noun: str) -> str:
    """ "1 image", "2 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _settings(section: str, settings_class: type[BaseModel]) -> tuple[Setting, ...]:
    return settings_of(create_model("Sections", **{section: (settings_class, ...)}))  # type: ignore[call-overload]


def _is_group(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _problem(name: str, value: Any, table: Mapping[str, Setting]) -> Problem:
    where = f"--set {name}"
    if name in table:
        return Problem(where, f"must be {table[name].limits_text} (got {value!r}).")
    near = difflib.get_close_matches(name, table, n=1)
    hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(table)}."
    return Problem(where, f"there is no such setting.{hint}")
