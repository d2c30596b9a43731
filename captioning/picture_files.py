"""The files that belong together in a folder of pictures: images of one stem, and what goes along with them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.data.folders import Listing, list_folders, natural_order, stem_and_suffix
from engine.data.scan_report import folder_fault
from engine.errors import DatasetError, Problem, UserError


@dataclass(frozen=True)
class Group:
    """All files of one stem: images that differ in their suffix share their captions, so they stay together.

    `companions` are captions, masks and whatever else is called alike, also in other folders.
    """

    folder: Path
    place: str  # path of the folder below the chosen one; "" for itself
    stem: str
    images: tuple[Path, ...]
    companions: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.images, *self.companions)


def listings_of(folder: str) -> tuple[Path, list[Listing], list[Problem]]:
    """The chosen folder, every folder of images in it, and those that cannot be opened.

    Raises DatasetError or UserError where nothing is chosen, it is no folder, or it holds no images.
    """
    if not folder:
        raise UserError("is empty. Choose the folder that the images, or folders of images, are in.", "folder")
    if fault := folder_fault(Path(folder), regularization=False):
        raise DatasetError(fault.message, "folder")
    root = Path(folder).resolve()
    listings, unlisted = list_folders(root)
    if not any(listing.images for listing in listings) and not unlisted:
        what = f"holds no images (got {folder}). Choose the folder that the images, or folders of images, are in."
        raise DatasetError(what, "folder")
    return root, listings, unlisted


def groups_of(listing: Listing, others: Sequence[Path] = ()) -> list[Group]:
    """The groups of a folder in natural order. `others`: further folders whose files of the same place and stem, or of
    the same stem directly in them, go along."""
    images: dict[str, list[str]] = {}
    for name in listing.images:
        images.setdefault(stem_and_suffix(name)[0], []).append(name)
    beside = _by_stem(listing.other_files, images)
    elsewhere = [_elsewhere(other, listing.name, images) for other in others]
    return [
        Group(
            listing.folder,
            listing.name,
            stem,
            tuple(listing.folder / name for name in names),
            (
                *(listing.folder / name for name in beside.get(stem, ())),
                *(p for e in elsewhere for p in e.get(stem, ())),
            ),
        )
        for stem, names in sorted(images.items(), key=lambda item: natural_order(item[0]))
    ]


def name_key(path: Path) -> tuple[str, str]:
    """Two paths with one key are one file on a disk that knows no case or only one Unicode form."""
    return str(path.parent), plain_name(path.name)


def plain_name(name: str) -> str:
    """The name as a disk sees it that knows no case and only one Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def names_in(folder: Path) -> list[str]:
    """All names in a folder, hidden ones too; none where it is no folder. UserError where it cannot be opened."""
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot be opened ({error.strerror}). Change its permissions.", str(folder)) from error


def _by_stem(names: Iterable[str], stems: Iterable[str]) -> dict[str, list[str]]:
    """Names by the image stem they belong to: the same stem, else one that differs in its Unicode form only."""
    exact = set(stems)
    normal = {unicodedata.normalize("NFC", stem): stem for stem in sorted(exact)}
    found: dict[str, list[str]] = {}
    for name in names:
        stem = stem_and_suffix(name)[0]
        owner = stem if stem in exact else normal.get(unicodedata.normalize("NFC", stem))
        if owner is not None and stem_and_suffix(name)[1]:
            found.setdefault(owner, []).append(name)
    return found


def _elsewhere(other: Path, place: str, stems: Iterable[str]) -> dict[str, list[Path]]:
    stems = list(stems)
    found: dict[str, list[Path]] = {}
    for folder in dict.fromkeys((other / place, other)):
        names = [name for name in names_in(folder) if (folder / name).is_file() and not name.startswith(".")]
        for stem, belonging in _by_stem(names, stems).items():
            found.setdefault(stem, [folder / name for name in belonging])
    return found
