"""How alike captions are to a text encoder: figures from their features. NumPy only; definitions in docs/data-sets.md.

u_i is the feature of caption i, brought to length 1; N captions count, equal ones each time.

- mean cosine: the mean of u_i · u_j over all pairs i < j;
- similar pairs: the share of pairs with u_i · u_j of at least `threshold`;
- diversity: 1 − |Σ u_i| / N, the mean of 1 − cos to their common direction: 0 where all say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
SIMILAR = 0.9
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Limits:
    """Beyond these a LoRA tends to learn one fixed caption rather than what its words say."""

    mean_below: float
    similar_below: float
    diversity_above: float


LIMITS = {1: Limits(0.80, 0.05, 0.08), 2: Limits(0.90, 0.85, 0.02)}  # by text encoder


@dataclass(frozen=True)
class Pair:
    """Two different captions, by their places in the list, and their cosine."""

    one: int
    two: int
    cosine: float


@dataclass(frozen=True)
class Likeness:
    """The figures of one encoder. `nearest`: for each different caption the one most like it; None for a single one.

    `pairs`: the most similar pairs of different captions, the most similar first.
    """

    mean: float
    similar_share: float
    diversity: float
    pairs: tuple[Pair, ...]
    nearest: tuple[Pair | None, ...]

    def beyond(self, limits: Limits) -> list[str]:
        """In words, which limits are not kept."""
        found = []
        if self.mean >= limits.mean_below:
            found.append(f"the mean cosine is {self.mean:.3f} (below {limits.mean_below:g} is safe)")
        if self.similar_share >= limits.similar_below:
            safe = f"below {limits.similar_below:.0%} is safe"
            found.append(f"{self.similar_share:.1%} of the pairs are highly similar ({safe})")
        if self.diversity <= limits.diversity_above:
            found.append(f"the diversity is {self.diversity:.3f} (above {limits.diversity_above:g} is safe)")
        return found


def likeness(features: Features, counts: Sequence[int], threshold: float = SIMILAR, named: int = 20) -> Likeness:
    """Figures of features [n, d] of n different captions, of which each stands `counts` times; exact, in blocks.

    Needs two captions in all.
    """
    units = np.asarray(features, dtype=np.float64)
    units = (units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    times = np.asarray(counts, dtype=np.float64)
    total = times.sum()
    pairs_in_all = total * (total - 1) / 2
    cosines, similar = (times * (times - 1) / 2).sum(), (times * (times - 1) / 2).sum()  # of equal captions: 1 each
    nearest: list[Pair | None] = []
    best: list[Pair] = []
    for start in range(0, len(units), _ROWS_AT_ONCE):
        block = np.clip(units[start : start + _ROWS_AT_ONCE] @ units.T, -1.0, 1.0)
        rows = np.arange(len(block))
        weights = times[start : start + len(block), None] * times[None, :]
        later = np.arange(len(units))[None, :] > (rows + start)[:, None]
        cosines += float((block * weights)[later].sum(dtype=np.float64))
        similar += float((weights * (block >= threshold))[later].sum(dtype=np.float64))
        best = _best(best, np.where(later, block, -2.0), start, named)
        block[rows, rows + start] = -2.0
        nearest += _nearest(block, start)
    direction = np.linalg.norm((units.astype(np.float64) * times[:, None]).sum(axis=0))
    return Likeness(
        mean=float(cosines / pairs_in_all),
        similar_share=float(similar / pairs_in_all),
        diversity=float(1 - direction / total),
        pairs=tuple(best),
        nearest=tuple(nearest),
    )


def _best(before: list[Pair], block: NDArray[np.float32], start: int, named: int) -> list[Pair]:
    """The most similar pairs of those before and those of a block, where −2 stands for no pair."""
    flat = block.ravel()
    places = np.argpartition(flat, -min(named, len(flat)))[-min(named, len(flat)) :]
    found = [Pair(int(p // block.shape[1]) + start, int(p % block.shape[1]), float(flat[p])) for p in places]
    every = before + [pair for pair in found if pair.cosine >= -1.0]
    return sorted(every, key=lambda pair: (-pair.cosine, pair.one, pair.two))[:named]


def _nearest(block: NDArray[np.float32], start: int) -> list[Pair | None]:
    best = block.argmax(axis=1)
    cosines = block[np.arange(len(block)), best].tolist()
    pairs = [
        Pair(start + row, int(other), cosine) for row, (other, cosine) in enumerate(zip(best, cosines, strict=True))
    ]
    return [pair if pair.cosine >= -1.0 else None for pair in pairs]
