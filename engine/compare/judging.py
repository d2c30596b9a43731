"""From scores to a proposal: what is lost for what is won, and the checkpoint and strength to take. Pure functions.

Every score is put on a scale with two fixed ends, so that one candidate alone can be judged too and none of them
moves the others: what the base model gives, and what can be wished for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

MUCH_DRIFT = 0.7
"""ln 2: contrast or saturation doubled or halved."""
LITTLE = 0.15
"""Less of the way than this is no learning to speak of."""
_NEAR = 0.05


@dataclass(frozen=True)
class Scores:
    """What was measured of a candidate (see engine/compare/scores.py); None for what could not be."""

    likeness: float | None = None
    fidelity: float | None = None
    diversity: float | None = None
    leak: float | None = None
    drift: float | None = None
    validation_loss: float | None = None


@dataclass(frozen=True)
class Ends:
    """What scores are held against. `base_…`: the base model's pictures of the same prompts and seeds; `own_likeness`
    and `own_diversity`: the training pictures among themselves; `plain_apart`: how far the base model's pictures of all
    prompts without the trigger word are from each other; `best_loss`: the lowest validation loss of all candidates.
    """

    base_likeness: float
    own_likeness: float
    base_fidelity: float | None = None
    base_diversity: float | None = None
    own_diversity: float | None = None
    plain_apart: float | None = None
    best_loss: float | None = None

    @property
    def way(self) -> float:
        """From the base model's likeness to that of the training pictures."""
        return self.own_likeness - self.base_likeness

    @property
    def tells_learning(self) -> bool:
        """Whether there is a way at all: the base model's pictures are not as like them as they are to each other."""
        return self.way > 1e-6


@dataclass(frozen=True)
class Shares:
    """Each score from 0 (bad) to 1 (as good as can be wished); None where it is not known."""

    likeness: float | None
    fidelity: float | None
    diversity: float | None
    leak: float | None
    drift: float | None
    validation_loss: float | None

    @property
    def learnt(self) -> float:
        """How much of the way from the base model to the training pictures is made; 0 where it is not known."""
        return self.likeness or 0.0

    @property
    def kept(self) -> float:
        """How much of the base model's ability is left: the geometric mean of what is known of the others."""
        known = [self.fidelity, self.diversity, self.leak, self.drift]
        return geometric_mean([share for share in known if share is not None])

    @property
    def total(self) -> float:
        """√(learnt · kept), times the share of the validation loss where there is one."""
        return math.sqrt(self.learnt * self.kept) * (1.0 if self.validation_loss is None else self.validation_loss)


@dataclass(frozen=True)
class Candidate:
    """A checkpoint at a strength. `name`: as people are told it; `step`: None where it is not known."""

    name: str
    checkpoint: str
    strength: float
    scores: Scores
    shares: Shares
    step: int | None = None


