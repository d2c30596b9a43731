"""The adapters that a preset merges into the base model before training: read and checked. Torch-free."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from engine.adapter_header import Merge, parts_of_file
from engine.errors import ModelError, Problem
from engine.preset import Preset, resolve
from engine.sdxl.layers import TEXT_1, TEXT_2

TEXT_PARTS = frozenset((TEXT_1, TEXT_2))


def read_merges(preset: Preset, problems: list[Problem] | None = None) -> tuple[Merge, ...]:
    """The lines of model.merged_adapters, `path` or `path: strength`; faults go into `problems`."""
    found: list[Merge] = []
    for line in filter(None, map(str.strip, preset.model.merged_adapters.splitlines())):
        path, mark, word = line.rpartition(":")
        strength = _strength(word) if mark and path.strip() else None
        merge = Merge(resolve(line), 1.0) if strength is None else Merge(resolve(path.strip()), strength)
        if problems is not None:
            problems += [Problem("model.merged_adapters", what) for what in _faults(merge)]
        found.append(merge)
    return tuple(found)


def _strength(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _faults(merge: Merge) -> list[str]:
    if not merge.path.is_file():
        return [f"there is no file {merge.path}. Write one `path: strength` a line."]
    try:
        parts = parts_of_file(merge.path)
    except ModelError as error:
        return [f"{problem.where} {problem.message}" for problem in error.problems]
    return [] if parts else [f"{merge.path} is not an SDXL adapter. Choose a LoRA file."]


def merge_mark(merges: Sequence[Merge], parts: frozenset[str]) -> str:
    """Names the merged content of these parts, for keys of caches and the mark of a model: "" without any."""
    total = hashlib.sha256()
    used = [merge for merge in merges if parts & parts_of_file(merge.path)]
    for merge in used:
        total.update(f"{merge.strength!r} ".encode())
        with merge.path.open("rb") as file:
            while block := file.read(1 << 22):
                total.update(block)
    return total.hexdigest()[:32] if used else ""
