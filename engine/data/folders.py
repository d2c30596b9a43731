"""Which folders hold images, and what their names say: `N_name` is N repeats of the class `name`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import features

from engine.errors import DatasetError, Problem

_ALWAYS_READ = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
UNREAD_SUFFIXES = (".gif", ".heic", ".heif", ".psd", ".svg", ".jp2", ".tga", ".exr", ".dng", ".cr2", ".nef")
_PASSED_OVER = frozenset(("__macosx", "@eadir", "thumbs", "thumbnails", "thumbs.db", "#recycle", "$recycle.bin"))
NOT_A_FILE = "is a link to a file that is not there, or no file at all. Restore the file or take this away."
SET_ASIDE = " (set aside)"  # how folders of cleaned-up files are called: never searched, wherever they lie
_REPEATS_AND_NAME = re.compile(r"([0-9]+)(?:_(.*))?", re.DOTALL)
MOST_WITHOUT_IMAGES = 2_000  # folders: so many only a home folder or a whole disk has
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Listing:
    """One folder that holds images directly, in natural order; `name` is its path below the training folder.

    `dead_links`: called like images, but behind them is no file (NOT_A_FILE).
    """

    folder: Path
    name: str
    images: tuple[str, ...]
    other_files: tuple[str, ...]
    dead_links: tuple[str, ...]


@lru_cache(maxsize=1)
def image_suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of the images that this installation can decode."""
    extra = [
        suffix for suffix, there in ((".avif", features.check("avif")), (".jxl", find_spec("pillow_jxl"))) if there
    ]
    return frozenset((*_ALWAYS_READ, *extra))


def repeats_and_name(folder_name: str) -> tuple[int, str] | None:
    """(80, "my cat") of "80_my cat", (5, "") of "5"; None where the name begins with no whole number above zero."""
    match = _REPEATS_AND_NAME.fullmatch(folder_name)
    if match is None or int(match[1]) == 0:
        return None
    return int(match[1]), (match[2] or "").strip()


def natural_order(name: str) -> list[str | int]:
    """Sort key that puts image 9 before image 10."""
    return [int(part) if part.isdigit() else part for part in _DIGITS.split(name)]


def list_folders(root: Path) -> tuple[list[Listing], list[Problem]]:
    """All folders under `root`, itself included, that hold images, in natural order; and those that cannot be listed.

    Links to folders are followed, each folder once. Hidden and system folders are passed over by name. Raises
    DatasetError for a home folder or a whole disk, which would be walked through for minutes.
    """
    problems: list[Problem] = []
    seen: set[tuple[int, int]] = set()
    found: list[Listing] = []
    for listing in _walk(root, "", seen, problems):
        if listing.images or listing.dead_links or _has_unread(listing):
            found.append(listing)
        elif len(seen) - len(found) > MOST_WITHOUT_IMAGES:
            what = f"holds more than {MOST_WITHOUT_IMAGES:,} folders without a picture, so it is no training folder."
            raise DatasetError(f"{what} Choose the one that holds your pictures.", str(root))
    return sorted(found, key=lambda listing: _path_order(listing.name)), problems


def _has_unread(listing: Listing) -> bool:
    return any(stem_and_suffix(file)[1] in UNREAD_SUFFIXES for file in listing.other_files)


def _path_order(name: str) -> list[list[str | int]]:
    return [natural_order(part) for part in name.split("/")]


def _walk(folder: Path, name: str, seen: set[tuple[int, int]], problems: list[Problem]) -> Iterator[Listing]:
    """Depth-first listings of `folder`, also of folders without images; `seen`: device and inode of those visited."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not _passed_over(entry.name)]
    except OSError as error:
        problems.append(
            Problem(str(folder), f"cannot be opened ({error.strerror}). Change its permissions or move it.")
        )
        return
    folders = [entry for entry in visible if _is(entry.is_dir)]
    yield _listing(folder, name, [entry for entry in visible if not _is(entry.is_dir)])
    for entry in folders:
        yield from _walk(folder / entry.name, f"{name}/{entry.name}" if name else entry.name, seen, problems)


def _listing(folder: Path, name: str, entries: list[os.DirEntry[str]]) -> Listing:
    images: list[str] = []
    others: list[str] = []
    dead_links: list[str] = []
    endings = tuple(image_suffixes())
    for entry in entries:
        file = entry.name
        kind = images if file.lower().endswith(endings) else others
        if _is(entry.is_file):
            kind.append(file)
        elif kind is images:
            dead_links.append(file)
    images.sort(key=natural_order)
    return Listing(folder, name, tuple(images), tuple(sorted(others)), tuple(sorted(dead_links)))


def _is(kind: Callable[[], bool]) -> bool:
    """False where the system does not let one follow a link: what cannot be looked at is neither folder nor file."""
    try:
        return kind()
    except OSError:
        return False


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _PASSED_OVER or name.endswith(SET_ASIDE)


def stem_and_suffix(name: str) -> tuple[str, str]:
    """("a.b", ".png") of "a.b.PNG"."""
    stem, _, suffix = name.rpartition(".")
    return (stem, "." + suffix.lower()) if stem else (name, "")
