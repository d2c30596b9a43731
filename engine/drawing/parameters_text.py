"""The text that A1111's web UI and its relatives put into a picture: prompt, negative prompt, and a last line of
`Key: value` pairs. Written and read back exactly; torch-free, knows no settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MOST_CHARACTERS = 1_000_000
NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*(\w[\w \-/()]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_FEWEST_PAIRS = 3  # a last line with fewer is a line of the prompt


@dataclass(frozen=True)
class Parameters:
    """What such a text says. `pairs`: by key, as text, in order; the last of equal keys counts."""

    prompt: str = ""
    negative: str = ""
    pairs: Mapping[str, str] = field(default_factory=dict)


def write(prompt: str, negative: str, pairs: Iterable[tuple[str, object]]) -> str:
    """The text; values with commas, colons, quotes or line breaks stand in quotes."""
    lines = [prompt] + ([f"{NEGATIVE} {negative}"] if negative else [])
    return "\n".join([*lines, ", ".join(f"{key}: {quoted(_shown(value))}" for key, value in pairs)])


def read(text: str) -> Parameters:
    """What a text says; text that says nothing is a prompt alone."""
    lines = text[:MOST_CHARACTERS].replace("\r\n", "\n").strip("\n ").split("\n")
    found = _PAIR.findall(lines[-1])
    if len(found) < _FEWEST_PAIRS:
        found = []
    else:
        lines.pop()
    at = next((number for number, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[at:]).removeprefix(NEGATIVE).removeprefix(" ")
    return Parameters("\n".join(lines[:at]), negative, {key: unquoted(value) for key, value in found})


def quoted(text: str) -> str:
    """A value as it stands in the last line."""
    is_plain = text and text == text.strip() and not any(mark in text for mark in ',:\n"')
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def unquoted(text: str) -> str:
    """A value as it was before `quoted`."""
    stripped = text.strip()
    if len(stripped) > 1 and stripped[0] == stripped[-1] == '"':
        try:
            return str(json.loads(stripped, strict=False))
        except (ValueError, RecursionError):
            return stripped
    return stripped


def _shown(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
