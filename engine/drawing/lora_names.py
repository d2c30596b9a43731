"""From the name in `<lora:name:0.8>` to a file. Torch-free."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import UserError

SUFFIX = ".safetensors"
MOST_FILES = 50_000  # that are looked at in a folder


def find_lora(name: str, folders: Sequence[Path]) -> Path:
    """The file that a name means: its name without .safetensors, or its place below one of the folders ("style/ink").

    Folders are looked at in their order, subfolders too; case counts only where it tells two files apart. Raises
    UserError with the nearest names where there is none, and with the places where there are several in one folder.
    """
    wanted = name.strip().replace("\\", "/").removesuffix(SUFFIX)
    seen: list[str] = []
    for folder in folders:
        files = list(lora_files(folder))
        places = {path: path.relative_to(folder).as_posix().removesuffix(SUFFIX) for path in files}
        seen += [path.name.removesuffix(SUFFIX) for path in files]
        for chosen in _by_rank(wanted, places):
            if len(chosen) == 1:
                return chosen[0]
            if chosen:
                shown = ", ".join(places[path] for path in sorted(chosen)[:4])
                what = f"several LoRAs are called {name} ({shown}). Write the folder too, as in the list."
                raise UserError(what, f"<lora:{name}>")
    near = difflib.get_close_matches(wanted.rsplit("/", 1)[-1], sorted(set(seen)), n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else _where(folders)
    raise UserError(f"there is no LoRA called {name}. {hint}", f"<lora:{name}>")


def lora_files(folder: Path) -> Iterator[Path]:
    """The .safetensors files below a folder, in no order; nothing where there is no such folder.

    Left out is what is hidden (as the bin of the runs), and the states and kept inputs of runs.
    """
    looked = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ("state", "inputs")]
        for file in files:
            looked += 1
            if looked > MOST_FILES:
                return
            if file.lower().endswith(SUFFIX) and not file.startswith("."):
                yield Path(parent) / file


def _by_rank(wanted: str, places: dict[Path, str]) -> Iterator[list[Path]]:
    """Files that fit, the closest way of fitting first."""
    stem = {path: place.rsplit("/", 1)[-1] for path, place in places.items()}
    yield [path for path, place in places.items() if place == wanted]
    yield [path for path in places if stem[path] == wanted]
    yield [path for path, place in places.items() if place.lower() == wanted.lower()]
    yield [path for path in places if stem[path].lower() == wanted.lower()]


def _where(folders: Sequence[Path]) -> str:
    if not folders:
        return "No folder of LoRAs is given. Give one, or add the file to the list of LoRAs."
    return f"Looked in {', '.join(str(folder) for folder in folders[:4])}."
