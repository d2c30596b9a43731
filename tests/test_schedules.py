"""Learning-rate factors equal the reference at every step; warm-up goes with every schedule."""

from __future__ import annotations

import json

import pytest
from conftest import REFERENCE
from hypothesis import given
from hypothesis import strategies as st

from engine.schedules import SCHEDULES

FIGURES = json.loads((REFERENCE / "lr_schedules.json").read_text(encoding="utf-8"))["schedules"]
CASES = [
    ("constant", "constant", 0),
    ("constant", "constant_with_warmup", 10),
    ("linear", "linear", 10),
    ("cosine", "cosine", 10),
    ("cosine", "cosine#nowarm", 0),
]


@pytest.mark.parametrize(("name", "figure", "warmup_steps"), CASES)
def test_rates_equal_the_reference(name: str, figure: str, warmup_steps: int):
    rates = FIGURES[figure]["lr_at_step_index_0..N"]
    total = FIGURES[figure]["total"]
    ours = [1e-3 * SCHEDULES[name](step, warmup_steps, total) for step in range(len(rates))]
    assert len(rates) == 101
    assert ours == pytest.approx(rates, rel=1e-12, abs=1e-18)


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(0, 300), st.integers(0, 150), st.integers(1, 200))
def test_factors_stay_between_0_and_1(name: str, step: int, warmup_steps: int, total_steps: int):
    assert 0.0 <= SCHEDULES[name](step, warmup_steps, total_steps) <= 1.0


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_warmup_ends_at_the_full_rate(name: str):
    assert SCHEDULES[name](5, 10, 100) == 0.5
    assert SCHEDULES[name](10, 10, 100) == 1.0
