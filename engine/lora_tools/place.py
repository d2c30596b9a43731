"""Where a tool's result goes: never over an existing file, and only where there is room. Torch-free."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from engine.errors import Problem, UserError
from engine.plan_sizes import size_text
from engine.preset import resolve
from engine.tools.journal import Journal
from engine.tools.journal_entries import Make

SUFFIX = ".safetensors"
_SPARE_BYTES = 1 << 20


def target_of(output: str, source: Path, mark: str, taken: Collection[Path] = ()) -> Path:
    """The file to make of `source`: STEM-MARK.safetensors beside it or in the folder `output`, numbered where there is
    one; or the file `output` itself. UserError where that exists, or is none that can be made.
    """
    given = resolve(output) if output.strip() else source.parent
    if not given.is_dir() and given.suffix.lower() == SUFFIX:
        if given.exists() or given in taken:
            raise UserError("there is a file of this name, and nothing is ever written over. Choose another.", "output")
        return given
    if given.suffix and not given.is_dir():
        raise UserError(f"must end in {SUFFIX}, or be a folder (got {output!r}).", "output")
    if given.is_file():
        raise UserError(
            f"is a file, not a folder (got {output!r}). Choose a folder, or a name with {SUFFIX}.", "output"
        )
    return _numbered(given, source, mark, SUFFIX, taken)


def folder_of(output: str, source: Path, mark: str) -> Path:
    """The folder to make of `source`: `output`, or STEM-MARK beside it, numbered where there is one. UserError where
    `output` is there already, or is a file's name.
    """
    if output.strip():
        given = resolve(output)
        if given.suffix.lower() == SUFFIX:
            raise UserError(f"must be a folder's name (got {output!r}).", "output")
        if given.exists():
            raise UserError("is there already, and nothing is ever written over. Choose a new folder.", "output")
        return given
    return _numbered(source.parent, source, mark, "", ())


def target_in(naming: str, output: str, source: Path, mark: str, taken: Collection[Path] = ()) -> Path:
    """As `target_of`; a new folder for names of peft, unless `output` asks for a file."""
    target = target_of(output, source, mark, taken)
    if naming != "peft" or output.strip().lower().endswith(SUFFIX):
        return target
    return _numbered(target.parent, source, mark, "", taken)


def _numbered(folder: Path, source: Path, mark: str, suffix: str, taken: Collection[Path]) -> Path:
    stem = f"{source.name.removesuffix(SUFFIX)}-{mark}"
    place, number = folder / f"{stem}{suffix}", 2
    while place.exists() or place in taken:
        place, number = folder / f"{stem}-{number}{suffix}", number + 1
    return place


def note_made(target: Path, journal: Journal) -> None:
    """Undo takes away what was made: files first, then their folders."""
    if not target.is_dir():
        journal.note_made(target)
        return
    journal.note_all([Make(folder) for folder in (target, *sorted(p for p in target.rglob("*") if p.is_dir()))])
    for file in sorted(path for path in target.rglob("*") if path.is_file()):
        journal.note_made(file)


def room_problem(target: Path, size_bytes: int) -> list[Problem]:
    """A sentence where the disk has no room for a file of this size."""
    folder = next((path for path in target.parents if path.is_dir()), None)
    if folder is None:
        return [Problem("output", f"there is no such disk or folder (got {target}). Choose another.")]
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes >= size_bytes + _SPARE_BYTES:
        return []
    what = f"the disk has {size_text(free_bytes)} free, the new file takes {size_text(size_bytes)}."
    return [Problem("output", f"{what} Free some space or choose a folder on another disk.")]
