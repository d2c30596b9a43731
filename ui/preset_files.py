"""The presets on disk: those shipped and the user's own. Own ones are never overwritten without being asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.preset import SETTINGS, Preset, load
from ui.last import SHIPPED, own_presets

_FORBIDDEN = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


@dataclass(frozen=True)
class PresetFile:
    path: Path
    own: bool

    @property
    def title(self) -> str:
        return self.path.stem


def preset_files() -> list[PresetFile]:
    """All presets by name: the shipped ones (the demo first), then the user's own."""
    shipped = sorted(SHIPPED.glob("*.json"), key=lambda path: (path.stem != "demo", path.stem.lower()))
    own = sorted(own_presets().glob("[!.]*.json"), key=lambda path: path.stem.lower())
    return [*(PresetFile(path, False) for path in shipped), *(PresetFile(path, True) for path in own)]


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
    folder = own_presets()
    path = folder / f"{name}.json"
    number = 2
    while path.exists() and not overwrite:
        path = folder / f"{name}-{number}.json"
        number += 1
    preset.save(path)
    return path


def delete(path: str) -> None:
    """Delete one of the user's own presets. Raises UserError for a shipped one."""
    item = find(path)
    if not item.own:
        raise UserError("comes with Atelier and cannot be deleted. Only your own presets can.", item.title)
    item.path.unlink(missing_ok=True)


def differences(left: Preset, right: Preset) -> list[tuple[str, Any, Any]]:
    """Settings that differ, in the order of the form: (path, value on the left, value on the right)."""
    found = [(item.path, left.get(item.path), right.get(item.path)) for item in SETTINGS]
    return [row for row in found if row[1] != row[2]]


def load_listed(path: str) -> Preset:
    """Load a listed preset. Raises PresetError or UserError with every fault."""
    return load(find(path).path)
