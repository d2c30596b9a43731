"""The scores of a trial from its pictures' files: features read once each, numbers from scores.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.compare import scores
from engine.compare.candidates import Tried
from engine.compare.features import read_pixels, rough_features
from engine.compare.judging import Candidate, Ends, Scores, shares_of
from engine.compare.scores import Floats
from engine.errors import UserError

Files = Mapping[tuple[int, int, int], Path]
"""Pictures by (candidate, prompt, seed); candidate 0 is the base model's."""


@dataclass(frozen=True)
class Seen:
    """What was read of all pictures: features by file [D], features [M, D] and pixels of the training pictures, and
    `texts` [P, D] of the prompts, None without CLIP.
    """

    rows: Mapping[Path, Floats]
    training: Floats
    pixels: Sequence[Floats]
    texts: Floats | None = None


def see(files: Files, training: Sequence[Path], features: Callable[[Sequence[Path]], Floats]) -> Seen:
    """Read every picture once. `training`: those that can be read."""
    paths = list(dict.fromkeys(files.values()))
    rows = dict(zip(paths, features(paths), strict=True))
    return Seen(rows, features(training), [read_pixels(path) for path in training])


def readable(pictures: Sequence[Path]) -> list[Path]:
    """The training pictures that can be read. Raises UserError where none can."""
    found = [path for path in pictures if _is_readable(path)]
    if not found:
        raise UserError("none of the training pictures can be read. Choose a folder with others.", "pictures")
    return found


def rough(paths: Sequence[Path]) -> Floats:
    """Features without a network."""
    return rough_features(read_pixels(path) for path in paths)


def ends_of(files: Files, seen: Seen, with_trigger: int, losses: Sequence[float]) -> Ends:
    """What the base model's and the training pictures set as ends of the scales."""
    called = _of(files, seen, 0, range(with_trigger))
    plain = _of(files, seen, 0, range(with_trigger, _prompts(files)))
    base_fidelity = None
    if seen.texts is not None:
        base_fidelity = scores.fidelity(np.concatenate([row[0] for row in called]), _texts(called, seen.texts))
    return Ends(
        base_likeness=scores.likeness(np.concatenate([row[0] for row in called]), seen.training),
        own_likeness=scores.own_likeness(seen.training),
        base_fidelity=base_fidelity,
        base_diversity=_number(scores.diversity([row[0] for row in called])),
        own_diversity=_number(scores.diversity([seen.training])),
        plain_apart=_number(scores.diversity([np.concatenate([row[0] for row in plain])])),
        best_loss=min(losses, default=None),
    )


def candidates_of(files: Files, seen: Seen, tried: Sequence[Tried], with_trigger: int) -> tuple[list[Candidate], Ends]:
    """The candidates whose pictures are all there, with scores and shares."""
    whole = [one for one in tried if {place[1:] for place in files if place[0] == one.place} >= _wanted(files)]
    ends = ends_of(files, seen, with_trigger, [one.loss for one in whole if one.loss is not None])
    found: list[Candidate] = []
    for one in whole:
        measured = measure(files, seen, one, with_trigger)
        shares = shares_of(measured, ends)
        found.append(Candidate(one.name, str(one.checkpoint), one.strength, measured, shares, one.step))
    return found, ends


def measure(files: Files, seen: Seen, one: Tried, with_trigger: int) -> Scores:
    """The scores of one candidate."""
    called = _of(files, seen, one.place, range(with_trigger))
    plain, base = (_of(files, seen, place, range(with_trigger, _prompts(files))) for place in (one.place, 0))
    rows = np.concatenate([row[0] for row in called])
    return Scores(
        likeness=scores.likeness(rows, seen.training),
        fidelity=None if seen.texts is None else scores.fidelity(rows, _texts(called, seen.texts)),
        diversity=_number(scores.diversity([row[0] for row in called])),
        leak=scores.leak(np.concatenate([row[0] for row in plain]), np.concatenate([row[0] for row in base])),
        drift=_drift(files, seen, one.place, with_trigger),
        validation_loss=one.loss,
    )


def _drift(files: Files, seen: Seen, candidate: int, with_trigger: int) -> float:
    """The larger one of the drifts with and without the trigger word."""

    def pixels(place: int, called: bool) -> list[Floats]:
        chosen = sorted(one for one in files if one[0] == place and (one[1] < with_trigger) == called)
        return [read_pixels(files[one]) for one in chosen]

    where_nothing_changes = scores.drift(pixels(candidate, False), pixels(0, False))
    return max(where_nothing_changes, scores.drift_beyond(pixels(candidate, True), pixels(0, True), seen.pixels))


def _of(files: Files, seen: Seen, candidate: int, prompts: range) -> list[tuple[Floats, int]]:
    """The features [seeds, D] of each prompt, and its place."""
    found: list[tuple[Floats, int]] = []
    for prompt in prompts:
        places = sorted(place for place in files if place[:2] == (candidate, prompt))
        found.append((np.stack([seen.rows[files[place]] for place in places]), prompt))
    return found


def _texts(called: Sequence[tuple[Floats, int]], texts: Floats) -> Floats:
    return np.concatenate([np.repeat(texts[prompt][None], len(rows), axis=0) for rows, prompt in called])


def _prompts(files: Files) -> int:
    return max(place[1] for place in files) + 1


def _wanted(files: Files) -> set[tuple[int, int]]:
    return {place[1:] for place in files if place[0] == 0}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_readable(path: Path) -> bool:
    try:
        read_pixels(path, 8)
    except (OSError, ValueError):
        return False
    return True
