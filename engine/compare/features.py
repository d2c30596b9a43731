"""What can be said of pictures without a network: their colours and their rough layout. NumPy and Pillow alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from engine.compare.scores import Floats, unit

LEVELS = 6
"""Steps of each colour in the histogram."""
SIDE = 8
"""The layout is a picture of so many pixels a side."""
PIXEL_SIDE = 256
"""Contrast and saturation are measured on pictures no larger than this."""


def read_pixels(path: Path, longest_px: int = PIXEL_SIDE) -> Floats:
    """A picture [H, W, 3] from 0 to 1, made smaller where it is larger; turned as its camera says."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((longest_px, longest_px), Image.Resampling.BOX)
    return np.asarray(picture, np.float64) / 255


def rough_features(pictures: Iterable[Floats]) -> Floats:
    """[N, LEVELS³ + SIDE²·3], unit rows: the square root of the colour histogram beside the layout.

    The product of two histograms' roots is Bhattacharyya's coefficient (1943), 1 for the same colours wherever they
    are; that of two layouts compares small pictures around mid grey. Both count half.
    """
    rows: list[Floats] = []
    for pixels in pictures:
        rows.append(np.concatenate([_colours(pixels), _layout(pixels)]) / np.sqrt(2))
    return np.stack(rows)


def _colours(pixels: Floats) -> Floats:
    levels = np.minimum((pixels.reshape(-1, 3) * LEVELS).astype(int), LEVELS - 1)
    numbers = levels @ np.array([LEVELS * LEVELS, LEVELS, 1])
    counts = np.bincount(numbers, minlength=LEVELS**3)
    return np.sqrt(counts / counts.sum())


def _layout(pixels: Floats) -> Floats:
    small = Image.fromarray(np.uint8(np.rint(pixels * 255))).resize((SIDE, SIDE), Image.Resampling.BOX)
    return unit((np.asarray(small, np.float64) / 255 - 0.5).reshape(1, -1))[0]
