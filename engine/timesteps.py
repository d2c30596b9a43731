"""How often each timestep is drawn: the distributions, as probabilities of the 1000 timesteps. Torch-free.

A distribution lies over all timesteps (fraction x = t / 1000, 0 is clean, 1 is noise); the range of the preset cuts it
and what is left is scaled to 1. `fractions` spreads the draws of a step; `timestep_of` turns them into timesteps.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

from engine.draws import draw_fraction, permutation

if TYPE_CHECKING:
    from engine.sections.noise import Noise

TRAIN_TIMESTEPS = 1000
Point = tuple[int, float]


def cumulative(noise: Noise) -> tuple[float, ...]:
    """P(timestep ≤ t) for t = 0 … 999, within the range of the preset. Raises ValueError where nothing is left."""
    low, high = noise.min_timestep, noise.max_timestep
    if low == high:
        return tuple(float(t >= low) for t in range(TRAIN_TIMESTEPS))
    weights = DISTRIBUTIONS[noise.timesteps](noise)
    sums = list(accumulate(weight if low <= t < high else 0.0 for t, weight in enumerate(weights)))
    if not sums[-1] > 0:
        raise ValueError("no timestep is left")
    return tuple(value / sums[-1] for value in sums)


def timestep_of(cumulative: Sequence[float], fraction: float) -> int:
    """The timestep at which a fraction in [0, 1) lies: inverse of the cumulative distribution, whose end is 1."""
    return bisect_right(cumulative, fraction)


def fractions(spread: str, count: int, seed: int, step: int) -> list[float]:
    """A number in [0, 1) for each of a step's `count` images: each uniform by itself, however they are spread.

    spread: a key of SPREADS. A function of seed and step; the accumulated batches of a step share its numbers.
    """
    return SPREADS[spread](count, seed, step)


def _independent(count: int, seed: int, step: int) -> list[float]:
    return [draw_fraction("timestep", seed, step, at) for at in range(count)]


def _stratified(count: int, seed: int, step: int) -> list[float]:
    """One draw in each of `count` equal strata; which image gets which is drawn as well.

    Source: stratified sampling; Kingma et al. 2021 (arXiv 2107.00630, appendix I.1) lower the loss's variance so.
    """
    strata = permutation(count, "timestep strata", seed, step)
    jitter = _independent(count, seed, step)
    return [
        min((stratum + part) / count, math.nextafter(1.0, 0.0)) for stratum, part in zip(strata, jitter, strict=True)
    ]


def _antithetic(count: int, seed: int, step: int) -> list[float]:
    """Pairs u and 1 − u of images that follow each other; the last of an odd number is alone."""
    drawn = _independent(count, seed, step)
    last = math.nextafter(1.0, 0.0)
    return [drawn[at] if at % 2 == 0 else min(1.0 - drawn[at - 1], last) for at in range(count)]


def uniform_weights(noise: Noise) -> list[float]:
    return [1.0] * TRAIN_TIMESTEPS


def logit_normal_weights(noise: Noise) -> list[float]:
    """Mass of each timestep where logit x is normal (Esser et al. 2024, arXiv 2403.03206, equation 19)."""
    normal = NormalDist(noise.logit_mean, noise.logit_deviation)
    inner = [normal.cdf(math.log(t / (TRAIN_TIMESTEPS - t))) for t in range(1, TRAIN_TIMESTEPS)]
    return [above - below for below, above in pairwise((0.0, *inner, 1.0))]


def beta_weights(noise: Noise) -> list[float]:
    """Mass of each timestep where x has density ∝ x^(a−1) · (1 − x)^(b−1)."""
    return [max(0.0, above - below) for below, above in pairwise(_beta_edges(noise.beta_a, noise.beta_b))]


@lru_cache(maxsize=8)
def _beta_edges(a: float, b: float) -> tuple[float, ...]:
    return tuple(beta_cumulative(t / TRAIN_TIMESTEPS, a, b) for t in range(TRAIN_TIMESTEPS + 1))


def curve_weights(noise: Noise) -> list[float]:
    """Mass of each timestep under the straight lines through the points; level before the first and after the last."""
    points = parse_curve(noise.timestep_curve)
    heights = [_height(points, t) for t in range(TRAIN_TIMESTEPS + 1)]
    return [(left + right) / 2 for left, right in pairwise(heights)]


def _height(points: Sequence[Point], timestep: int) -> float:
    at = bisect_right(points, timestep, key=lambda point: point[0])
    if at == 0 or at == len(points):
        return points[min(at, len(points) - 1)][1]
    (left, low), (right, high) = points[at - 1], points[at]
    return low + (high - low) * (timestep - left) / (right - left)


def parse_curve(text: str) -> tuple[Point, ...]:
    """Points (timestep, weight) of "0:1, 500:0.3, 1000:0". Raises ValueError with a sentence for the user."""
    points: list[Point] = []
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = re.fullmatch(r"(\d+)\s*:\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)", part)
        if match is None or int(match[1]) > TRAIN_TIMESTEPS or not math.isfinite(float(match[2])):
            raise ValueError(f"needs timestep:weight, from 0 to 1000 and at least 0 (got {part!r}). Write 500:0.3.")
        points.append((int(match[1]), float(match[2])))
    if not points:
        raise ValueError("has no points (got nothing). Write some like 0:1, 500:0.3, 1000:0.")
    for before, after in pairwise(points):
        if before[0] >= after[0]:
            raise ValueError(
                f"has timesteps out of order (got {before[0]}, then {after[0]}). Write each once, in order."
            )
    if not any(weight for _, weight in points):
        raise ValueError(f"draws no timestep: all weights are 0 (got {text!r}). Raise one.")
    return tuple(points)


def beta_cumulative(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function I_x(a, b) by its continued fraction (DLMF 8.17.22), to about 1e-14."""
    if x <= 0.0 or x >= 1.0:
        return float(x > 0.0)
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cumulative(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _beta_fraction(x, a, b))


def _beta_fraction(x: float, a: float, b: float, terms: int = 100) -> float:
    """1 + d₁/(1 + d₂/(1 + …)), evaluated from its tail."""
    value = 1.0
    for index in range(terms, 0, -1):
        m = index // 2
        if index % 2:
            part = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1.0 + part / value
    return value


DISTRIBUTIONS: dict[str, Callable[[Noise], list[float]]] = {
    "uniform": uniform_weights,
    "logit_normal": logit_normal_weights,
    "beta": beta_weights,
    "curve": curve_weights,
}

SPREADS: dict[str, Callable[[int, int, int], list[float]]] = {
    "independent": _independent,
    "stratified": _stratified,
    "antithetic": _antithetic,
}
