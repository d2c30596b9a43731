"""Where the captions of a folder are: beside the images, or in a tree of their own that mirrors theirs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from engine.data.captions import CAPTION_SUFFIXES, CaptionIndex
from engine.data.folders import Listing, image_suffixes, stem_and_suffix
from engine.errors import UserError

_BESIDE_THE_FOLDER = ("captions", "caption", "texts", "text", "txt", "labels", "tags")


class CaptionFinder:
    """The caption file of each image. Of several endings the one that most images have is taken."""

    def __init__(
        self, root: Path, listings: Sequence[Listing], captions_folder: Path | None, first_suffix: str = ""
    ) -> None:
        found = Counter(stem_and_suffix(name)[1] for listing in listings for name in listing.other_files)
        by_count = sorted(CAPTION_SUFFIXES, key=lambda suffix: -found[suffix])
        first = [first_suffix] if first_suffix else []
        self.suffixes = (*first, *(suffix for suffix in by_count if suffix not in first))
        self._beside = {listing.folder: self._indices(listing.other_files) for listing in listings}
        self._mirrors: dict[Path, tuple[Path, list[CaptionIndex]]] = {}
        if captions_folder is not None:
            self._use_tree(captions_folder.resolve(), listings)
        else:
            self._search(root, listings)

    def find(self, listing: Listing, stem: str) -> Path | None:
        """The caption file of the image called `stem`, or None."""
        for index in self._beside[listing.folder]:
            if name := index.of(stem):
                return listing.folder / name
        folder, indices = self._mirrors.get(listing.folder, (Path(), []))
        return next((folder / name for index in indices if (name := index.of(stem))), None)

    def elsewhere(self, listing: Listing) -> Path | None:
        """The folder that mirrors this one and holds captions of it, where one was found."""
        return self._mirrors[listing.folder][0] if listing.folder in self._mirrors else None

    def _indices(self, names: Sequence[str]) -> list[CaptionIndex]:
        return [CaptionIndex(names, suffix) for suffix in self.suffixes]

    def _use_tree(self, tree: Path, listings: Sequence[Listing]) -> None:
        if not tree.is_dir():
            raise UserError(f"there is no such folder (got {tree}). Check the path.", "captions_folder")
        for listing in listings:
            folder = tree / listing.name
            self._mirrors[listing.folder] = (folder, self._indices(_caption_names(folder)))

    def _search(self, root: Path, listings: Sequence[Listing]) -> None:
        """For each folder of images without captions beside them: the folder of captions whose place fits, and of those
        the one with the most of its images' names."""
        lacking = [
            item for item in listings if any(self.find(item, stem_and_suffix(n)[0]) is None for n in item.images)
        ]
        if not lacking:
            return
        folders = _caption_folders(root, {listing.folder for listing in listings})
        for listing in lacking:
            beside_root = [(root.parent / name / listing.name) for name in _BESIDE_THE_FOLDER]
            fitting = [root / place for place in folders if _fits(place, listing.name)]
            best = max(
                ((self._matches(folder, listing), folder) for folder in (*fitting, *beside_root) if folder.is_dir()),
                key=lambda found: found[0],
                default=(0, root),
            )
            if best[0]:
                self._mirrors[listing.folder] = (best[1], self._indices(_caption_names(best[1])))

    def _matches(self, folder: Path, listing: Listing) -> int:
        indices = self._indices(_caption_names(folder))
        stems = (stem_and_suffix(name)[0] for name in listing.images)
        return sum(any(index.of(stem) for index in indices) for stem in stems)


def _caption_names(folder: Path) -> list[str]:
    try:
        return sorted(
            e.name for e in os.scandir(folder) if e.is_file() and stem_and_suffix(e.name)[1] in CAPTION_SUFFIXES
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot be opened ({error.strerror}). Change its permissions.", str(folder)) from error


def _caption_folders(root: Path, with_images: set[Path]) -> list[str]:
    """Places below `root` of folders that hold captions and no images; hidden ones are passed over."""
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        suffixes = {stem_and_suffix(name)[1] for name in names}
        if Path(parent) not in with_images and suffixes & set(CAPTION_SUFFIXES) and not suffixes & image_suffixes():
            found.append(Path(parent).relative_to(root).as_posix().removeprefix("."))
    return found


def _fits(captions: str, images: str) -> bool:
    """Whether the two places are the same but for one folder that one or both of them have: images/a and captions/a,
    a and captions/a, a and a/captions."""
    a, b = ([part for part in place.split("/") if part] for place in (captions, images))
    without = [[part for at, part in enumerate(parts) if at != leave] for parts in (a,) for leave in range(len(a))]
    if b in without:
        return True
    if a in ([part for at, part in enumerate(b) if at != leave] for leave in range(len(b))):
        return True
    return len(a) == len(b) and sum(left != right for left, right in zip(a, b, strict=True)) == 1


def count_stems(listings: Sequence[Listing]) -> Counter[str]:
    """How many images have each stem."""
    return Counter(stem_and_suffix(name)[0] for name in chain.from_iterable(listing.images for listing in listings))
