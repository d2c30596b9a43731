"""Spellings of one tag (long_hair, Long Hair, long hair) found and made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from captioning.bench.texts import tag_key

Preferred = Literal["frequent", "blanks", "underscores"]


@dataclass(frozen=True)
class Variants:
    """Spellings of one tag with their counts, the most frequent first, and the one to keep."""

    spellings: tuple[tuple[str, int], ...]
    kept: str


def variants(counts: Mapping[str, int], preferred: Preferred) -> list[Variants]:
    """Tags spelled in several ways, the most frequent first; `counts`: how many captions have each spelling."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for tag, count in counts.items():
        groups.setdefault(tag_key(tag), []).append((tag, count))
    found = []
    for spellings in groups.values():
        if len(spellings) > 1:
            ordered = sorted(spellings, key=lambda pair: (-pair[1], pair[0]))
            found.append(Variants(tuple(ordered), _kept([tag for tag, _ in ordered], preferred)))
    return sorted(found, key=lambda group: -sum(count for _, count in group.spellings))


def _kept(spellings: list[str], preferred: Preferred) -> str:
    """The most frequent spelling, written with blanks or underscores where that is preferred."""
    if preferred == "blanks":
        return " ".join(spellings[0].replace("_", " ").split())
    if preferred == "underscores":
        return "_".join(spellings[0].replace("_", " ").split())
    return spellings[0]


def count_spellings(tag_lists: Iterable[Iterable[str]]) -> Counter[str]:
    """How many captions have each spelling."""
    return Counter(tag for tags in tag_lists for tag in tags)
