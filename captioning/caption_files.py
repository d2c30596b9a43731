"""Which captions of a training folder are to be written, and how a new text goes with the old one. No torch."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from captioning.wording import Existing, Wording
from engine.data.captions import CaptionIndex, decode_caption, first_line
from engine.data.folders import NOT_A_FILE, UNREAD_SUFFIXES, Listing, image_suffixes, list_folders, stem_and_suffix
from engine.data.scan_report import folder_fault
from engine.errors import DatasetError, Problem, UserError
from engine.tools.journal import Journal


@dataclass(frozen=True)
class Item:
    """An image and the caption file that belongs to it, there or not."""

    image: Path
    caption: Path


@dataclass
class Survey:
    """What is to be done in a folder, before anything is done."""

    items: list[Item] = field(default_factory=list)
    kept: list[Item] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)


def survey(folder: Path, extension: str, existing: Existing) -> Survey:
    """All images under `folder` that need a caption, by the rules by which training looks for images.

    Raises DatasetError where the folder cannot be opened or holds no image, UserError for an extension of images.
    """
    check_extension(extension)
    if fault := folder_fault(folder, regularization=False):
        raise DatasetError(fault.message, "folder")
    listings, unlisted = list_folders(folder.resolve())
    found = Survey(failed=unlisted)
    for listing in listings:
        _survey_folder(listing, extension, existing, found)
    if not (found.items or found.kept or found.failed):
        what = f"holds no images (got {folder}). Choose the folder that the images, or folders of images, are in."
        raise DatasetError(what, "folder")
    return found


def check_extension(extension: str) -> None:
    """Refuse what is no extension, and those of images, which must never be written over."""
    if not re.fullmatch(r"\.[A-Za-z0-9_-]+", extension):
        raise UserError(f"must be a point and letters, such as .txt (got {extension!r}).", "extension")
    if extension.lower() in image_suffixes() or extension.lower() in UNREAD_SUFFIXES:
        raise UserError(f"belongs to images, which are never written over (got {extension!r}).", "extension")


def _survey_folder(listing: Listing, extension: str, existing: Existing, found: Survey) -> None:
    captions = CaptionIndex(listing.other_files, extension)
    writable = os.access(listing.folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
    owners: dict[str, str] = {}
    found.failed += [Problem(str(listing.folder / name), NOT_A_FILE) for name in listing.dead_links]
    for name in listing.images:
        stem = stem_and_suffix(name)[0]
        item = Item(listing.folder / name, listing.folder / (captions.of(stem) or stem + extension))
        owner = owners.setdefault(unicodedata.normalize("NFC", stem), name)
        try:
            if is_kept(current_bytes(item.caption), existing):
                found.kept.append(item)
            elif owner != name:
                raise UserError(f"has its caption in the same file as {owner}. Rename one of the two.", str(item.image))
            elif not writable:
                raise UserError("its folder may not be written to. Change its permissions.", str(item.image))
            else:
                found.items.append(item)
        except UserError as error:
            found.failed += error.problems


def current_bytes(caption: Path) -> bytes | None:
    """What is in a caption file, None where there is none. Raises UserError where it cannot be read."""
    try:
        return caption.read_bytes() if os.path.lexists(caption) else None
    except FileNotFoundError:
        raise UserError("is a link to a file that is not there. Delete the link.", str(caption)) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}), so it is left as it is.", str(caption)) from error


def caption_text(raw: bytes | None) -> str:
    """The caption as training reads it: the first line with anything in it."""
    return first_line(decode_caption(raw).text) if raw else ""


def write_caption(item: Item, text: str, wording: Wording, journal: Journal) -> bool:
    """Write a new caption, journal first; whether anything was written.

    Looks at the file again: somebody may have edited it since the survey. Raises UserError where the disk refuses.
    """
    old = current_bytes(item.caption)
    if is_kept(old, wording.existing):
        return False
    before = decode_caption(old).text if old else ""
    after = wording.final(before, text)
    if old and after.rstrip() == before.rstrip():
        return False
    new = after.rstrip().encode() + b"\n"
    journal.write(item.caption, new, expected=old)
    return True


def is_kept(old: bytes | None, existing: Existing) -> bool:
    """Whether a caption file (its bytes, None where there is none) stays as it is, whatever the captioner says."""
    return (existing == "keep" and old is not None) or (existing == "only empty" and bool(caption_text(old)))
