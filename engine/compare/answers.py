"""What a page can ask of a comparison's job: its cells as they finish, grids, scores. Plain values; torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.compare.pick import RESULT
from engine.tools.jobs import JobFolder

_MADE = ("grid", "timeline")
_ENDINGS = (".png", ".jpg", ".webp")


@dataclass(frozen=True)
class ShownCell:
    """A cell in the order of finishing: its label, "done", "kept" or "failed", its picture or why there is none."""

    label: str
    outcome: str
    picture: str
    note: str


def cells_so_far(job: JobFolder) -> list[ShownCell]:
    """The cells that were reached, each once with its latest outcome, also while it works and after a resume."""
    found: dict[str, ShownCell] = {}
    for done in job.read_table()[0]:
        row = done.row
        found[row.source] = ShownCell(
            row.source, done.outcome, row.target, row.note if done.outcome == "failed" else ""
        )
    return list(found.values())


def made_of(job: JobFolder) -> list[Path]:
    """Grids, strips and animations that are there, by name."""
    files = job.path.iterdir() if job.path.is_dir() else ()
    return sorted(path for path in files if path.suffix in _ENDINGS and path.name.startswith(_MADE))


def scores_of(job: JobFolder) -> dict[str, Any] | None:
    """The content of scores.json; None where there is none yet, or none that can be read."""
    try:
        content = json.loads((job.path / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
