"""An index in place of a training folder: an sd-scripts data-set TOML that names folders, repeats and class words.

Here it is read what a folder's name tells otherwise, and the ending of captions. Everything else that it tells of a
folder goes along as it is written; engine/subset_settings.py makes settings of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.folders import Listing, list_folders
from engine.errors import DatasetError, Problem
from engine.toml_text import parse_toml

SUFFIX = ".toml"
READ_HERE = {
    "image_dir",
    "num_repeats",
    "class_tokens",
    "is_reg",
    "caption_extension",
    "caption_extention",
    "metadata_file",
}


@dataclass(frozen=True)
class IndexedFolder:
    """One [[datasets.subsets]] with what it inherits. `told`: all other keys, with their values as they are written."""

    image_dir: str
    repeats: int = 1
    class_tokens: str = ""
    is_regularization: bool = False
    caption_extension: str = ""
    metadata_file: str = ""
    told: Mapping[str, Any] = field(default_factory=dict, hash=False)


def is_index(path: Path) -> bool:
    """Whether a training folder's path is that of a file which may be an index."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def read_index(path: Path) -> list[IndexedFolder]:
    """The folders of an index. Raises DatasetError where it is none, or a value cannot be used."""
    content = _content(path)
    general = _table(content.get("general"))
    found = []
    for dataset in map(_table, content["datasets"]):
        inherited = {**general, **{key: value for key, value in dataset.items() if key != "subsets"}}
        subsets = dataset.get("subsets")
        for subset in subsets if isinstance(subsets, list) else []:
            found.append(_indexed({**inherited, **_table(subset)}, path))
    if not found:
        raise DatasetError("names no folder: it has no [[datasets.subsets]].", str(path))
    return found


@dataclass(frozen=True)
class FolderInIndex:
    """A folder that an index names: what is told of it, what it is called, and the images directly in it."""

    told: IndexedFolder
    name: str
    listing: Listing


@dataclass(frozen=True)
class IndexFolders:
    """The folders of an index that are trained, or that keep the model from forgetting; and what is wrong."""

    folders: tuple[FolderInIndex, ...]
    problems: tuple[Problem, ...]


def folders_of_index(path: Path, regularization: bool) -> IndexFolders:
    """The folders of one kind. Raises DatasetError where the file is no index."""
    wanted = [told for told in read_index(path) if told.is_regularization == regularization]
    found, problems = [], []
    for told, name in zip(wanted, _names(path.parent, wanted), strict=True):
        folder = path.parent / told.image_dir
        if told.metadata_file:
            what = f"has captions in a metadata file ({told.metadata_file}). Arrange it: captions become files."
            problems.append(Problem(str(path), f"{folder} {what}"))
        elif not folder.is_dir():
            problems.append(Problem(str(path), f"names a folder that is not there (got {folder}). Correct the path."))
        else:
            empty = Listing(folder, "", (), (), ())
            listing = next((item for item in list_folders(folder)[0] if item.name == ""), empty)
            found.append(FolderInIndex(told, name, listing))
    return IndexFolders(tuple(found), tuple(problems))


def regularization_in(path: Path) -> int:
    """How many regularization folders an index names; 0 for what is no index."""
    try:
        return sum(told.is_regularization for told in read_index(path)) if is_index(path) else 0
    except DatasetError:  # told by the scan
        return 0


def _names(base: Path, folders: list[IndexedFolder]) -> list[str]:
    """A name for each folder: its own, or its path where two are called alike."""
    names = [Path(folder.image_dir).name for folder in folders]
    count = Counter(names)
    return [
        name if count[name] == 1 else _below(base / folder.image_dir, base)
        for name, folder in zip(names, folders, strict=True)
    ]


def _below(folder: Path, base: Path) -> str:
    return folder.relative_to(base).as_posix() if folder.is_relative_to(base) else folder.as_posix().lstrip("/")


def _content(path: Path) -> dict[str, Any]:
    try:
        content = parse_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"the index cannot be read ({error.strerror}). Change its permissions.", str(path)) from None
    except ValueError as error:
        raise DatasetError(f"this is not valid TOML: {error}. Correct that place.", str(path)) from None
    if not isinstance(content.get("datasets"), list):
        raise DatasetError("is no sd-scripts data set: it has no [[datasets]].", str(path))
    return content


def _indexed(values: Mapping[str, Any], path: Path) -> IndexedFolder:
    repeats = values.get("num_repeats", 1)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
        raise DatasetError(f"num_repeats must be a whole number of at least 1 (got {repeats!r}).", str(path))
    metadata = str(values.get("metadata_file") or "")
    if not values.get("image_dir") and not metadata:
        raise DatasetError("has a subset without image_dir. Write the folder that its images are in.", str(path))
    return IndexedFolder(
        str(values.get("image_dir") or Path(metadata).parent),
        repeats,
        str(values.get("class_tokens") or ""),
        values.get("is_reg") is True,
        str(values.get("caption_extension") or values.get("caption_extention") or ""),
        metadata,
        {key: value for key, value in values.items() if key not in READ_HERE},
    )


def _table(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
