"""Patterns of file names: `{class}_{n:03}`. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from engine.data.folders import repeats_and_name
from engine.errors import UserError

FIELDS: dict[str, str] = {
    "path": "the folders' names from the chosen one on, without repeats",
    "class": "the image's folder without its repeats",
    "parent": "the image's folder as it is called",
    "stem": "the old name without its suffix",
    "n": "the number in its folder; {n:03} with zeros before it",
}
_NUMBER_WIDTH = re.compile(r"0?[0-9]{0,2}d?")
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Pattern:
    """A checked pattern."""

    text: str

    @property
    def is_numbered(self) -> bool:
        return any(field == "n" for _, field, _, _ in string.Formatter().parse(self.text))

    def name(self, values: Mapping[str, str | int]) -> str:
        """The name for values of every field."""
        return self.text.format_map(values).strip()


def parse_pattern(text: str, where: str = "pattern") -> Pattern:
    """Check a pattern. Raises UserError for unknown fields, broken braces, and signs that no name may hold."""
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError:
        raise UserError(f"has a brace without its partner (got {text!r}). Write fields as {{class}}.", where) from None
    for literal, field, spec, conversion in pieces:
        if found := _NOT_IN_NAMES.search(literal):
            raise UserError(f"holds {found[0]!r}, which no file name may hold (got {text!r}). Leave it out.", where)
        if field is None:
            continue
        if field not in FIELDS or conversion:
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise UserError(f"has an unknown field {{{field}}} (got {text!r}). There are {known}.", where)
        if spec and (field != "n" or not _NUMBER_WIDTH.fullmatch(spec)):
            raise UserError(f"has {{{field}:{spec}}}; only {{n:03}} takes digits (got {text!r}).", where)
    pattern = Pattern(text)
    if not pattern.is_numbered and not any(field == "stem" for _, field, _, _ in pieces):
        raise UserError(f"would call all images of a folder alike (got {text!r}). Add {{n}} or {{stem}}.", where)
    return pattern


def name_fault(name: str) -> str:
    """Why no file should be called so, or ""."""
    if not name.strip(". "):
        return "would have no name"
    if name.startswith("."):
        return "would be hidden, since its name begins with a point"
    if name.endswith((".", " ")) or _RESERVED.fullmatch(name):
        return "would have a name that Windows does not take"
    if len(name.encode(errors="surrogateescape")) > 200:
        return "would have too long a name"
    return ""


def class_word(folder_name: str) -> str:
    """The folder's name without its repeats; the name itself where nothing else is in it."""
    meaning = repeats_and_name(folder_name)
    return (meaning[1] if meaning else folder_name).strip() or folder_name
