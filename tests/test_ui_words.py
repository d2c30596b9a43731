"""Words, numbers and foreign text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "1e-4"), (5e-5, "5e-5"), (3.5e-5, "3.5e-5"), (0.02, "0.02"), (0, "0"), (1.0, "1"), (0.004, "4e-3")],
)
def test_rates_look_as_people_write_them(value: float, text: str) -> None:
    assert words.rate(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_digit_of_a_rate_is_lost(value: float) -> None:
    assert float(words.rate(value)) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@given(st.text())
def test_escaped_text_holds_no_mark_of_html_or_templates(text: str) -> None:
    assert not set("<>\"'{}$`") & set(words.escape(text))
