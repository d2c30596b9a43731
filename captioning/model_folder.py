"""Model folders of the user: what must be in them, and sentences for what is not or cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import ModelError, UserError

SHARDED = ".index.json"


def require_files(folder: Path, *needed: tuple[str, ...]) -> list[Path]:
    """For each tuple of alternative names, the first that is in `folder`; of a list of parts, every part must be there.

    Raises ModelError naming everything that is missing or empty, in one sentence.
    """
    if not folder.is_dir():
        raise ModelError("there is no such folder. Give the folder that the model's files are in.", str(folder))
    found = [next((folder / name for name in names if (folder / name).is_file()), None) for names in needed]
    missing = [" or ".join(names) for names, path in zip(needed, found, strict=True) if path is None]
    there = [path for path in found if path is not None]
    parts = [folder / name for path in there if path.name.endswith(SHARDED) for name in _parts(path)]
    missing += [path.name for path in parts if not path.is_file()]
    empty = [path.name for path in (*there, *parts) if path.is_file() and not path.stat().st_size]
    faults = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(empty)} empty"] * bool(empty)
    if faults:
        begun = any(folder.glob("*.part"))  # as captioning/hub.py leaves it
        remedy = "Its download was broken off: start it again." if begun else "Download the folder again."
        raise ModelError(f"the model is incomplete: {'; '.join(faults)}. {remedy}", str(folder))
    return there


def config_of(config: Path) -> dict[str, Any]:
    """What a JSON file of a model says; raises ModelError where it is none."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read ({error}). Download it again.", str(config)) from error
    if not isinstance(content, dict):
        raise ModelError("is no configuration of a model. Download it again.", str(config))
    return content


def require_type(config: Path, wanted: str) -> None:
    """Refuse a folder with another kind of model: transformers would fill it with random weights instead."""
    if (found := config_of(config).get("model_type", "")) != wanted:
        what = f"holds another kind of model (got model_type {found!r}, not {wanted!r}). Choose its captioner."
        raise ModelError(what, str(config.parent))


def require_weights(folder: Path, missing: object) -> None:
    """Refuse a model some of whose weights were in no file (`missing` as transformers' loading report names them)."""
    names = sorted(str(name) for name in missing) if isinstance(missing, (list, set, tuple, frozenset)) else []
    if names:
        what = f"{len(names)} of its weights are in no file (the first is {names[0]}). Download the folder again."
        raise ModelError(what, str(folder))


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turn whatever a library says about a model's files into a ModelError that names the folder."""
    try:
        yield
    except (UserError, MemoryError, ImportError):
        raise
    except Exception as error:  # libraries raise OSError, ValueError, KeyError and classes of their own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"the model cannot be loaded ({reason}). Download it again.", str(folder)) from error


def _parts(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"cannot be read ({error!r}). Download it again.", str(index)) from error
