"""The pictures of a run that its user marked as the best; they stay marked in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Collection

from engine.atomic import write_text_whole
from engine.errors import UserError
from engine.run import RunFolder

_FILE = "stars.json"


def stars(run: RunFolder) -> frozenset[str]:
    """The starred pictures, as paths in the run's folder; none where the file cannot be read."""
    try:
        content = json.loads((run.path / _FILE).read_text(encoding="utf-8"))["stars"]
        return frozenset(path for path in content if isinstance(path, str))
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def turn(run: RunFolder, path: str, drawn: Collection[str]) -> None:
    """Star a picture, or take its star away. UserError where the run drew no such picture, or the disk refuses."""
    if path not in drawn:
        raise UserError("this run has no such picture. Load the page again.", path)
    changed = sorted(stars(run) ^ {path})
    write_text_whole(run.path / _FILE, json.dumps({"stars": changed}, ensure_ascii=False, indent=1) + "\n")