@dataclass(frozen=True)
class Judgement:
    """`proposed`: the place of the candidate to take, None where none is worth it; `front`: those that no other
    surpasses, by what is learnt; `reasons`: sentences.
    """

    proposed: int | None
    front: tuple[int, ...]
    reasons: tuple[str, ...]


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product; 1 for none at all, 0 where one is 0."""
    return math.prod(values) ** (1 / len(values)) if values else 1.0


def within(value: float) -> float:
    """Cut to 0 … 1; what is no number counts 0."""
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0


def shares_of(scores: Scores, ends: Ends) -> Shares:
    """The scores on their scales.

    likeness: (l - l_base) / (l_own - l_base), so 0 is the base model and 1 as like as the training pictures are among
    themselves. fidelity: f / f_base. diversity: d / min(d_base, d_own), as a subject has no more variety than its
    pictures. leak: 1 - leak / apart, so 0 is a picture as foreign as one of
    another prompt or seed. drift: 1 - drift / ln 2.
    validation loss: best / loss.
    """
    like = None
    if scores.likeness is not None:
        like = (scores.likeness - ends.base_likeness) / ends.way if ends.tells_learning else 0.0
    variety = [one for one in (ends.base_diversity, ends.own_diversity) if one is not None and math.isfinite(one)]
    leaked = _ratio(scores.leak, ends.plain_apart)
    return Shares(
        likeness=None if like is None else within(like),
        fidelity=_share(_ratio(scores.fidelity, ends.base_fidelity)),
        diversity=_share(_ratio(scores.diversity, min(variety, default=None))),
        leak=None if leaked is None else within(1 - leaked),
        drift=None if scores.drift is None else within(1 - scores.drift / MUCH_DRIFT),
        validation_loss=_share(_ratio(ends.best_loss, scores.validation_loss)),
    )


def _ratio(value: float | None, whole: float | None) -> float | None:
    if value is None or whole is None or not math.isfinite(value) or not math.isfinite(whole) or whole <= 1e-9:
        return None
    return value / whole


def _share(value: float | None) -> float | None:
    return None if value is None else within(value)


def front_of(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """The places of points that no other surpasses in one of both without losing in the other, by the first.

    Pareto's front; of equal points the first stands for all.
    """
    best, found = -math.inf, list[int]()
    for place in sorted(range(len(points)), key=lambda at: (-points[at][0], -points[at][1], at)):
        if points[place][1] > best:
            best = points[place][1]
            found.append(place)
    return tuple(reversed(found))


def judge(candidates: Sequence[Candidate]) -> Judgement:
    """The trade-off, the proposal and its reasons. Of equal totals the gentler strength and earlier one is taken."""
    front = front_of([(one.shares.learnt, one.shares.kept) for one in candidates])
    if not candidates:
        return Judgement(None, (), ("There is nothing to choose from.",))
    learnt = [at for at, one in enumerate(candidates) if one.shares.learnt >= LITTLE]
    if not learnt:
        return Judgement(None, front, _none_learnt(candidates))
    best = max(learnt, key=lambda at: (round(candidates[at].shares.total, 6), -at))
    if candidates[best].shares.kept < LITTLE:
        return Judgement(
            None, front, _none_kept(max((candidates[at] for at in learnt), key=lambda one: one.shares.kept))
        )
    return Judgement(best, front, tuple(_reasons(best, candidates)))


def _none_learnt(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    most = max(one.shares.learnt for one in candidates)
    first = f"None has learnt the subject: the best makes {most:.0%} of the way to the training pictures."
    return (first, "Train longer or with a higher learning rate, or compare higher strengths.")


def _none_kept(one: Candidate) -> tuple[str, ...]:
    first = "Those that have learnt the subject have lost the rest:"
    return (
        f"{first} the best of them, {one.name}, keeps {one.shares.kept:.0%}.",
        "Save checkpoints earlier, train with a lower learning rate, or compare lower strengths.",
    )


def _reasons(best: int, candidates: Sequence[Candidate]) -> list[str]:
    one = candidates[best]
    shares, most = one.shares, max(other.shares.learnt for other in candidates)
    found = [f"{one.name} has the best balance of what is learnt and what is kept ({shares.total:.2f} of 1)."]
    what = f"It makes {shares.learnt:.0%} of the way from the base model to the training pictures"
    found.append(
        f"{what}, as far as any of them." if most - shares.learnt < _NEAR else f"{what}; the most is {most:.0%}."
    )
    found += _kept_words(shares)
    lower = [other for other in candidates if other.shares.learnt < shares.learnt - _NEAR]
    higher = [other for other in candidates if other.shares.learnt > shares.learnt + _NEAR]
    if lower:
        next_one = max(lower, key=lambda other: other.shares.total)
        found.append(f"{next_one.name} has learnt less ({next_one.shares.learnt:.0%}).")
    if higher:
        next_one = max(higher, key=lambda other: other.shares.total)
        found.append(
            f"{next_one.name} has learnt more but keeps {next_one.shares.kept:.0%} instead of {shares.kept:.0%}."
        )
    worst = min(candidates, key=lambda other: other.shares.kept)
    if worst is not one and worst.shares.kept < shares.kept - 0.2:
        found.append(f"{worst.name} keeps least ({worst.shares.kept:.0%}): {_weakest(worst.shares)}.")
    return found


_NAMES = {
    "fidelity": "pictures follow their prompts less",
    "diversity": "all seeds give nearly the same picture",
    "leak": "prompts without the trigger word change, too",
    "drift": "contrast or colours drift",
}


def _weakest(shares: Shares) -> str:
    known = {name: getattr(shares, name) for name in _NAMES if getattr(shares, name) is not None}
    return _NAMES[min(known, key=lambda name: known[name])] if known else "nothing more is known of it"


def _kept_words(shares: Shares) -> list[str]:
    found: list[str] = []
    if shares.leak is not None:
        found.append(f"Prompts without the trigger word stay {shares.leak:.0%} as they were.")
    if shares.fidelity is not None:
        found.append(f"Its pictures follow their prompts {shares.fidelity:.0%} as well as the base model's.")
    if shares.diversity is not None:
        found.append(f"Its seeds differ {shares.diversity:.0%} as much as can be expected.")
    if shares.drift is not None and shares.drift < 0.7:
        found.append("Its contrast or colours drift from the base model's; look at the pictures.")
    if shares.validation_loss is not None:
        near = "the lowest of all" if shares.validation_loss > 0.999 else "above the lowest"
        found.append(f"Its validation loss is {near}.")
    return found


def plain(candidate: Candidate) -> dict[str, object]:
    """A candidate as JSON takes it, with what is learnt, kept, and the total."""
    shares = candidate.shares
    sums = {"learnt": shares.learnt, "kept": shares.kept, "total": shares.total}
    return {**dataclasses.asdict(candidate), **{name: round(value, 6) for name, value in sums.items()}}
