"""The presets on disk: those shipped and the user's own. Own ones are never overwritten without being asked for.

What is deleted or saved over goes into a bin beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import kohya
from engine.errors import Problem, UserError
from engine.preset import SECTIONS, SETTINGS, Preset, load
from ui.last import SHIPPED, own_presets

_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')
_LARGEST_BYTES = 4_000_000  # presets have some 20,000


@dataclass(frozen=True)
class PresetFile:
    path: Path
    own: bool

    @property
    def title(self) -> str:
        return self.path.stem if self.own else self.path.stem.replace("-", " ")


def preset_files() -> list[PresetFile]:
    """All presets: the shipped ones (the demo first, cards by their size), then the user's own by name."""
    shipped = sorted(SHIPPED.glob("*.json"), key=_place)
    own = sorted(own_presets().glob("[!.]*.json"), key=lambda path: path.stem.lower())
    return [*(PresetFile(path, False) for path in shipped), *(PresetFile(path, True) for path in own)]


def _place(path: Path) -> tuple[bool, int, str]:
    number = re.match(r"\d+", path.stem)
    return path.stem != "demo", int(number[0]) if number else 0, path.stem.lower()


def find(path: str) -> PresetFile:
    """The preset with this path, if it is one of the listed ones. Raises UserError otherwise."""
    for item in preset_files():
        if str(item.path) == path:
            return item
    raise UserError("this preset is no longer there. Choose another one.", Path(path).stem)


def save(preset: Preset, name: str, overwrite: bool) -> Path:
    """Save under the user's presets; a taken name gets a number unless `overwrite`. Raises UserError."""
    name = name.strip().removesuffix(".json")
    if not name or name.startswith(".") or _FORBIDDEN.search(name) or len(name.encode()) > 120:
        raise UserError(f'must be usable as a file name, without \\ / : * ? " < > | (got {name!r}).', "Preset name")
    path = own_presets() / f"{name}.json"
    if overwrite and path.exists():
        _to_bin(path)
    number = 2
    while not _is_taken_by_us(path):
        path = own_presets() / f"{name}-{number}.json"
        number += 1
    try:
        preset.save(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _is_taken_by_us(path: Path) -> bool:
    """Reserve a name, so that two pages that save at once do not get the same one. Raises UserError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(
            f"cannot be saved there ({error.strerror}). Change the folder's permissions.", str(path)
        ) from None
    return True


def delete(path: str) -> str:
    """Move one of the user's own presets into the bin; returns where it is. Raises UserError for a shipped one."""
    item = find(path)
    if not item.own:
        raise UserError("comes with Atelier and cannot be deleted. Only your own presets can.", item.title)
    return str(_to_bin(item.path))


def _to_bin(path: Path) -> Path:
    """Move a preset's file beside its like, under a name that nothing has."""
    folder = own_presets() / ".bin"
    target, number = folder / path.name, 2
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while target.exists():
            target, number = folder / f"{path.stem}-{number}.json", number + 1
        return path.rename(target)
    except OSError as error:
        raise UserError(f"cannot be moved into the bin ({error.strerror}).", str(path)) from None


def differences(left: Preset, right: Preset) -> list[tuple[str, Any, Any]]:
    """Settings that differ, in the order of the form: (path, value on the left, value on the right)."""
    found = [(item.path, left.get(item.path), right.get(item.path)) for item in SETTINGS]
    return [row for row in found if row[1] != row[2]]


def load_listed(path: str) -> Preset:
    """Load a listed preset. Raises PresetError or UserError with every fault."""
    return load(find(path).path)


def file_name(text: str) -> str:
    """The text as part of a file name."""
    return _FORBIDDEN.sub("_", text).strip(". ")[:80] or "preset"


def bring(file: Path) -> tuple[Path | None, kohya.Receipt | None, Sequence[Problem]]:
    """Save a foreign file as a preset of the user's: its path, the receipt, and what keeps it from being one.

    Atelier's own presets are taken as they are, without a receipt. Raises UserError for files that are none.
    """
    if file.stat().st_size > _LARGEST_BYTES:
        raise UserError("this file is far too large for a preset. Choose another one.", file.name)
    try:
        if _is_ours(file):
            return save(load(file), file_name(file.stem), overwrite=False), None, ()
        found = kohya.read(file)
    except UserError as error:
        raise _named(error, file) from None
    if found.preset is None:
        return None, found.receipt, [Problem(_short(item.where, file), item.message) for item in found.problems]
    return save(found.preset, file_name(file.stem), overwrite=False), found.receipt, ()


def _is_ours(file: Path) -> bool:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(content, dict) or {"model_type", "training_method"} & content.keys():  # OneTrainer's
        return False
    return "version" in content or any(isinstance(content.get(name), dict) for name in SECTIONS)


def _named(error: UserError, file: Path) -> UserError:
    """The same with the file's name in the place of where the upload happens to lie."""
    error.problems = tuple(Problem(_short(item.where, file), item.message) for item in error.problems)
    return error


def _short(where: str, file: Path) -> str:
    return where.replace(str(file), file.name)
