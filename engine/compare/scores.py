"""What is measured of a checkpoint at a strength. Pure functions of arrays; docs/compare.md tells them in plain words.

Features are rows of unit length [N, D], of CLIP or of engine/compare/features.py, so that a product of two is their
cosine. Pictures as pixels are float arrays [H, W, 3] from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
NEAREST = 3
"""So many of the nearest training pictures count for each drawn one."""
DARK = 1e-3
"""The least contrast and saturation that are told apart, so that a grey picture has a logarithm too."""


def unit(rows: NDArray[np.floating]) -> Floats:
    """Rows [N, D] scaled to length 1; a row of zeros stays so."""
    lengths = np.linalg.norm(np.asarray(rows, np.float64), axis=-1, keepdims=True)
    return np.asarray(rows, np.float64) / np.where(lengths == 0, 1, lengths)


def likeness(drawn: Floats, training: Floats, nearest: int = NEAREST) -> float:
    """How like the training pictures the drawn ones are: the mean cosine of each with its nearest training pictures.

    CLIP-I of DreamBooth (Ruiz et al. 2023, arXiv 2208.12242, section 4.2) averages over all of them; the nearest
    ones are taken here so that a varied training set is not held against a picture that is like a part of it.
    """
    cosines = drawn @ training.T
    count = min(nearest, len(training))
    return float(np.sort(cosines, axis=1)[:, -count:].mean())


def own_likeness(training: Floats, nearest: int = NEAREST) -> float:
    """The same among the training pictures, each left out of its own comparison: as like as a new one can be expected.

    1 where there is only one.
    """
    if len(training) < 2:
        return 1.0
    cosines = training @ training.T
    np.fill_diagonal(cosines, -np.inf)
    count = min(nearest, len(training) - 1)
    return float(np.sort(cosines, axis=1)[:, -count:].mean())


def fidelity(drawn: Floats, texts: Floats) -> float:
    """How well pictures show their prompts: the mean cosine of each picture [N, D] with its own text [N, D].

    CLIP-T of DreamBooth; the trigger word, which CLIP does not know, is to be left out of the texts.
    """
    return float((drawn * texts).sum(axis=1).mean())


def diversity(drawn: Sequence[Floats]) -> float:
    """How much the seed changes: the mean of 1 - cosine between the pictures of a prompt, over all pairs of seeds.

    `drawn`: the features [seeds, D] of each prompt. NaN where no prompt has two pictures.
    """
    apart: list[float] = []
    for rows in drawn:
        first, second = np.triu_indices(len(rows), 1)
        apart += (1 - (rows[first] * rows[second]).sum(axis=1)).tolist()
    return float(np.mean(apart)) if apart else math.nan


def leak(drawn: Floats, base: Floats) -> float:
    """How far prompts without the trigger word moved: the mean of 1 - cosine between each picture and the one that
    the base model draws of the same prompt and seed.
    """
    return float((1 - (drawn * base).sum(axis=1)).mean())


def contrast(pixels: Floats) -> float:
    """Standard deviation of the luma 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)."""
    return float((pixels @ np.array([0.299, 0.587, 0.114])).std())


def saturation(pixels: Floats) -> float:
    """Mean of (max - min) / max over R, G, B, as HSV has it; 0 for black."""
    high, low = pixels.max(axis=-1), pixels.min(axis=-1)
    return float(((high - low) / np.where(high == 0, 1, high)).mean())


def drift(drawn: Sequence[Floats], base: Sequence[Floats]) -> float:
    """How contrast and saturation changed where nothing should change, against the base model's pictures of the same
    prompts and seeds: |mean ln contrast ratio| + |mean ln saturation ratio|. 0.2 is hardly seen, 0.7 doubles one.
    """
    ratios = (_mean_log(drawn, measure) - _mean_log(base, measure) for measure in (contrast, saturation))
    return sum(abs(ratio) for ratio in ratios)


def drift_beyond(drawn: Sequence[Floats], base: Sequence[Floats], training: Sequence[Floats]) -> float:
    """The same for pictures of the subject, which may lawfully have the contrast and colours of the training pictures:
    what of both mean logarithms lies outside of the span between the base model's and the training pictures'.
    """
    total = 0.0
    for measure in (contrast, saturation):
        value, *ends = (_mean_log(pictures, measure) for pictures in (drawn, base, training))
        total += max(0.0, min(ends) - value, value - max(ends))
    return total


def _mean_log(pictures: Sequence[Floats], measure: Callable[[Floats], float]) -> float:
    return float(np.mean([math.log(max(measure(pixels), DARK)) for pixels in pictures]))
