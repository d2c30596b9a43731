"""Weights in captions: `(word)` × 1.1, `[word]` ÷ 1.1, `(word:1.3)` × 1.3, nested ones multiplied; `\\(` is a bracket.

The syntax of A1111's web UI. Torch-free.
"""

from __future__ import annotations

import re
from itertools import groupby

STEP = 1.1
_PIECES = re.compile(r"\\[()\[\]\\]|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)


def weighted_pieces(text: str) -> list[tuple[str, float]]:
    """(text, weight) in order, neighbours of one weight together; [("", 1.0)] for empty text.

    A bracket that is never closed counts to the end; one that was never opened is text.
    """
    found: list[tuple[str, float]] = []
    opened: list[tuple[str, int]] = []  # the bracket, and the number of pieces before it
    for piece in _PIECES.findall(text):
        closes = {")": "(", "]": "["}.get(piece[-1]) if len(piece) == 1 or piece[0] == ":" else None
        if piece in ("(", "["):
            opened.append((piece, len(found)))
        elif closes and opened and opened[-1][0] == closes:
            _scale(found, opened.pop()[1], _factor(piece))
        elif len(piece) > 1 and piece[0] == "\\":
            found.append((piece[1], 1.0))
        else:
            found.append((piece, 1.0))
    for bracket, begin in opened:
        _scale(found, begin, STEP if bracket == "(" else 1 / STEP)
    joined = [("".join(piece for piece, _ in run), weight) for weight, run in groupby(found, key=lambda part: part[1])]
    return joined or [("", 1.0)]


def _factor(closing: str) -> float:
    if closing == ")":
        return STEP
    return 1 / STEP if closing == "]" else float(closing[1:-1])


def _scale(pieces: list[tuple[str, float]], begin: int, factor: float) -> None:
    pieces[begin:] = [(text, weight * factor) for text, weight in pieces[begin:]]
