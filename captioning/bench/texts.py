"""A caption's text as lines of tags: taken apart, changed line by line, and left to the letter where nothing changes.

Each line that holds anything is a caption of its own (some files hold several to draw from), with its own tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.data.tags import join_tags, split_tags

ChangeTags = Callable[[list[str]], list[str]]
ChangeLine = Callable[[str], str]


def tags_of(text: str, separator: str) -> list[str]:
    """The tags of all lines in their order, each spelling once."""
    return list(dict.fromkeys(tag for line in text.splitlines() for tag in line_tags(line, separator)))


def line_tags(line: str, separator: str) -> list[str]:
    """The tags of one line; what stands in brackets stays whole, so that `(red, blue:1.3)` is one."""
    return split_tags(line, separator, whole_brackets=True)


def tag_key(tag: str) -> str:
    """What different spellings of a tag have in common: case, and _ for a blank, make no difference."""
    return " ".join(tag.replace("_", " ").casefold().split())


def change_tags(text: str, separator: str, change: ChangeTags) -> str:
    """The text with `change` made to the tags of each line; a line whose tags stay the same stays to the letter."""

    def changed(line: str) -> str:
        tags = line_tags(line, separator)
        after = change(list(tags))
        return line if after == tags else join_tags(after, separator)

    return change_lines(text, changed)


def change_lines(text: str, change: ChangeLine) -> str:
    """The text with `change` made to each line that holds anything, and to the one line of an empty caption."""
    if not text.strip():
        return change("") or text
    lines = text.splitlines()
    after = [change(line) if line.strip() else line for line in lines]
    return text if after == lines else "\n".join(after)


def without_repeats(tags: Iterable[str]) -> list[str]:
    """The tags, each kept at its first place; case makes no difference."""
    seen: dict[str, str] = {}
    for tag in tags:
        seen.setdefault(tag.casefold(), tag)
    return list(seen.values())
