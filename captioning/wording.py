"""How a caption is put together: new words, words that are there already, fixed tags, the trigger word. Pure text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Existing = Literal["only empty", "keep", "append", "prepend", "replace"]


@dataclass(frozen=True)
class Wording:
    """What becomes of an existing caption, and what every caption gets: tags separated by commas, a trigger word."""

    existing: Existing = "only empty"
    before: str = ""
    after: str = ""
    trigger: str = ""

    def final(self, old: str, new: str) -> str:
        """The whole text of the caption file: `old` is what is in it, `new` what the captioner says."""
        text = with_tags(" ".join(new.split()), self.before, self.after)
        if self.existing == "append":
            text = appended(old, text)
        elif self.existing == "prepend":
            text = prepended(old, text)
        return with_trigger(text, self.trigger)


def parts_of(line: str) -> list[str]:
    """Tags of a caption line, without empty ones."""
    return [part.strip() for part in line.split(",") if part.strip()]


def appended(old: str, new: str) -> str:
    """`old` with what `new` adds to its caption line, split at commas; twice is once. Other lines stay."""
    return _on_caption_line(old, new, lambda line, added: [line.rstrip(", "), *added])


def prepended(old: str, new: str) -> str:
    """The same in front of what is there."""
    return _on_caption_line(old, new, lambda line, added: [*added, line.lstrip(", ")])


def with_tags(text: str, before: str, after: str) -> str:
    """Fixed tags in front of a caption and behind it, each once: where the caption has it already, it moves there."""
    if not text:
        return text
    first = parts_of(before)
    last = [part for part in parts_of(after) if _key(part) not in {_key(other) for other in first}]
    fixed = {_key(part) for part in (*first, *last)}
    if not any(_key(part) in fixed for part in parts_of(text)):
        return ", ".join([*first, text, *last])
    return ", ".join([*first, *(part for part in parts_of(text) if _key(part) not in fixed), *last])


def with_trigger(text: str, trigger: str) -> str:
    """The caption line with the trigger word first and once; a caption that begins with it stays as it is.

    Looked for among tags; within a sentence it is left where it is.
    """
    words = parts_of(trigger)
    if not words:
        return text
    lines = text.splitlines() or [""]
    at = next((number for number, line in enumerate(lines) if line.strip()), 0)
    keys = {_key(word) for word in words}
    rest = ", ".join(part for part in parts_of(lines[at]) if _key(part) not in keys)
    front = ", ".join(words)
    begins = len(words) == 1 and re.match(rf"{re.escape(front)}(?!\w)", rest, re.IGNORECASE)
    lines[at] = rest if begins else ", ".join(filter(None, (front, rest)))
    return "\n".join(lines)


def _on_caption_line(old: str, new: str, join) -> str:
    lines = old.splitlines()
    at = next((number for number, line in enumerate(lines) if line.strip()), None)
    if at is None:
        return new
    have = {_key(part) for part in parts_of(lines[at])}
    added = [part for part in parts_of(new) if _key(part) not in have]
    if not added:
        return old
    lines[at] = ", ".join(join(lines[at].strip(), added))
    return "\n".join(lines)


def _key(part: str) -> str:
    return " ".join(part.lower().split())
