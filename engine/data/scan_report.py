"""The sentences about a training folder: what is missing, what is odd, and what to do."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.data.captions import CAPTION_SUFFIXES
from engine.data.folders import UNREAD_SUFFIXES, Listing, stem_and_suffix
from engine.errors import Problem

if TYPE_CHECKING:
    from engine.data.scan import Item

_NAMED_AT_MOST = 5
_FOLDERS_NAMED_AT_MOST = 10
_ODD_REPEATS = 1000  # a folder called 2024_photos is a year far more often than 2,024 repeats


class ItemNotes(NamedTuple):
    """What is worth saying of one usable image; `guessed` is the encoding assumed for its caption file.

    `unread_lines`: how many further lines its caption file has.
    """

    name: str
    caption_name: str | None
    blank: bool
    guessed: str
    unread_lines: int = 0


def folder_fault(folder: Path, regularization: bool) -> Problem | None:
    """Why the folder itself cannot be scanned, or None."""
    where = "data.regularization_folder" if regularization else "data.folder"
    try:
        with os.scandir(folder):
            whole = folder.resolve() == Path(folder.resolve().anchor)
        what = f"is the whole disk, which is never searched (got {folder}). Choose the folder that the images are in."
        return Problem(where, what) if whole else None
    except FileNotFoundError:
        there = next((parent for parent in folder.parents if os.path.lexists(parent)), None)
        hint = f" The part that exists is {there}." if there and str(there) not in (".", folder.anchor) else ""
        return Problem(where, f"there is no such folder (got {folder}).{hint} Check the path.")
    except NotADirectoryError:
        return Problem(where, f"is a file, not a folder (got {folder}). Choose the folder that the images are in.")
    except PermissionError:
        return Problem(where, f"may not be opened by this user (got {folder}). Change its permissions.")
    except (OSError, ValueError) as error:  # too long, linked in a circle, a NUL in the name, a lost network folder
        return Problem(where, f"cannot be opened: {error} (got {folder}). Choose another folder.")


def nothing_found(folder: Path, regularization: bool, broken: int) -> list[Problem]:
    """The problem of a folder without a usable image."""
    where = "data.regularization_folder" if regularization else "data.folder"
    if broken:
        files = "the only image in it" if broken == 1 else f"all {broken:,} images in it"
        return [Problem(where, f"has no usable image: {files} cannot be read (got {folder}). Replace them.")]
    return [
        Problem(
            where,
            f"holds no images (got {folder}). Put images into a sub-folder whose name begins with how often each is "
            "shown per epoch, like 10_cat.",
        )
    ]


def unnamed_folders(listings: Sequence[Listing], has_subsets: bool) -> list[Problem]:
    """A problem for each of the first folders that hold images but whose name gives no repeats; one for the rest."""
    with_images = [listing for listing in listings if listing.images]
    left_out = " Until then they are left out." if has_subsets else ""
    found = []
    for listing in with_images[:_FOLDERS_NAMED_AT_MOST]:
        new_name = f"10_{_plain_name(listing.folder.resolve().name)}"
        if listing.name:
            remedy = f"Rename it to {new_name}, where 10 is how often each image is shown per epoch."
        else:
            remedy = f"Put them into a sub-folder named {new_name}, where 10 is how often each is shown per epoch."
        images = _count(len(listing.images), "image")
        message = f"holds {images}, but its name gives no repeats. {remedy}{left_out}"
        found.append(Problem(str(listing.folder), message))
    if rest := with_images[_FOLDERS_NAMED_AT_MOST:]:
        images = _count(sum(len(listing.images) for listing in rest), "image")
        message = f"{_count(len(rest), 'more folder')} with {images}: their names give no repeats either.{left_out}"
        found.append(Problem(str(rest[0].folder.parent), message))
    return found


def _plain_name(name: str) -> str:
    """The folder's name without a start that was meant as repeats: "x" of "0_x" and "-3_x"."""
    return re.sub(r"^[-+]?[0-9]*[.,]?[0-9]*_", "", name) or "images"


def unusable_subset(listing: Listing, broken: int) -> Problem:
    """The warning for an N_name folder of which nothing is left."""
    why = "it holds no images that can be read here"
    if broken:
        why = "its only image cannot be read" if broken == 1 else f"none of its {broken:,} images can be read"
    return Problem(str(listing.folder), f"is left out: {why}.")


