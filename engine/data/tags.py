"""A caption as tags: cut apart at a separator, and put together again."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BRACKETS = re.compile(r"\\.|[()\[\]]", re.DOTALL)


def split_tags(text: str, separator: str, whole_brackets: bool = False) -> list[str]:
    """The tags of `text`, stripped, empty ones left out.

    whole_brackets: a separator inside (…) or […] does not cut, so that a weight such as `(red, blue:1.3)` stays whole;
    where brackets do not pair, they are text like any other.
    """
    pieces = text.split(separator)
    if whole_brackets:
        pieces = _rejoined(pieces, separator)
    return [piece.strip() for piece in pieces if piece.strip()]


def join_tags(tags: Iterable[str], separator: str) -> str:
    """The tags with the separator and a blank between them."""
    return (separator if separator[-1:].isspace() else separator + " ").join(tags)


def _rejoined(pieces: list[str], separator: str) -> list[str]:
    """Pieces put together again until the brackets in each pair; as they were where that never happens."""
    found: list[str] = []
    depth = 0
    for piece in pieces:
        found[-1:] = [found[-1] + separator + piece] if depth else [*found[-1:], piece]
        depth += _depth(piece)
        if depth < 0:
            return pieces
    return pieces if depth else found


def _depth(text: str) -> int:
    """How many brackets of the text stay open; `\\(` is no bracket."""
    marks = _BRACKETS.findall(text)
    return sum((mark in "([") - (mark in ")]") for mark in marks)
