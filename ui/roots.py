"""Which folders of this machine the page may look into: the one place where that is decided.

The user's home folder, Atelier's own, mounted drives, and the folders of the form. `ATELIER_ROOTS`, a list as PATH is
one, takes the place of all of these. Nothing hidden (.ssh, .config …) is shown, and no link leads out of the roots.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.home import home
from engine.preset import ROOT, SETTINGS, resolve
from ui.language import say, word

_MOUNTS = ("/media/*", "/media/*/*", "/run/media/*/*", "/mnt/*", "/Volumes/*")
NAMES = {"home": word("Home folder"), "program": word("Atelier"), "drive": word("Drive"), "form": word("In the form")}


@dataclass(frozen=True)
class Root:
    """A folder below which the page may look, resolved; `kind` is a key of NAMES."""

    kind: str
    path: Path

    @property
    def title(self) -> str:
        name = say(NAMES[self.kind])
        return name if self.kind in ("home", "program") else f"{name}: {self.path.name or self.path}"


def roots(form: dict[str, Any]) -> list[Root]:
    """All roots that exist, each once. `form`: the content of the form, as it was kept last."""
    chosen = os.environ.get("ATELIER_ROOTS")
    wanted = [Root("drive", Path(text)) for text in chosen.split(os.pathsep) if text] if chosen else list(_usual(form))
    found: dict[Path, Root] = {}
    for root in wanted:
        try:
            path = root.path.resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            continue
        if path.is_dir() and (chosen or root.kind == "drive" or path != path.parent):  # never the system's whole disk
            found.setdefault(path, Root(root.kind, path))
    return list(found.values())


def _usual(form: dict[str, Any]) -> Iterator[Root]:
    with contextlib.suppress(RuntimeError):  # this user may have none
        yield Root("home", Path.home())
    yield Root("program", ROOT)
    yield Root("program", home())
    if sys.platform == "win32":
        yield from (Root("drive", Path(f"{letter}:\\")) for letter in "DEFGHIJKLMNOPQRSTUVWXYZ")
    for pattern in _MOUNTS:
        yield from (Root("drive", path) for path in sorted(Path("/").glob(pattern[1:])) if path.is_mount())
    for item in SETTINGS:
        value = form.get(item.section, {}).get(item.name) if item.kind == "folder" else ""
        if isinstance(value, str) and value.strip():
            try:
                yield Root("form", resolve(value.strip()))
            except (OSError, RuntimeError, ValueError):
                continue


def inside(path: Path, allowed: list[Root]) -> Root | None:
    """The innermost root that a resolved path lies in without passing anything hidden; None where there is none."""
    found = [
        root
        for root in allowed
        if path.is_relative_to(root.path) and not any(is_hidden(part) for part in path.relative_to(root.path).parts)
    ]
    return max(found, key=lambda root: len(root.path.parts), default=None)


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def looked_up(text: str, allowed: list[Root]) -> Path:
    """The file or folder of a path from the browser, links followed. Raises UserError where it is not to be seen."""
    refused = UserError(say("this is not among the folders that the page may look into."), text[:200])
    if not text or "\0" in text or len(text) > 4096:
        raise refused
    try:
        path = Path(text)
        if not path.is_absolute():
            raise refused
        found = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise refused from None
    if inside(found, allowed) is None:
        raise refused
    return found
