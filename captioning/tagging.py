"""What taggers share: how they see an image, and how tags are chosen, merged and written. No torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from captioning.wording import parts_of
from engine.errors import UserError

CATEGORIES = {"0": "general", "4": "character", "9": "rating"}  # Danbooru's numbers


@dataclass(frozen=True)
class TagRules:
    """Which tags are written and how. Names are compared without underscores and capitals."""

    order: tuple[str, ...]
    thresholds: Mapping[str, float]
    underscores: bool = False
    escape: bool = False
    leave_out: frozenset[str] = frozenset()
    replace: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self, tags: Sequence[tuple[str, str]], probabilities: np.ndarray) -> str:
        """Tags by category in `order`, in each the most probable first; of the ratings only the most probable one."""
        said: dict[str, None] = {}
        for category in self.order:
            numbers = [n for n, (_, number) in enumerate(tags) if CATEGORIES.get(number) == category]
            ranked = sorted(numbers, key=lambda n: -probabilities[n])[: 1 if category == "rating" else None]
            for n in ranked:
                if probabilities[n] >= self.thresholds[category]:
                    said |= dict.fromkeys(self.replace.get(_key(tags[n][0]), (tags[n][0],)))
        return ", ".join(self.shown(name) for name in said if _key(name) not in self.leave_out)

    def shown(self, name: str) -> str:
        name = name if self.underscores else spaced(name)
        return re.sub(r"([()])", r"\\\1", name) if self.escape else name


def read_tags(table: Path) -> list[tuple[str, str]]:
    """Name and category of each tag of a selected_tags.csv, in the order of the model's outputs."""
    with table.open(encoding="utf-8", newline="") as lines:
        return [(row["name"], row["category"]) for row in csv.DictReader(lines)]


def parse_order(text: str) -> tuple[str, ...]:
    """Categories of "rating, general". Raises UserError for another word, or one that is there twice."""
    found = tuple(part.lower() for part in parts_of(text))
    wrong = [part for part in found if part not in CATEGORIES.values() or found.count(part) > 1]
    if wrong or not found:
        what = f"must name some of {', '.join(CATEGORIES.values())}, each once (got {text!r})."
        raise UserError(what, "wd.order")
    return found


def parse_replacements(text: str) -> dict[str, tuple[str, ...]]:
    """{"very long hair": ("long hair",)} of lines such as "very long hair, absurdly long hair -> long hair".

    Lines end at a line break or a semicolon; nothing behind the arrow takes the tag out. Raises UserError naming a line
    without an arrow or without a tag before it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for line in filter(str.strip, re.split(r"[\n;]", text)):
        before, arrow, after = line.partition("->")
        if not (arrow and parts_of(before)):
            raise UserError(
                f"each line must look like: long hair, very long hair -> long hair (got {line.strip()!r}).",
                "wd.replace",
            )
        found |= {_key(part): tuple(parts_of(after)) for part in parts_of(before)}
    return found


def left_out(text: str) -> frozenset[str]:
    return frozenset(_key(part) for part in parts_of(text))


def square_bgr(image: Image.Image, side_px: int) -> np.ndarray:
    """[side, side, 3] float32 in 0…255, blue first: the whole image centred on a white square."""
    filled = ImageOps.pad(image, (side_px, side_px), Image.Resampling.BICUBIC, color=(255, 255, 255))
    return np.asarray(filled, dtype=np.float32)[..., ::-1]


def spaced(name: str) -> str:
    """long_hair as "long hair"; faces such as >_< and o_o, which have no two letters in a row, as they are."""
    return name.replace("_", " ") if re.search(r"[^\W_]{2}", name) else name


def _key(name: str) -> str:
    return spaced(name.strip().lower())
