"""What a page can ask of a comparison's job: cells as they finish, grids, scores, charts. Plain values; torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.compare.cells import Place
from engine.compare.layout import read_layout
from engine.compare.pick import FORMAT, RESULT
from engine.tools.jobs import JobFolder

_MADE = ("grid", "timeline")
_ENDINGS = (".png", ".jpg", ".webp")
_SCORES = ("likeness", "fidelity", "diversity", "leak", "drift", "validation_loss")
_SUMS = ("learnt", "kept", "total")


@dataclass(frozen=True)
class ShownCell:
    """A cell: its label, "done", "kept" or "failed", its picture or why there is none, and where it stands (x, y, z
    from 0), None where the job's layout cannot be read.
    """

    label: str
    outcome: str
    picture: str
    note: str
    place: Place | None = None


def cells_so_far(job: JobFolder) -> list[ShownCell]:
    """The cells that were reached, each once with its latest outcome, also while it works and after a resume.

    The axes with their titles and labels: engine.compare.layout.read_layout(job.path).
    """
    layout = read_layout(job.path)
    places = layout.places if layout else {}
    found: dict[str, ShownCell] = {}
    for done in job.read_table()[0]:
        row = done.row
        note = row.note if done.outcome == "failed" else ""
        found[row.source] = ShownCell(row.source, done.outcome, row.target, note, places.get(row.source))
    return list(found.values())


def made_of(job: JobFolder) -> list[Path]:
    """Grids, strips and animations that are there, by name."""
    files = job.path.iterdir() if job.path.is_dir() else ()
    return sorted(path for path in files if path.suffix in _ENDINGS and path.name.startswith(_MADE))


def scores_of(job: JobFolder) -> dict[str, Any] | None:
    """The content of scores.json; None where there is none yet, or none that this Atelier reads."""
    try:
        content = json.loads((job.path / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("v") == FORMAT else None


def share_rows(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """Charts of scores over the training: a row for each share that is known, from 0 to 1.

    score: "likeness" …, and "learnt", "kept", "total"; at: the step, or the checkpoint's number in its order where a
    step is not known; strength; name; share.
    """
    candidates = scores["candidates"]
    order = {file: number for number, file in enumerate(dict.fromkeys(one["checkpoint"] for one in candidates), 1)}
    has_steps = all(one["step"] is not None for one in candidates)
    rows: list[dict[str, Any]] = []
    for one in candidates:
        shares = {name: one["shares"][name] for name in _SCORES} | {sum_: one[sum_] for sum_ in _SUMS}
        about = {"at": one["step"] if has_steps else order[one["checkpoint"]], "strength": one["strength"]}
        known = {name: share for name, share in shares.items() if share is not None}
        rows += [{"score": name, **about, "name": one["name"], "share": share} for name, share in known.items()]
    return rows


def trade_off_rows(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The trade-off: what each candidate has learnt and kept, from 0 to 1; `kind`: "proposed", "on the curve" (none
    surpasses it in both) or "other".
    """
    front, proposed = set(scores["front"]), scores["proposed"]
    return [
        {
            "name": one["name"],
            "learnt": one["learnt"],
            "kept": one["kept"],
            "total": one["total"],
            "kind": "proposed" if number == proposed else "on the curve" if number in front else "other",
        }
        for number, one in enumerate(scores["candidates"])
    ]