def subset_warnings(
    listing: Listing, repeats: int, class_token: str, notes: Sequence[ItemNotes], extension: str
) -> list[Problem]:
    """Everything odd about one subset, once each with counts and the first names."""
    found = [
        _odd_repeats(repeats),
        _unread_files(listing.other_files),
        _shared_stems(notes),
        _guessed_encodings(notes),
        _blank_captions(notes),
        _unread_lines(notes),
        _missing_captions(listing, notes, class_token, extension),
    ]
    return [Problem(str(listing.folder), message) for message in found if message]


def _odd_repeats(repeats: int) -> str:
    if repeats < _ODD_REPEATS:
        return ""
    return f"its name means {repeats:,} repeats of each image. If that is a date or a number, put 1_ before the name."


def _unread_files(files: Sequence[str]) -> str:
    unread = [file for file in files if file.lower().endswith(UNREAD_SUFFIXES)]
    counts = Counter(suffix for file in unread if (suffix := stem_and_suffix(file)[1]))
    if not counts:
        return ""
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))
    return f"holds files that are not read here ({kinds}). Save them as PNG or JPEG to use them."


def _shared_stems(notes: Sequence[ItemNotes]) -> str:
    if len({note.name.rpartition(".")[0] for note in notes}) == len(notes):
        return ""
    by_stem: dict[str, list[ItemNotes]] = defaultdict(list)
    for note in notes:
        by_stem[stem_and_suffix(note.name)[0]].append(note)
    shared = [twins for twins in by_stem.values() if len(twins) > 1]
    if not shared:
        return ""
    names = _some([" and ".join(note.name for note in twins) for twins in shared])
    caption = shared[0][0].caption_name
    same = f" and share a caption file ({caption})" if caption and len(shared) == 1 else " and share a caption file"
    same = same if any(twins[0].caption_name for twins in shared) else ""
    return f"images of the same name but another suffix{same}: {names}. All are used; rename them if that is not meant."


def _guessed_encodings(notes: Sequence[ItemNotes]) -> str:
    guessed = [note for note in notes if note.guessed]
    if not guessed:
        return ""
    encodings = " or ".join(sorted({note.guessed for note in guessed}))
    names = _some([str(note.caption_name) for note in guessed])
    files = _count(len(guessed), "caption file")
    return f"{files} not in UTF-8, read as {encodings}: {names}. Look at the captions, or save the files as UTF-8."


def _blank_captions(notes: Sequence[ItemNotes]) -> str:
    blank = [str(note.caption_name) for note in notes if note.blank and note.caption_name]
    if not blank:
        return ""
    return f"{_count(len(blank), 'caption file')} with nothing in it, trained with an empty caption: {_some(blank)}."


def _unread_lines(notes: Sequence[ItemNotes]) -> str:
    longer = [str(note.caption_name) for note in notes if note.unread_lines]
    if not longer:
        return ""
    files = _count(len(longer), "caption file")
    remedy = "Set captions.lines to random or all to use the others."
    return f"{files} with several lines, of which the first is read: {_some(longer)}. {remedy}"


def second_caption_warnings(listing: Listing, items: Sequence[Item], extension: str) -> list[Problem]:
    """Images without a caption for the second text encoder, where there should be one."""
    missing = [item.name for item in items if item.second_caption is None] if extension else []
    if not missing:
        return []
    what = f"{len(missing):,} of {_count(len(items), 'image')} without a {extension} file, so that both text encoders"
    return [Problem(str(listing.folder), f"{what} read the same caption there: {_some(missing)}.")]


def _missing_captions(listing: Listing, notes: Sequence[ItemNotes], class_token: str, extension: str) -> str:
    """Said where captions seem to lie under another suffix, where only some are missing, or where nothing stands in."""
    missing = [note.name for note in notes if note.caption_name is None]
    if not missing:
        return ""
    used = f"{class_token!r}, from the folder's name, is used" if class_token else "an empty caption is used"
    lacking = f"{len(missing):,} of {_count(len(notes), 'image')} without a {extension} file, so {used}"
    stems = {stem_and_suffix(name)[0] for name in missing}
    other = Counter(
        suffix
        for stem, suffix in map(stem_and_suffix, listing.other_files)
        if suffix in CAPTION_SUFFIXES and suffix != extension.lower() and stem in stems
    )
    if other:
        kinds = " and ".join(f"{_count(count, f'{suffix} file')}" for suffix, count in other.most_common())
        return (
            f"{lacking}; but {kinds} of these names lie there. Set captions.extension to {other.most_common(1)[0][0]}."
        )
    if len(missing) < len(notes) or not class_token:
        return f"{lacking}: {_some(missing)}."
    return ""


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:_NAMED_AT_MOST])
    return shown if len(names) <= _NAMED_AT_MOST else f"{shown} and {len(names) - _NAMED_AT_MOST:,} more"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
