"""`{red|green|blue}` in a caption: one of the choices, drawn. A choice may hold further ones; `{{` and `}}` are braces.

As sd-scripts' `enable_wildcard`, but that nested choices work there not at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

_PIECES = re.compile(r"\{\{|[{}|]|[^{}|]+")
Choose = Callable[[int, int], int]  # (how many choices, number of the place from 0) → index of one


@dataclass
class _Open:
    """A brace that is not closed yet, as it was written, and what stands in it so far, choice by choice."""

    mark: str
    choices: list[str] = field(default_factory=lambda: [""])

    def add(self, text: str) -> None:
        self.choices[-1] += text


def expand_wildcards(text: str, choose: Choose) -> str:
    """`text` with one choice for each `{a|b}`, inner ones first. Braces that do not pair are left as they are."""
    opened = [_Open("")]
    places = 0
    pieces = _PIECES.findall(text)
    at = 0
    while at < len(pieces):
        piece, top = pieces[at], opened[-1]
        doubled = piece == "}" and pieces[at + 1 : at + 2] == ["}"]
        at += 1
        if piece in ("{", "{{"):
            opened.append(_Open(piece))
        elif piece == "|" and top.mark == "{":
            top.choices.append("")
        elif piece == "}" and top.mark == "{":
            opened.pop()
            opened[-1].add(top.choices[choose(len(top.choices), places)])
            places += 1
        elif doubled:
            at += 1
            if top.mark == "{{":
                opened.pop()
                opened[-1].add("{" + top.choices[0])
            opened[-1].add("}")
        else:
            top.add(piece)
    return "".join(part.mark[:1] + "|".join(part.choices) for part in opened)
