"""Which pictures are held out for validation: a function of the seed and the pictures' names, never of history."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from engine.draws import draw_fraction

# Marks that copies of one picture carry: "cat (2)", "cat copy", "cat_flip", "cat-crop2", "cat_aug_3"
_COPY_MARK = re.compile(
    r"([ _.-]*\(\d+\)|[ _.-]+(copy|flip|flipped|mirror|mirrored|crop|cropped|aug|augmented|rot|rotated)[ _.-]?\d*)$"
)


def family(path: Path) -> str:
    """The name that a picture shares with its copies: "cat" of "cat.png", "Cat (2).jpg" and "cat_flip.webp"."""
    stem = path.stem.lower()
    while (shorter := _COPY_MARK.sub("", stem)) and shorter != stem:
        stem = shorter
    return stem


def held_out(paths: Sequence[Path], share: float, seed: int) -> frozenset[Path]:
    """The pictures to hold out: about `share` of them, one at least, whole families only.

    Families are taken in an order drawn from (seed, family) until the share is reached, so that a picture which is
    added or removed changes the choice by its own place only, and moving the folder changes nothing.
    """
    if not share or not paths:
        return frozenset()
    families: dict[str, list[Path]] = {}
    for path in paths:
        families.setdefault(family(path), []).append(path)
    wanted = max(1, round(share * len(paths)))
    chosen: list[Path] = []
    for name in sorted(families, key=lambda name: (draw_fraction("held out", seed, name), name)):
        if len(chosen) >= wanted:
            break
        chosen += families[name]
    return frozenset(chosen)
