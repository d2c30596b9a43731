"""Slight changes of colour, drawn anew for each showing of an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.draws import draw_fraction

Pixels = NDArray[np.uint8]

CHANGED_SHARE = 1 / 3  # of the showings; half of these in hue, half in brightness. As sd-scripts' color_aug
HUE_DEGREES = 16.0  # at most, in either direction (8 of OpenCV's 180 there)
GAMMA_DEPARTURE = 0.05


@dataclass(frozen=True)
class ColorShift:
    """Degrees by which hues turn, and the exponent of the brightness (of values from 0 to 1)."""

    hue_degrees: float = 0.0
    gamma: float = 1.0


UNSHIFTED = ColorShift()


def draw_color(seed: int, step: int, draw: int) -> ColorShift:
    """The shift of one showing: a function of the seed, the step and the image's number in it."""
    chance = draw_fraction("color", seed, step, draw)
    if chance >= CHANGED_SHARE:
        return UNSHIFTED
    amount = 2 * draw_fraction("color amount", seed, step, draw) - 1
    if chance < CHANGED_SHARE / 2:
        return ColorShift(hue_degrees=HUE_DEGREES * amount)
    return ColorShift(gamma=1 + GAMMA_DEPARTURE * amount)


def shift_color(pixels: Pixels, shift: ColorShift) -> Pixels:
    """Pixels [H, W, 3] (sRGB) with hues turned in the HSV circle and values raised to the power of gamma."""
    if shift.gamma != 1.0:
        table = 255 * (np.arange(256) / 255) ** shift.gamma
        pixels = np.round(table).astype(np.uint8)[pixels]
    if shift.hue_degrees:
        hsv = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + shift.hue_degrees) % 360
        pixels = np.round(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).astype(np.uint8)
    return pixels
