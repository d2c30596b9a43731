"""In which order files are renamed so that no name is ever taken: chains from their end, circles over a spare name."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioning.picture_files import name_key


@dataclass(frozen=True)
class Renaming:
    """Files that are renamed together, and their new paths."""

    sources: tuple[Path, ...]
    targets: tuple[Path, ...]


@dataclass(frozen=True)
class Step:
    """One rename. `original`: what the file was called at first. `may_stop`: before it, all files have proper names."""

    source: Path
    target: Path
    original: Path
    is_last: bool = True
    may_stop: bool = True


def in_order(renamings: Sequence[Renaming]) -> Iterator[Step]:
    """Steps that carry out all renamings, each to a name that is free by then.

    Targets must differ from each other and from all files that stay (also in other case). A renaming waits for those
    that hold its names; where they wait for each other in a circle, one of them takes spare names meanwhile.
    """
    pending = {number: item for number, item in enumerate(renamings) if item.sources != item.targets}
    holders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, item in pending.items():
        for source in item.sources:
            holders[name_key(source)].append(number)
    parked: dict[int, dict[Path, Path]] = {}
    visiting: set[int] = set()  # on the stack, or done
    done: set[int] = set()
    for first in pending:
        stack = [] if first in done else [(first, iter(_blockers(pending[first], holders)))]
        visiting |= {first} if stack else set()
        while stack:
            number, waiting = stack[-1]
            blocker = next((other for other in waiting if other not in done), None)
            if blocker is None:
                stack.pop()
                yield from _final_steps(pending[number], parked.pop(number, None), bool(parked))
                done.add(number)
            elif blocker not in visiting:
                visiting.add(blocker)
                stack.append((blocker, iter(_blockers(pending[blocker], holders))))
            elif blocker not in parked:
                spare = _spares(pending[blocker])
                yield from _parking_steps(spare, bool(parked))
                parked[blocker] = spare


def _blockers(renaming: Renaming, holders: Mapping[tuple[str, str], Sequence[int]]) -> list[int]:
    """The renamings that hold names which this one needs: itself, too, where its files need each other's names, or a
    name differs in case or Unicode form only, which some disks take for the same file."""
    found: dict[int, None] = {}
    for source, target in zip(renaming.sources, renaming.targets, strict=True):
        if source != target:
            found |= dict.fromkeys(holders.get(name_key(target), ()))
    return list(found)


def _spares(renaming: Renaming) -> dict[Path, Path]:
    """Names for the time being that scans still see as pictures or captions."""
    changed = (s for s, t in zip(renaming.sources, renaming.targets, strict=True) if s != t)
    return {source: source.with_name(f"renaming-{secrets.token_hex(8)}{source.suffix}") for source in changed}


def _parking_steps(spare: dict[Path, Path], is_open: bool) -> Iterator[Step]:
    may_stop = not is_open
    for source, place in spare.items():
        yield Step(source, place, source, is_last=False, may_stop=may_stop)
        may_stop = False


def _final_steps(renaming: Renaming, spare: dict[Path, Path] | None, is_open: bool) -> Iterator[Step]:
    may_stop = spare is None and not is_open
    for source, target in zip(renaming.sources, renaming.targets, strict=True):
        if source != target:
            yield Step(spare[source] if spare else source, target, source, may_stop=may_stop)
            may_stop = False
