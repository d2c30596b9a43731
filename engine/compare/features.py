"""What can be said of pictures without a network: their outlines, colours and rough layout. NumPy and Pillow alone."""

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
OUTLINE_SIDE, CELLS, ANGLES = 64, 4, 8
"""Outlines are looked at in so many pixels a side, summed in so many cells a side and so many directions."""
OUTLINES = 0.75
"""What share of the features' square they are."""
PIXEL_SIDE = 256
"""Contrast and saturation are measured on pictures no larger than this."""


def read_pixels(path: Path, longest_px: int = PIXEL_SIDE) -> Floats:
    """A picture [H, W, 3] from 0 to 1, made smaller where it is larger; turned as its camera says."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((longest_px, longest_px), Image.Resampling.BOX)
    return np.asarray(picture, np.float64) / 255


def rough_features(pictures: Iterable[Floats]) -> Floats:
    """[N, CELLS²·ANGLES + LEVELS³ + SIDE²·3], unit rows: outlines, beside colours and layout.

    Outlines are what tells a subject before any background, so that they count three quarters: histograms of oriented
    gradients (Dalal and Triggs 2005), here over the whole picture's cells at once. The product of two colour
    histograms' roots is Bhattacharyya's coefficient (1943), 1 for the same colours wherever they are; that of two
    layouts compares small pictures around mid grey. Both count an eighth.
    """
    rows: list[Floats] = []
    for pixels in pictures:
        outlines, rest = OUTLINES**0.5, ((1 - OUTLINES) / 2) ** 0.5
        rows.append(np.concatenate([outlines * _outlines(pixels), rest * _colours(pixels), rest * _layout(pixels)]))
    return unit(np.stack(rows))


def _outlines(pixels: Floats) -> Floats:
    """The roots of the sums of gradients by cell and direction (not told from its opposite), each pixel's of the colour
    where it is steepest; unit length, zeros for a picture of one colour.
    """
    small = np.asarray(_resized(pixels, OUTLINE_SIDE), np.float64) / 255
    down, across = np.gradient(small, axis=(0, 1))
    strength = np.hypot(down, across)
    steepest = strength.argmax(axis=-1)[..., None]
    down, across, strength = (
        np.take_along_axis(values, steepest, axis=-1)[..., 0] for values in (down, across, strength)
    )
    angle = np.arctan2(down, across) % np.pi / np.pi * ANGLES
    low = np.floor(angle).astype(int)
    row, column = np.indices(angle.shape) * CELLS // OUTLINE_SIDE
    sums = np.zeros((CELLS, CELLS, ANGLES))
    np.add.at(sums, (row, column, low % ANGLES), strength * (1 - (angle - low)))
    np.add.at(sums, (row, column, (low + 1) % ANGLES), strength * (angle - low))
    return unit(np.sqrt(sums).reshape(1, -1))[0]


def _colours(pixels: Floats) -> Floats:
    levels = np.minimum((pixels.reshape(-1, 3) * LEVELS).astype(int), LEVELS - 1)
    numbers = levels @ np.array([LEVELS * LEVELS, LEVELS, 1])
    counts = np.bincount(numbers, minlength=LEVELS**3)
    return np.sqrt(counts / counts.sum())


def _layout(pixels: Floats) -> Floats:
    return unit((np.asarray(_resized(pixels, SIDE), np.float64) / 255 - 0.5).reshape(1, -1))[0]


def _resized(pixels: Floats, side: int) -> Image.Image:
    whole = np.rint(pixels * 255).astype(np.uint8)
    return Image.fromarray(whole).resize((side, side), Image.Resampling.BOX)
