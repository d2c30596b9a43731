"""Which layers of a LoRA file stay, told from its header. Torch-free."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from engine.errors import Problem, UserError
from engine.lora_tools.choices import counts_text
from engine.lora_tools.each_file import Outlook
from engine.lora_tools.lora_file import LoraFile, LoraLayer
from engine.lora_tools.sizes import kept_bytes
from engine.sdxl.layers import BLOCKS


def kept_outlook(file: LoraFile, precision: str, stays: Callable[[LoraLayer], bool]) -> Outlook:
    """What is left of a file. A problem where that is nothing, or all of it."""
    kept = tuple(layer for layer in file.layers.values() if stays(layer))
    problems: list[Problem] = []
    where, known = str(file.path), counts_text(Counter(layer.part for layer in file.layers.values()))
    if not kept:
        problems = [Problem(where, f"nothing would be left of it (it has {known}). Choose fewer layers to go.")]
    elif len(kept) == len(file.layers) and precision == "same":
        problems = [Problem(where, f"no layer of it would go (it has {known}). Take it off the list.")]
    note = f"{counts_text(Counter(layer.part for layer in kept))} stay; {len(file.layers) - len(kept):,} layers go"
    return Outlook(note, kept, sum(kept_bytes(layer, precision) for layer in kept), tuple(problems))


def blocks_of(text: str) -> frozenset[int]:
    """Numbers of UNet blocks: "4-9, 13". UserError for anything else."""
    found: set[int] = set()
    for word in text.replace(",", " ").split():
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < BLOCKS:
            what = f"write numbers from 0 to {BLOCKS - 1} like 4-9, 13 (got {word!r})."
            raise UserError(what, "block_numbers")
        found.update(range(first, last + 1))
    return frozenset(found)
