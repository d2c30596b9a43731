"""The images of a folder with their caption files: found by the rules of training, read when asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from captioning.bench.texts import tag_key, tags_of
from captioning.caption_files import check_extension
from captioning.layout_captions import CaptionFinder
from engine.data.captions import CaptionIndex, decode_caption
from engine.data.folders import Listing, list_folders, stem_and_suffix
from engine.data.index import folders_of_index, is_index
from engine.data.scan_report import folder_fault
from engine.errors import DatasetError, Problem, UserError

Stamp = tuple[int, int, int]
NO_FILE = ""  # the digest of a caption that has no file


@dataclass(frozen=True)
class Content:
    """A caption file as it was read: `digest` tells its bytes, `text` has line feeds and no blank end.

    `guessed` names the encoding where the file does not tell it; `fault` says why it cannot be read.
    """

    text: str = ""
    digest: str = NO_FILE
    guessed: str = ""
    fault: str = ""
    raw: bytes | None = None


def read_content(path: Path | str) -> Content:
    """What is in a caption file now."""
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        if os.path.lexists(path):
            return Content(fault="is a link to a file that is not there. Delete the link.")
        return Content()
    except OSError as error:
        return Content(fault=f"cannot be read ({error.strerror}). Change its permissions.")
    decoded = decode_caption(raw)
    return Content(plain(decoded.text), hashlib.sha256(raw).hexdigest()[:24], decoded.guessed, raw=raw)


def plain(text: str) -> str:
    """The text with line feeds only, without blanks at its end: as it is shown, compared and saved."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip()


@dataclass(frozen=True)
class Facts:
    """How the captions of a folder are taken apart and counted."""

    separator: str
    count_tokens: Callable[[str], int]


class Item:
    """An image and its caption. `id` is the image's path below the opened folder."""

    def __init__(self, image: Path, caption: Path, folder: str, facts: Facts) -> None:
        self.image, self.caption, self.folder, self.facts = image, caption, folder, facts
        self.id = f"{folder}/{image.name}" if folder else image.name
        self.name = image.name
        self.stamp: Stamp | None = None
        self.content = Content()
        self._tags: list[str] | None = None
        self._tag_keys: frozenset[str] | None = None

    def renew(self) -> bool:
        """Read the caption if its file changed since; whether it did."""
        stamp = _stamp(self.caption)
        if stamp == self.stamp and stamp is not None:
            return False
        before, self.content, self.stamp = self.content, read_content(self.caption), stamp
        if self.content == before:
            return False
        self._tags = self._tag_keys = None
        return True

    @property
    def text(self) -> str:
        return self.content.text

    @property
    def tags(self) -> list[str]:
        if self._tags is None:
            self._tags = tags_of(self.text, self.facts.separator)
        return self._tags

    @property
    def tag_keys(self) -> frozenset[str]:
        if self._tag_keys is None:
            self._tag_keys = frozenset(map(tag_key, self.tags))
        return self._tag_keys

    def count(self, what: str) -> int:
        """How many tags, tokens (of the longest line), chars, words or lines the caption has."""
        if what == "tags":
            return len(self.tags)
        if what == "tokens":
            return max((self.facts.count_tokens(line) for line in self.text.splitlines()), default=0)
        if what == "chars":
            return len(self.text)
        if what == "words":
            return len(self.text.split())
        return sum(1 for line in self.text.splitlines() if line.strip())


@dataclass(frozen=True)
class Listed:
    """All items of a folder, what could not be listed, and when each folder was changed last."""

    items: list[Item]
    problems: list[Problem]
    folder_times: dict[Path, int]


def list_items(root: Path, extension: str, facts: Facts) -> Listed:
    """The images under `root`, or of an index's folders, in natural order with their captions, there or not.

    Where no image of a folder has a caption beside it, and a tree of captions mirrors that of the images, its captions
    are taken. Raises UserError.
    """
    check_extension(extension)
    found, problems = _places(root, extension)
    items = []
    for listing, ending, mirror in found:
        others = _names_in(mirror) if mirror else listing.other_files
        captions = CaptionIndex(others, ending)
        for name in listing.images:
            if not _is_text(name):
                where = os.fsencode(str(listing.folder / name)).decode("utf-8", errors="backslashreplace")
                problems.append(Problem(where, "has a name that is not valid UTF-8. Rename the file."))
                continue
            stem = stem_and_suffix(name)[0]
            caption = (mirror or listing.folder) / (captions.of(stem) or stem + ending)
            items.append(Item(listing.folder / name, caption, listing.name, facts))
    if not items and problems:
        raise UserError(problems[0].message, problems[0].where)
    folders = [folder for listing, _, mirror in found for folder in (listing.folder, mirror) if folder]
    return Listed(items, problems, {folder: _folder_time(folder) for folder in (root, *folders)})


def _places(root: Path, extension: str) -> tuple[list[tuple[Listing, str, Path | None]], list[Problem]]:
    """Each folder of images, the ending of its captions, and where else than beside the images they are."""
    if is_index(root):
        told = [*folders_of_index(root, False).folders, *folders_of_index(root, True).folders]
        endings = [folder.told.caption_extension or extension for folder in told]
        return [
            (replace(folder.listing, name=folder.name), ending, None)
            for folder, ending in zip(told, endings, strict=True)
        ], []
    if fault := folder_fault(root, regularization=False):
        raise DatasetError(fault.message, "The folder")
    listings, problems = list_folders(root)
    bare = [item for item in listings if item.images and not _has_captions(item, extension)]
    finder = CaptionFinder(root, bare, None, extension) if bare else None
    found = [(listing, extension, finder.elsewhere(listing) if finder else None) for listing in listings]
    if mirrors := [mirror for _, _, mirror in found if mirror]:
        what = "holds captions of these pictures. Training reads those beside the pictures: arrange the folder first."
        problems.append(Problem(str(mirrors[0]), what))
    return found, problems


def _has_captions(listing: Listing, extension: str) -> bool:
    captions = CaptionIndex(listing.other_files, extension)
    return any(captions.of(stem_and_suffix(name)[0]) for name in listing.images)


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def have_changed(folder_times: dict[Path, int]) -> bool:
    """Whether a file came or went in one of the folders since."""
    return any(_folder_time(folder) != time for folder, time in folder_times.items())


def _folder_time(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _stamp(path: Path) -> Stamp | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
