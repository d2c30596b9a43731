"""Colours that change: how often, how far, and that nothing else does."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from engine.data.color import GAMMA_DEPARTURE, HUE_DEGREES, UNSHIFTED, ColorShift, draw_color, shift_color

DRAWS = [draw_color(7, step, draw) for step in range(300) for draw in range(10)]


def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_a_third_of_the_showings_change_half_of_them_in_hue_and_half_in_brightness():
    kinds = Counter((shift.hue_degrees != 0, shift.gamma != 1) for shift in DRAWS)
    assert set(kinds) == {(False, False), (True, False), (False, True)}
    assert kinds[False, False] == pytest.approx(2000, abs=100)
    assert kinds[True, False] == pytest.approx(500, abs=75)


def test_shifts_fill_their_range_and_stay_within_it():
    hues = [shift.hue_degrees for shift in DRAWS if shift.hue_degrees]
    gammas = [shift.gamma - 1 for shift in DRAWS if shift.gamma != 1]
    for values, limit in ((hues, HUE_DEGREES), (gammas, GAMMA_DEPARTURE)):
        assert -limit <= min(values) < -0.95 * limit and 0.95 * limit < max(values) <= limit
        assert abs(np.mean(values)) < 0.1 * limit


def test_a_draw_depends_on_seed_step_and_number_only():
    assert draw_color(1, 2, 3) == draw_color(1, 2, 3)
    rows = {tuple(draw_color(*parts, draw) for draw in range(30)) for parts in ((1, 2), (2, 2), (1, 3))}
    assert len(rows) == 3


def test_no_shift_changes_no_pixel():
    pixels = picture()
    assert np.array_equal(shift_color(pixels, UNSHIFTED), pixels)
    assert np.abs(shift_color(pixels, ColorShift(hue_degrees=360.0)).astype(int) - pixels).max() <= 1


def test_gamma_is_that_of_values_from_0_to_1():
    found = shift_color(picture(), ColorShift(gamma=1.05))
    assert np.abs(found - 255 * (picture() / 255) ** 1.05).max() <= 0.5


def test_a_hue_turns_by_its_degrees_and_keeps_saturation_and_value():
    pixels = np.full((2, 2, 3), (200, 100, 50), np.uint8)
    before, after = (
        cv2.cvtColor(values.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0, 0]
        for values in (pixels, shift_color(pixels, ColorShift(hue_degrees=-30.0)))
    )
    assert (before[0] - after[0]) % 360 == pytest.approx(30, abs=0.5)
    assert after[1:] == pytest.approx(before[1:], abs=0.01)
    gray = np.full((2, 2, 3), 90, np.uint8)
    assert np.array_equal(shift_color(gray, ColorShift(hue_degrees=10.0)), gray)
