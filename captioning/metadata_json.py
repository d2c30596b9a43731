"""kohya's metadata files: one JSON object, image → {"caption", "tags"}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioning.layout_captions import count_stems
from engine.data.folders import Listing, stem_and_suffix
from engine.errors import Problem, UserError

_LARGEST_BYTES = 500_000_000


@dataclass(frozen=True)
class Metadata:
    """A metadata file and the text of each image that it names."""

    path: Path
    texts: dict[Path, str]


def find_metadata(
    root: Path, listings: Sequence[Listing], path: Path | None = None
) -> tuple[Metadata | None, list[Problem]]:
    """The metadata of the images: `path`, which must be readable, or the one file in the folder that is such a file.

    Where several could be meant, none is taken, and that is told.
    """
    if path is not None:
        return Metadata(path, _texts(_read(path), path.parent, listings)), []
    folders = dict.fromkeys((root, *(listing.folder for listing in listings)))
    candidates = [file for folder in folders for file in sorted(folder.glob("*.json")) if _may_be(file)]
    found = [Metadata(file, texts) for file in candidates if (texts := _texts(_read(file), file.parent, listings))]
    if len(found) > 1:
        names = ", ".join(str(item.path) for item in found)
        what = (
            f"several metadata files tell captions ({names}); none is read. Choose one of them in place of the folder."
        )
        return None, [Problem(str(root), what)]
    return (found[0] if found else None), []


def _may_be(path: Path) -> bool:
    """Whether a JSON file is kohya's metadata by its content; a broken one is none."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return False
        return _is_metadata(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError):
        return False


def _is_metadata(content: Any) -> bool:
    if not isinstance(content, dict) or not content:
        return False
    entries = [entry for entry in content.values() if isinstance(entry, dict)]
    return len(entries) == len(content) and any("caption" in entry or "tags" in entry for entry in entries)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("there is no such metadata file. Check the path.", str(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"the metadata file cannot be read ({error}). Correct that place.", str(path)) from None
    if not _is_metadata(content):
        what = 'is no metadata file. It needs a line like "image name": {"caption": "…"} for each image.'
        raise UserError(what, str(path))
    return content


def _texts(content: dict[str, dict[str, Any]], base: Path, listings: Sequence[Listing]) -> dict[Path, str]:
    """The text of each image that is named: by its whole path, its path from the file on, or its name, each with or
    without suffix; by name only where one image is called so."""
    stems = count_stems(listings)
    by_key = {_plain(key): _text(entry) for key, entry in content.items()}
    found: dict[Path, str] = {}
    for listing in listings:
        for name in listing.images:
            path = listing.folder / name
            stem = stem_and_suffix(name)[0]
            keys = [str(path), str(path.with_name(stem))]
            if path.is_relative_to(base.resolve()):
                inner = path.relative_to(base.resolve())
                keys += [inner.as_posix(), inner.with_name(stem).as_posix()]
            if stems[stem] == 1:
                keys += [name, stem]
            text = next((by_key[_plain(key)] for key in keys if by_key.get(_plain(key))), "")
            if text:
                found[path] = text
    return found


def _plain(key: str) -> str:
    return key.replace("\\", "/").removeprefix("./")


def _text(entry: dict[str, Any]) -> str:
    """Caption and tags, as sd-scripts puts them together: the tags behind each line of the caption."""
    parts = [entry.get("caption"), entry.get("tags")]
    texts = [", ".join(map(str, part)) if isinstance(part, list) else str(part or "") for part in parts]
    lines = [line.strip() for line in texts[0].splitlines() if line.strip()] or [""]
    tags = ", ".join(line.strip() for line in texts[1].splitlines() if line.strip())
    return "\n".join(", ".join(part for part in (line, tags) if part) for line in lines)
