"""What a training folder holds: subsets, images with size and caption, and everything that is wrong with it.

Nothing is decoded and nothing raises for the user's faults: `Scan.problems` stop a run, `Scan.broken` are single
files (whether they are left out or stop the run is the caller's choice), `Scan.warnings` are worth a look.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from engine.data.buckets import Size
from engine.data.captions import CaptionIndex, CaptionText, read_caption
from engine.data.folders import NOT_A_FILE, Listing, image_suffixes, list_folders, repeats_and_name, stem_and_suffix
from engine.data.headers import read_image_header, refusal_of_size
from engine.data.index import folders_of_index, is_index
from engine.data.scan_report import (
    ItemNotes,
    folder_fault,
    nothing_found,
    second_caption_warnings,
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
    """One image and its caption. `size_px` is (width, height) as shown, after EXIF rotation.

    `second_caption`: what only the second text encoder reads; None where both read `caption`.
    """

    folder: Path
    name: str
    size_px: Size
    caption: str
    caption_name: str | None
    second_caption: str | None = None

    @cached_property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def caption_path(self) -> Path | None:
        """The caption file, which lies beside the image; None where the folder's name is the caption."""
        return self.folder / self.caption_name if self.caption_name else None


@dataclass(frozen=True)
class Subset:
    """One folder `N_name`. `name` is its path below the training folder (its own name for the training folder).

    `told`: what an index tells of it besides, by sd-scripts' keys (engine/subset_settings.py reads it).
    """

    name: str
    folder: Path
    repeats: int
    class_token: str
    is_regularization: bool
    items: tuple[Item, ...]
    told: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Scan:
    """`broken` names single unusable files; `problems` leave nothing to train on."""

    subsets: tuple[Subset, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    broken: tuple[Problem, ...]


@dataclass(frozen=True)
class CaptionReading:
    """Which caption files are read, and what of them. `second_extension` "": both text encoders read the same."""

    extension: str = ".txt"
    second_extension: str = ""
    all_lines: bool = False


def scan(folder: Path, reading: CaptionReading | None = None, *, regularization: bool = False) -> Scan:
    """Read every folder `N_name` under `folder`, or `folder` itself if it is one; see the module's text.

    Items are in natural order of their names, so that every machine sees the same order.
    """
    reading = reading or CaptionReading()
    from_index = is_index(folder)
    fault = _extension_fault(reading) or (None if from_index else folder_fault(folder, regularization))
    if fault:
        return Scan((), (fault,), (), ())
    if from_index:
        return _scan_index(folder, reading, regularization)
    try:
        listings, unlisted = list_folders(folder)
    except DatasetError as error:
        return Scan((), error.problems, (), ())
    unnamed = [listing for listing in listings if _meaning(listing, folder) is None]
    parts = [
        _scan_subset(listing, _Place(listing.name or folder.resolve().name, *meaning, regularization), reading)
        for listing in listings
        if (meaning := _meaning(listing, folder)) is not None
    ]
    return _put_together(parts, unlisted, folder, regularization, unnamed)


def _scan_index(path: Path, reading: CaptionReading, regularization: bool) -> Scan:
    """The folders that an index names; images in folders below them are not theirs."""
    try:
        found = folders_of_index(path, regularization)
    except DatasetError as error:
        return Scan((), error.problems, (), ())
    if found.problems:
        return Scan((), found.problems, (), ())
    parts = []
    for indexed in found.folders:
        told = indexed.told
        place = _Place(indexed.name, told.repeats, told.class_tokens, regularization, told.told)
        own = replace(
            reading,
            extension=told.caption_extension or reading.extension,
            all_lines=reading.all_lines or told.told.get("enable_wildcard") is True,
        )
        parts.append(_scan_subset(indexed.listing, place, own))
    return _put_together(parts, [], path, regularization, [])


def _put_together(
    parts: Sequence[_SubsetScan], told: list[Problem], folder: Path, regularization: bool, unnamed: list[Listing]
) -> Scan:
    subsets = tuple(part.subset for part in parts if part.subset)
    warnings = [*told, *chain.from_iterable(part.warnings for part in parts)]
    broken = tuple(chain.from_iterable(part.broken for part in parts))
    renames = unnamed_folders(unnamed, has_subsets=bool(subsets))
    if subsets:
        return Scan(subsets, (), (*warnings, *renames), broken)
    return Scan((), tuple(renames or nothing_found(folder, regularization, len(broken))), tuple(warnings), broken)


def _extension_fault(reading: CaptionReading) -> Problem | None:
    for where, extension in (("extension", reading.extension), ("second_extension", reading.second_extension)):
        if extension.lower() in image_suffixes():
            return Problem(f"captions.{where}", f"is an image's (got {extension}). Use .txt or .caption.")
    return None


@dataclass(frozen=True)
class _SubsetScan:
    """One N_name folder: its subset, unless nothing in it can be used, and what was found wrong."""

    subset: Subset | None
    warnings: list[Problem]
    broken: list[Problem]


@dataclass(frozen=True)
class _Place:
    """What is told of a folder, by its name or by an index."""

    name: str
    repeats: int
    class_token: str
    is_regularization: bool
    told: Mapping[str, Any] = field(default_factory=dict, hash=False)


def _scan_subset(listing: Listing, place: _Place, reading: CaptionReading) -> _SubsetScan:
    repeats, class_token = place.repeats, place.class_token
    captions = _Captions(
        listing.folder,
        f"{listing.folder}{os.sep}",
        CaptionIndex(listing.other_files, reading.extension),
        CaptionIndex(listing.other_files, reading.second_extension) if reading.second_extension else None,
        class_token,
        reading.all_lines,
    )
    reads = _read_items(listing, captions)
    items = tuple(read.item for read in reads if read.item)
    broken = [read.broken for read in reads if read.broken]
    warnings = subset_warnings(listing, repeats, class_token, _notes(reads), reading.extension)
    warnings += second_caption_warnings(listing, items, reading.second_extension)
    if not items:
        return _SubsetScan(None, [*warnings, unusable_subset(listing, len(broken))], broken)
    subset = Subset(place.name, listing.folder, repeats, class_token, place.is_regularization, items, place.told)
    return _SubsetScan(subset, warnings, broken)


class _Read(NamedTuple):
    """What became of one image file: an item, or the fault that makes it unusable."""

    name: str
    item: Item | None = None
    broken: Problem | None = None
    guessed: str = ""
    unread_lines: int = 0


@dataclass(frozen=True)
class _Captions:
    """The caption files of one folder: what belongs to an image is found by its stem."""

    folder: Path
    start: str  # of a path to a file in the folder
    first: CaptionIndex
    second: CaptionIndex | None
    class_token: str
    all_lines: bool

    def read(self, name: str, image: str) -> CaptionText:
        """The text of one file. Raises DatasetError, which names the image too, where it cannot be read."""
        path = self.start + name
        try:
            return read_caption(path, self.all_lines)
        except OSError as error:
            message = f"cannot be read ({error.strerror}), so its image {image} has no caption. Change its permissions."
            raise DatasetError(message, path) from None


def _meaning(listing: Listing, root: Path) -> tuple[int, str] | None:
    return repeats_and_name(listing.folder.name if listing.name else root.resolve().name)


def _read_items(listing: Listing, captions: _Captions) -> list[_Read]:
    """One result per image, in order."""

    def read_all(names: Sequence[str]) -> list[_Read]:
        return [_read_item(name, captions) for name in names]

    start = time.perf_counter()
    reads = read_all(listing.images[:_FILES_PER_TASK])
    rest = listing.images[_FILES_PER_TASK:]
    if time.perf_counter() - start < _SLOW_SECONDS_PER_FILE * _FILES_PER_TASK:
        reads += read_all(rest)
    else:  # waiting for answers, of which several can be under way at once
        chunks = [rest[at : at + _FILES_PER_TASK] for at in range(0, len(rest), _FILES_PER_TASK)]
        with ThreadPoolExecutor(_READERS) as pool:
            reads += chain.from_iterable(pool.map(read_all, chunks))
    return reads + [_Read(n, broken=Problem(str(listing.folder / n), NOT_A_FILE)) for n in listing.dead_links]


def _read_item(name: str, captions: _Captions) -> _Read:
    path = captions.start + name
    if not name.isascii() and (fault := _name_fault(path)):
        return _Read(name, broken=fault)
    try:
        header = read_image_header(path)
    except DatasetError as error:
        return _Read(name, broken=error.problems[0])
    if refusal := refusal_of_size(header):
        return _Read(name, broken=Problem(path, refusal))
    stem = stem_and_suffix(name)[0]
    caption_name = captions.first.of(stem)
    second_name = captions.second.of(stem) if captions.second else None
    try:
        second = captions.read(second_name, name).text if second_name else None
        caption = captions.read(caption_name, name) if caption_name else CaptionText(captions.class_token)
    except DatasetError as error:
        return _Read(name, broken=error.problems[0])
    item = Item(captions.folder, name, header.size_px, caption.text, caption_name, second)
    return _Read(name, item, None, caption.guessed, caption.unread_lines)


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
            unread_lines=read.unread_lines,
        )
        for read in reads
        if read.item
    ]
