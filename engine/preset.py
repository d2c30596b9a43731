"""The preset: all settings of a run in one frozen object. Each setting is one line of a file in `sections/`.

Relative paths in a preset are relative to Atelier's own folder (`ROOT`), so that a preset means the same wherever it
lies.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.atomic import write_text_whole
from engine.errors import PresetError, Problem, UserError
from engine.rules import rule_problems
from engine.secrets import masked
from engine.sections.adapter import Adapter
from engine.sections.captions import Captions
from engine.sections.data import Data
from engine.sections.logging import Logging
from engine.sections.loss import Loss
from engine.sections.memory import Memory
from engine.sections.model import Model
from engine.sections.noise import Noise
from engine.sections.optimizer import Optimizer
from engine.sections.run import Run
from engine.sections.sample import Sample
from engine.sections.sharing import Sharing
from engine.sections.validation import Validation
from engine.settings import Setting, settings_of

ROOT = Path(__file__).resolve().parent.parent
VERSION = 1


class Sectioned(BaseModel):
    """Settings in sections, as presets of runs and of drawings have them. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    guide: ClassVar[str] = "docs/settings.md"

    def get(self, path: str) -> Any:
        """The value of "section.name"."""
        section, name = path.split(".")
        return getattr(getattr(self, section), name)

    def content_with(self, values: Mapping[str, Any], known: Collection[str]) -> tuple[dict[str, Any], list[Problem]]:
        """The nested content with other values by "section.name", and a problem for each path that is not `known`."""
        content = self.model_dump()
        problems: list[Problem] = []
        for path, value in values.items():
            if path not in known:
                problems.append(Problem(path, "there is no such setting." + nearest(path, known, self.guide)))
                continue
            section, name = path.split(".")
            content[section][name] = value
        return content, problems

    def save(self, path: Path) -> None:
        """Write the preset as JSON, whole or not at all."""
        write_text_whole(path, self.model_dump_json(indent=2) + "\n")


class Preset(Sectioned):
    """All settings of a run. Build it with `load`, `build` or `changed`."""

    version: int = VERSION
    about: str = ""
    author: str = ""
    model: Model = Model()
    data: Data = Data()
    captions: Captions = Captions()
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    noise: Noise = Noise()
    loss: Loss = Loss()
    run: Run = Run()
    sample: Sample = Sample()
    validation: Validation = Validation()
    memory: Memory = Memory()
    logging: Logging = Logging()
    sharing: Sharing = Sharing()

    def values(self) -> dict[str, Any]:
        """All values by "section.name"."""
        return {item.path: self.get(item.path) for item in SETTINGS}

    def changed(self, values: Mapping[str, Any]) -> Preset:
        """A copy with other values by "section.name"; raises PresetError with every fault."""
        return build(*self.content_with(values, BY_PATH))


SETTINGS: tuple[Setting, ...] = settings_of(Preset)
BY_PATH: dict[str, Setting] = {item.path: item for item in SETTINGS}
SECTIONS: tuple[str, ...] = tuple(dict.fromkeys(item.section for item in SETTINGS))
# Version → function that turns that version's content into the next one's; the only place that knows old names.
MIGRATIONS: dict[int, Any] = {}


def resolve(path: str) -> Path:
    """A path of a preset as an absolute one: relative paths start at Atelier's folder."""
    return (ROOT / Path(path).expanduser()).resolve()


