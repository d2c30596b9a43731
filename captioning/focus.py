"""Where a picture is cut: around its centre, around a face, or where most catches the eye. Pure functions on pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.data.buckets import Placement

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, width, height as shares of the picture's sides

_SALIENCY_PX = 64


def cut_around(placement: Placement, centre: tuple[float, float]) -> tuple[int, int]:
    """Left and top, in pixels of the resized picture, of the cut with its middle nearest to `centre` (shares)."""
    left, top = (
        min(max(round(share * resized - bucket / 2), 0), resized - bucket)
        for share, resized, bucket in zip(centre, placement.resized_px, placement.bucket_px, strict=True)
    )
    return left, top


def main_face(faces: Sequence[Box]) -> tuple[float, float] | None:
    """The middle of the largest face, as shares of the sides; None without faces."""
    if not faces:
        return None
    left, top, width, height = max(faces, key=lambda box: (box[2] * box[3], box))
    return left + width / 2, top + height / 2


def cut_by_saliency(placement: Placement, saliency: NDArray[np.float64]) -> tuple[int, int]:
    """Left and top of the cut that holds the most of `saliency` [h, w]; of equals the one nearest to the middle."""
    columns, rows = saliency.sum(axis=0), saliency.sum(axis=1)
    left, top = (
        _best_start(profile, resized, bucket)
        for profile, resized, bucket in zip((columns, rows), placement.resized_px, placement.bucket_px, strict=True)
    )
    return left, top


def _best_start(profile: NDArray[np.float64], resized: int, bucket: int) -> int:
    """`profile`: how much catches the eye along one side, cut into equal parts."""
    room = resized - bucket
    if not room:
        return 0
    ends = np.concatenate([[0.0], np.cumsum(profile)])
    at = np.arange(room + 1) * (len(profile) / resized)
    places = np.arange(len(ends))
    held = np.interp(at + bucket * len(profile) / resized, places, ends) - np.interp(at, places, ends)
    best = np.nonzero(held >= held.max() - 1e-9 * max(ends[-1], 1e-300))[0]
    return int(best[np.argmin(np.abs(best - room / 2))])


def spectral_residual(pixels: Pixels) -> NDArray[np.float64]:
    """Saliency of an RGB picture [H, W, 3], reduced to 64 px on its shorter side: [h, w], values of at least 0.

    The log amplitude spectrum less its local mean, back in space, squared and smoothed (X. Hou and L. Zhang 2007,
    "Saliency detection: a spectral residual approach", CVPR, equations 3 to 5, with their 3 × 3 mean). An even picture
    is 0 all over.
    """
    height, width = pixels.shape[:2]
    scale = _SALIENCY_PX / min(height, width)
    size = max(_SALIENCY_PX, round(width * scale)), max(_SALIENCY_PX, round(height * scale))
    grey = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float64)
    if np.ptp(grey) < 1:
        return np.zeros_like(grey)
    spectrum = np.fft.fft2(grey)
    log_amplitude = np.log(np.abs(spectrum) + 1e-9)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REPLICATE)
    back = np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))
    return np.asarray(cv2.GaussianBlur(np.abs(back) ** 2, (0, 0), 2.5), dtype=np.float64)
