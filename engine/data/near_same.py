"""Which pictures are the same, or nearly: two 64-bit hashes and a coarse look at the colours. NumPy only.

From the picture as shown (upright, transparent parts in white), in eight bits:

- **dHash** (N. Krawetz 2013, "Kind of like that"): grey reduced to 9 × 8 by area average; bit = the right neighbour is
  brighter; rows from the top, from left to right, the first bit is the highest.
- **pHash** (C. Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", section 3.2.1): grey
  reduced to 32 × 32 by area average, 2-D DCT-II, the 8 × 8 lowest frequencies; bit = above the median of these 64.
- **colours**: the picture reduced to 4 × 4 RGB.

Two pictures are nearly the same when both hashes differ in at most `bits` of 64 bits, and the 48 numbers of the
colours by at most `COLOR_STEPS` of 255 on average. A resized, recompressed or slightly retouched copy is; another shot
of the same scene, a mirrored, turned or recoloured picture is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

COLOR_STEPS = 12.0
_COLORS = 48
_SIDE = 32


@dataclass(frozen=True)
class Print:
    """What is compared of a picture: two hashes as unsigned 64-bit numbers, and 48 colour values of one byte each."""

    dhash: int
    phash: int
    colors: bytes


def fingerprint(pixels: NDArray[np.uint8]) -> Print:
    """Of pixels [H, W, 3] (uint8, RGB, upright), of any size of at least 1 × 1."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    colors = cv2.resize(pixels, (4, 4), interpolation=cv2.INTER_AREA)
    return Print(dhash(grey), phash(grey), colors.astype(np.uint8).tobytes())


def dhash(grey: NDArray[np.float32]) -> int:
    """64 bits of a grey picture [H, W]; see the module's text."""
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return _number(np.round(small[:, 1:]) > np.round(small[:, :-1]))


def phash(grey: NDArray[np.float32]) -> int:
    """64 bits of a grey picture [H, W]; see the module's text."""
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:8, :8]
    return _number(low > np.median(low))


def _number(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


class PrintTable:
    """Many prints, each of which can be compared with all: one with 10,000 takes some 50 µs."""

    def __init__(self, prints: Sequence[Print]) -> None:
        self._dhashes = np.array([found.dhash for found in prints], dtype=np.uint64)
        self._phashes = np.array([found.phash for found in prints], dtype=np.uint64)
        self._colors = np.array([list(found.colors) for found in prints], dtype=np.int16).reshape(-1, _COLORS)

    def near(
        self, index: int, bits: int, among: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Which of the pictures `among` (by default all, itself too) are nearly the same as that one, and the larger
        distance of both hashes of each."""
        dhashes = self._dhashes if among is None else self._dhashes[among]
        apart = np.bitwise_count(dhashes ^ self._dhashes[index])
        near = np.nonzero(apart <= bits)[0]
        apart = apart[near]
        if among is not None:
            near = among[near]
        if len(near):
            apart = np.maximum(apart, np.bitwise_count(self._phashes[near] ^ self._phashes[index]))
            alike = np.abs(self._colors[near] - self._colors[index]).mean(axis=1) <= COLOR_STEPS
            chosen = (apart <= bits) & alike
            near, apart = near[chosen], apart[chosen]
        return near, apart


def near_groups(prints: Sequence[Print], bits: int) -> list[tuple[list[int], int]]:
    """Groups of two or more pictures that are nearly the same, directly or over others, in order; with the largest
    distance by which one was linked to another."""
    table = PrintTable(prints)
    group = np.arange(len(prints))
    largest: dict[int, int] = {}
    for index in range(len(prints)):
        others = np.nonzero(group[index + 1 :] != group[index])[0] + (index + 1)
        near, apart = table.near(index, bits, others)
        if not len(near):
            continue
        merged = np.unique([*group[near], group[index]])
        key = int(merged[0])
        largest[key] = max(int(apart.max()), *(largest.pop(int(old), 0) for old in merged))
        group[np.isin(group, merged)] = key
    return [(np.nonzero(group == key)[0].tolist(), largest[key]) for key in sorted(largest)]