def load(path: Path) -> Preset:
    """Read a preset file. Raises PresetError (all faults at once) or UserError when it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("there is no such preset file. Check the name and the folder.", str(path)) from None
    except IsADirectoryError:
        raise UserError("this is a folder without preset.json, not a preset. Give a preset file.", str(path)) from None
    except UnicodeDecodeError:
        raise UserError("this file is not text, so it is no preset. Give a .json preset file.", str(path)) from None
    except json.JSONDecodeError as error:
        what = f"this is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}. Correct that place."
        raise UserError(what, str(path)) from None
    except RecursionError:
        raise UserError("this is nested too deeply to be a preset. Give another file.", str(path)) from None
    except OSError as error:
        raise UserError(f"the preset cannot be read ({error.strerror}).", str(path)) from None
    if not isinstance(content, dict):
        raise UserError("a preset is a JSON object with sections such as model and data.", str(path))
    return build(migrate(content))


def migrate(content: dict[str, Any]) -> dict[str, Any]:
    """Bring the content of an older preset up to date; refuse one of a newer Atelier."""
    version = content.get("version", VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PresetError([Problem("version", f"must be a whole number from 1 to {VERSION} (got {version!r}).")])
    if version > VERSION:
        what = f"was saved by a newer Atelier (format {version}; this one reads up to {VERSION}). Update Atelier."
        raise PresetError([Problem("version", what)])
    while version < VERSION:
        content = MIGRATIONS[version](content)
        version += 1
    return {**content, "version": VERSION}


def build(content: Mapping[str, Any], problems: Iterable[Problem] = ()) -> Preset:
    """Make a preset of nested values. Raises PresetError with all faults at once, those between settings included."""
    found = list(problems)
    try:
        preset = Preset.model_validate(dict(content))
    except ValidationError as error:
        found += [_problem_of(fault) for fault in error.errors()]
        rest, other = (_rest(content, error, values) for values in (Setting.nearest, Setting.another))
        whatever = rule_problems(other)  # what only a value that we put in brings about is no fault of the user's
        standing = [problem for problem in rule_problems(rest) if problem in whatever]
        raise PresetError(_masked(found + standing), rest) from None
    found += rule_problems(preset)
    if found:
        raise PresetError(_masked(found), preset)
    return preset


def _masked(problems: Iterable[Problem]) -> list[Problem]:
    """Faults go into logs and reports, so none repeats a key or token."""
    return [Problem(item.where, masked(item.message)) for item in problems]


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """`section.name=value` texts of the command line as a dict; raises PresetError for texts without "="."""
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise PresetError([Problem(f"--set {text}", "write it as section.name=value.") for text in wrong])
    return {name.strip(): value for name, value in (text.split("=", 1) for text in texts)}


def _problem_of(fault: Any) -> Problem:
    """A sentence for one of pydantic's findings."""
    where = ".".join(str(part) for part in fault["loc"])
    got = fault.get("input")
    if fault["type"] == "extra_forbidden":
        known = SECTIONS if len(fault["loc"]) == 1 else BY_PATH
        return Problem(where, "there is no such setting." + nearest(where, known))
    if where in BY_PATH:
        return Problem(where, f"must be {BY_PATH[where].limits_text} (got {got!r}).")
    if where in SECTIONS:
        return Problem(where, f"must be a group of settings in braces (got {got!r}).")
    return Problem(where, f"{fault['msg']} (got {got!r}).")


def _rest(content: Mapping[str, Any], error: ValidationError, value_for: Callable[[Setting, Any], Any]) -> Preset:
    """The preset with other values in the place of faulty ones, so that faults between the others are found too."""
    rest = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for fault in error.errors():
        place: Any = rest
        for part in fault["loc"][:-1]:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            got = place.pop(fault["loc"][-1], None)
            if item := BY_PATH.get(".".join(map(str, fault["loc"]))):
                place[item.name] = value_for(item, got)
    return Preset.model_validate(rest)


def nearest(name: str, known: Iterable[str], guide: str = Sectioned.guide) -> str:
    """The end of a sentence on a name that there is not: the one that was meant, or where all of them stand."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and "." in name:
        tails = {item.split(".")[-1]: item for item in names}
        close = [tails[tail] for tail in difflib.get_close_matches(name.split(".")[-1], tails, n=1, cutoff=0.6)]
    return f" Did you mean {close[0]}?" if close else f" See {guide} for all of them."
