"""sd-scripts' data-set TOML, found and written; engine/data/index.py reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.data.index import IndexedFolder, read_index
from engine.errors import DatasetError, Problem

# What sd-scripts allows in [[datasets]] only; all else that it knows may stand in a subset
OF_A_DATASET = (
    "batch_size", "resolution", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps",
    "bucket_no_upscale", "network_multiplier", "validation_seed", "validation_split",
)  # fmt: skip


def find_dataset(folder: Path) -> tuple[Path | None, list[Problem]]:
    """The one data-set TOML of a folder; where there are several none is taken, and that is told."""
    found = [path for path in sorted(folder.glob("*.toml")) if _is_dataset(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        what = f"several data-set files lie here ({names}); none is read. Choose one of them in place of the folder."
        return None, [Problem(str(folder), what)]
    return (found[0] if found else None), []


def dataset_text(folders: Sequence[IndexedFolder], about: str = "") -> str:
    """A data-set TOML that sd-scripts and Atelier read: folders with captions in files, and what is told of them.

    Folders that differ in what only a whole data set may tell (such as `resolution`) come into data sets of their own.
    """
    lines = [f"# {line}" for line in about.splitlines()]
    by_dataset: dict[str, list[IndexedFolder]] = {}
    for folder in folders:
        by_dataset.setdefault(_lines({k: v for k, v in folder.told.items() if k in OF_A_DATASET}), []).append(folder)
    for own, members in by_dataset.items():
        lines += ["[[datasets]]", *filter(None, [own])]
        for folder in members:
            lines += ["", "  [[datasets.subsets]]", _lines(_subset_keys(folder), "  ")]
        lines.append("")
    return "\n".join(lines)


def _subset_keys(folder: IndexedFolder) -> dict[str, Any]:
    keys: dict[str, Any] = {"image_dir": folder.image_dir, "num_repeats": folder.repeats}
    keys |= {"class_tokens": folder.class_tokens} if folder.class_tokens else {}
    keys |= {"is_reg": True} if folder.is_regularization else {}
    keys["caption_extension"] = folder.caption_extension or ".txt"
    return keys | {key: value for key, value in folder.told.items() if key not in OF_A_DATASET}


def _lines(values: Mapping[str, Any], indent: str = "") -> str:
    return "\n".join(f"{indent}{_key(key)} = {_toml(value)}" for key, value in values.items())


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _quoted(name)


def _toml(value: Any) -> str:
    """A value as it stands in TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def _is_dataset(path: Path) -> bool:
    try:
        return bool(read_index(path))
    except DatasetError:
        return False


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's too, and DEL must be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
