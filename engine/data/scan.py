"""What a training folder holds: subsets, images with size and caption, and everything that is wrong with it.

Nothing is decoded and nothing raises for the user's faults: `Scan.problems` stop a run, `Scan.broken` are single
files (whether they are left out or stop the run is the caller's choice), `Scan.warnings` are worth a look.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from engine.data.buckets import Size
from engine.data.captions import CaptionIndex, read_caption
from engine.data.folders import Listing, image_suffixes, list_folders, repeats_and_name, stem_and_suffix
from engine.data.headers import read_image_header, refusal_of_size
from engine.data.scan_report import (
    ItemNotes,
    folder_fault,
    nothing_found,
    subset_warnings,
    unnamed_folders,
    unusable_subset,
)
from engine.errors import DatasetError, Problem

_FILES_PER_TASK = 64
_READERS = 8
_SLOW_SECONDS_PER_FILE = 0.0005  # a warm file cache takes a tenth of it; disks and network folders take longer


@dataclass(frozen=True)
class Item:
    """One image and its caption. `size_px` is (width, height) as shown, after EXIF rotation."""

    path: Path
    size_px: Size
    caption: str
    caption_name: str | None

    @property
    def caption_path(self) -> Path | None:
        """The caption file, which lies beside the image; None where the folder's name is the caption."""
        return self.path.with_name(self.caption_name) if self.caption_name else None


@dataclass(frozen=True)
class Subset:
    """One folder `N_name`. `name` is its path below the training folder (its own name for the training folder)."""

    name: str
    folder: Path
    repeats: int
    class_token: str
    is_regularization: bool
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Scan:
    """`broken` names single unusable files; `problems` leave nothing to train on."""

    subsets: tuple[Subset, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    broken: tuple[Problem, ...]


def scan(folder: Path, *, caption_extension: str, regularization: bool = False) -> Scan:
    """Read every folder `N_name` under `folder`, or `folder` itself if it is one; see the module's text.

    Items are in natural order of their names, so that every machine sees the same order.
    """
    fault = folder_fault(folder, regularization)
    if fault or caption_extension.lower() in image_suffixes():
        wrong = Problem("captions.extension", f"is an image's (got {caption_extension}). Use .txt or .caption.")
        return Scan((), (fault or wrong,), (), ())
    listings, unlisted = list_folders(folder)
    unnamed = [listing for listing in listings if _meaning(listing, folder) is None]
    parts = [
        _scan_subset(listing, folder, caption_extension, regularization)
        for listing in listings
        if listing not in unnamed
    ]
    subsets = tuple(part.subset for part in parts if part.subset)
    warnings = [*unlisted, *chain.from_iterable(part.warnings for part in parts)]
    broken = tuple(chain.from_iterable(part.broken for part in parts))
    renames = unnamed_folders(unnamed, has_subsets=bool(subsets))
    if subsets:
        return Scan(subsets, (), (*warnings, *renames), broken)
    return Scan((), tuple(renames or nothing_found(folder, regularization, len(broken))), tuple(warnings), broken)


@dataclass(frozen=True)
class _SubsetScan:
    """One N_name folder: its subset, unless nothing in it can be used, and what was found wrong."""

    subset: Subset | None
    warnings: list[Problem]
    broken: list[Problem]


def _scan_subset(listing: Listing, root: Path, caption_extension: str, regularization: bool) -> _SubsetScan:
    repeats, class_token = _meaning(listing, root) or (1, "")
    reads = _read_items(listing, CaptionIndex(listing.other_files, caption_extension), class_token)
    items = tuple(read.item for read in reads if read.item)
    broken = [read.broken for read in reads if read.broken]
    warnings = subset_warnings(listing, repeats, class_token, _notes(reads), caption_extension)
    if not items:
        return _SubsetScan(None, [*warnings, unusable_subset(listing, len(broken))], broken)
    name = listing.name or root.resolve().name
    return _SubsetScan(Subset(name, listing.folder, repeats, class_token, regularization, items), warnings, broken)


@dataclass(frozen=True)
class _Read:
    """What became of one image file: an item, or the fault that makes it unusable."""

    name: str
    item: Item | None = None
    broken: Problem | None = None
    guessed: str = ""


def _meaning(listing: Listing, root: Path) -> tuple[int, str] | None:
    return repeats_and_name(listing.folder.name if listing.name else root.resolve().name)


def _read_items(listing: Listing, captions: CaptionIndex, class_token: str) -> list[_Read]:
    """One result per image, in order."""
    folder = str(listing.folder)

    def read_all(names: Sequence[str]) -> list[_Read]:
        return [_read_item(folder, name, captions, class_token) for name in names]

    start = time.perf_counter()
    reads = read_all(listing.images[:_FILES_PER_TASK])
    rest = listing.images[_FILES_PER_TASK:]
    if time.perf_counter() - start < _SLOW_SECONDS_PER_FILE * _FILES_PER_TASK:
        reads += read_all(rest)
    else:  # waiting for answers, of which several can be under way at once
        chunks = [rest[at : at + _FILES_PER_TASK] for at in range(0, len(rest), _FILES_PER_TASK)]
        with ThreadPoolExecutor(_READERS) as pool:
            reads += chain.from_iterable(pool.map(read_all, chunks))
    dead = "is a link to a file that is not there. Restore the file or delete the link."
    return reads + [_Read(n, broken=Problem(str(listing.folder / n), dead)) for n in listing.dead_links]


def _read_item(folder: str, name: str, captions: CaptionIndex, class_token: str) -> _Read:
    path = f"{folder}{os.sep}{name}"
    if not name.isascii() and (fault := _name_fault(path)):
        return _Read(name, broken=fault)
    try:
        header = read_image_header(path)
    except DatasetError as error:
        return _Read(name, broken=error.problems[0])
    if refusal := refusal_of_size(header):
        return _Read(name, broken=Problem(path, refusal))
    caption_name = captions.of(stem_and_suffix(name)[0])
    if caption_name is None:
        return _Read(name, Item(Path(path), header.size_px, class_token, None))
    caption_path = f"{folder}{os.sep}{caption_name}"
    try:
        caption = read_caption(caption_path)
    except OSError as error:
        message = f"cannot be read ({error.strerror}), so its image {name} has no caption. Change its permissions."
        return _Read(name, broken=Problem(caption_path, message))
    item = Item(Path(path), header.size_px, caption.text, caption_name)
    return _Read(name, item, guessed=caption.guessed)


def _name_fault(path: str) -> Problem | None:
    """Names that are no text cannot be written to plans, logs or pages."""
    shown = os.fsencode(path).decode("utf-8", errors="backslashreplace")
    if shown == path:
        return None
    return Problem(shown, "has a name that is not valid UTF-8. Rename the file.")


def _notes(reads: Sequence[_Read]) -> list[ItemNotes]:
    return [
        ItemNotes(
            read.name,
            caption_name=read.item.caption_name,
            blank=not read.item.caption,
            guessed=read.guessed,
        )
        for read in reads
        if read.item
    ]
