"""Repeats by which every class is seen equally. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MOST_REPEATS = 1000


def balanced_repeats(subsets: Sequence[tuple[str, int]], images_per_epoch: int = 0) -> list[int]:
    """Repeats for each (class word, images), so that the classes are shown as equally as whole numbers allow.

    Subsets of one class get the same repeats. Each class is shown about `images_per_epoch` ÷ classes times an epoch;
    with 0, as often as the largest class with one repeat. Repeats are from 1 to MOST_REPEATS.
    """
    images = Counter[str]()
    for word, count in subsets:
        images[word] += count
    largest = max(images.values(), default=1)
    wanted = images_per_epoch / len(images) if images_per_epoch and images else largest
    return [_nearest(wanted, images[word]) for word, _ in subsets]


def _nearest(wanted: float, images: int) -> int:
    """The whole number of repeats whose showings are closest to `wanted`, as a ratio."""
    low = max(1, int(wanted / images))
    best = low if wanted / (low * images) <= (low + 1) * images / wanted else low + 1
    return min(best, MOST_REPEATS)
