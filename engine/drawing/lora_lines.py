"""The LoRAs of a drawing preset: one line each, `file: strength: strength for the text encoders: block weights`.

Block weights are 23 numbers, one a block of the UNet in the order of `engine/sdxl/layers.py` (as in the trainers), or
12 as the extension "LoRA block weight" writes them for SDXL: text encoders, then the blocks with attention (down 4, 5,
7, 8, middle, up 0 to 5); the blocks that those 12 do not name keep the full strength. Torch-free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import Problem
from engine.preset import resolve
from engine.sdxl.layers import BLOCKS

WHERE = "loras.files"
# The place among the 23 blocks of each of the 11 that follow the text encoders' weight in the short form
_SHORT_PLACES = (5, 6, 8, 9, 11, 13, 14, 15, 16, 17, 18)


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA file and how strongly it acts: on the UNet, on the text encoders, and per block (empty: all 1)."""

    path: Path
    strength: float = 1.0
    text_strength: float = 1.0
    block_weights: tuple[float, ...] = field(default=())


def read_lora_lines(text: str) -> tuple[list[LoraChoice], list[Problem]]:
    """The LoRAs of the setting, and a sentence for each faulty line. Empty lines and those after # are left out.

    Without a strength it is 1; without one for the text encoders that is the same as the UNet's.
    """
    found: list[LoraChoice] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        try:
            found.append(_read_line(words))
        except ValueError as error:
            problems.append(Problem(WHERE, f"line {number}: {error}"))
    return found, problems


def _read_line(line: str) -> LoraChoice:
    file, *fields = _fields(line)
    if not file:
        raise ValueError("there is no file. Write `file: strength`.")
    if len(fields) > 3:
        raise ValueError("there is too much in it. Write `file: strength: text strength: block weights`.")
    strength = _number(fields[0], "strength") if fields and fields[0] else 1.0
    text_strength = _number(fields[1], "strength for the text encoders") if len(fields) > 1 and fields[1] else strength
    weights = _block_weights(fields[2]) if len(fields) > 2 and fields[2] else ()
    if len(weights) == BLOCKS + 1:  # the short form, whose first number is for the text encoders
        text_strength, weights = text_strength * weights[0], weights[1:]
    return LoraChoice(resolve(file), strength, text_strength, weights)


def _fields(line: str) -> list[str]:
    """The fields between colons; the colon of a Windows drive (`C:\\`) belongs to the file's name."""
    parts = line.split(":")
    if len(parts) > 1 and len(parts[0]) == 1 and parts[0].isalpha() and parts[1][:1] in ("\\", "/"):
        parts[:2] = [":".join(parts[:2])]
    return [part.strip() for part in parts]


def _number(word: str, what: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not -10 <= value <= 10:
        raise ValueError(f"the {what} must be a number from -10 to 10 (got {word!r}).")
    return value


def _block_weights(text: str) -> tuple[float, ...]:
    """23 weights, or 24 of which the first is for the text encoders."""
    values = tuple(_number(word.strip(), "weight of a block") for word in text.split(","))
    if len(values) == BLOCKS:
        return values
    if len(values) == len(_SHORT_PLACES) + 1:
        weights = [1.0] * BLOCKS
        for place, value in zip(_SHORT_PLACES, values[1:], strict=True):
            weights[place] = value
        return (values[0], *weights)
    raise ValueError(f"block weights are {BLOCKS} or {len(_SHORT_PLACES) + 1} numbers (got {len(values)}).")
