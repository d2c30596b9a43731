"""sd-scripts' data-set TOML, found and written; engine/data/index.py reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from engine.data.index import IndexedFolder, read_index
from engine.errors import DatasetError, Problem


def find_dataset(folder: Path) -> tuple[Path | None, list[Problem]]:
    """The one data-set TOML of a folder; where there are several none is taken, and that is told."""
    found = [path for path in sorted(folder.glob("*.toml")) if _is_dataset(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        what = f"several data-set files lie here ({names}); none is read. Choose one of them in place of the folder."
        return None, [Problem(str(folder), what)]
    return (found[0] if found else None), []


def dataset_text(folders: Sequence[IndexedFolder], about: str = "") -> str:
    """A data-set TOML that sd-scripts and Atelier read."""
    lines = [f"# {line}" for line in about.splitlines()] + ["[[datasets]]"]
    for folder in folders:
        lines += ["", "  [[datasets.subsets]]", f"  image_dir = {_quoted(folder.image_dir)}"]
        lines.append(f"  num_repeats = {folder.repeats}")
        lines += [f"  class_tokens = {_quoted(folder.class_tokens)}"] if folder.class_tokens else []
        lines += ["  is_reg = true"] if folder.is_regularization else []
        lines.append(f"  caption_extension = {_quoted(folder.caption_extension or '.txt')}")
        lines += [f"  metadata_file = {_quoted(folder.metadata_file)}"] if folder.metadata_file else []
    return "\n".join(lines) + "\n"


def _is_dataset(path: Path) -> bool:
    try:
        return bool(read_index(path))
    except DatasetError:
        return False


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's too, and DEL must be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
