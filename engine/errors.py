"""What can go wrong through the user's input, as sentences. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.preset import Preset


@dataclass(frozen=True)
class Problem:
    """One fault in the user's input: `where` names the setting, file or folder; `message` says what and what to do."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class UserError(Exception):
    """The user can mend this. The text is one sentence or a few: *where: what (got value). What to do.*"""

    exit_code = 2

    def __init__(self, message: str, where: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(where, message),)
        super().__init__(str(self.problems[0]))


class PresetError(UserError):
    """All faults of a preset at once. `rest`: the preset with allowed values in the place of faulty ones."""

    def __init__(self, problems: Sequence[Problem], rest: Preset | None = None) -> None:
        super().__init__("")
        self.problems = tuple(problems)
        self.rest = rest
        self.args = ("\n".join(str(problem) for problem in problems),)


class DatasetError(UserError):
    """The pictures or captions cannot be used as they are."""


class ModelError(UserError):
    """The base model, VAE or adapter file cannot be used."""


class MissingPackage(UserError):  # noqa: N818 - the sentence starts with what is missing
    """A Python package that this setting needs is not installed or does not work here."""
