"""sd-scripts' data-set TOML: its subsets read, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import Problem, UserError
from engine.kohya.sources import open_source

_DEFAULT_EXTENSION = ".caption"  # sd-scripts' own, where the file tells none


@dataclass(frozen=True)
class DatasetSubset:
    """One [[datasets.subsets]] with what it inherits."""

    image_dir: str
    repeats: int = 1
    class_tokens: str = ""
    is_regularization: bool = False
    caption_extension: str = ""
    metadata_file: str = ""


def find_dataset(folder: Path) -> tuple[Path | None, list[Problem]]:
    """The one data-set TOML of a folder; where there are several none is taken, and that is told."""
    found = [path for path in sorted(folder.glob("*.toml")) if _is_dataset(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        what = f"several data-set files lie here ({names}); none is read. Choose one of them in place of the folder."
        return None, [Problem(str(folder), what)]
    return (found[0] if found else None), []


def read_dataset_subsets(path: Path) -> list[DatasetSubset]:
    """The subsets of a file. Raises UserError where it is no data set, or a value cannot be used."""
    source = open_source(path)
    if source.kind != "data set":
        raise UserError("is no sd-scripts data set: it has no [[datasets]].", str(path))
    general = _table(source.content.get("general"))
    found = []
    for dataset in map(_table, source.content["datasets"]):
        inherited = {**general, **{key: value for key, value in dataset.items() if key != "subsets"}}
        subsets = dataset.get("subsets")
        for subset in subsets if isinstance(subsets, list) else []:
            found.append(_subset({**inherited, **_table(subset)}, path))
    if not found:
        raise UserError("names no folder: it has no [[datasets.subsets]].", str(path))
    return found


def dataset_text(subsets: Sequence[DatasetSubset], about: str = "") -> str:
    """A data-set TOML that sd-scripts and Atelier read."""
    lines = [f"# {line}" for line in about.splitlines()] + ["[[datasets]]"]
    for subset in subsets:
        lines += ["", "  [[datasets.subsets]]", f"  image_dir = {_quoted(subset.image_dir)}"]
        lines.append(f"  num_repeats = {subset.repeats}")
        lines += [f"  class_tokens = {_quoted(subset.class_tokens)}"] if subset.class_tokens else []
        lines += ["  is_reg = true"] if subset.is_regularization else []
        lines.append(f"  caption_extension = {_quoted(subset.caption_extension or '.txt')}")
        lines += [f"  metadata_file = {_quoted(subset.metadata_file)}"] if subset.metadata_file else []
    return "\n".join(lines) + "\n"


def _subset(values: Mapping[str, Any], path: Path) -> DatasetSubset:
    repeats = values.get("num_repeats", 1)
    folder = values.get("image_dir") or Path(str(values.get("metadata_file") or "")).parent
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise UserError(f"num_repeats must be a whole number of at least 1 (got {repeats!r}).", str(path))
    if not values.get("image_dir") and not values.get("metadata_file"):
        raise UserError("has a subset without image_dir. Write the folder that its images are in.", str(path))
    return DatasetSubset(
        str(folder),
        repeats,
        str(values.get("class_tokens") or ""),
        values.get("is_reg") is True,
        str(values.get("caption_extension") or values.get("caption_extention") or _DEFAULT_EXTENSION),
        str(values.get("metadata_file") or ""),
    )


def _is_dataset(path: Path) -> bool:
    try:
        return open_source(path).kind == "data set"
    except UserError:
        return False


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's too, and DEL must be escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
