"""Learning-rate factors equal the reference at every step; warm-up goes with every schedule."""

from __future__ import annotations

import json
import math

import pytest
from conftest import REFERENCE
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.schedules import DECAYS, FALLING, SCHEDULES, Shape, factor, rate_curve, read_points, schedule_problems
from engine.sections.optimizer import Optimizer

FIGURES = json.loads((REFERENCE / "lr_schedules.json").read_text(encoding="utf-8"))["schedules"]
BASE_RATE = 1e-3
# Figure of the reference → the settings that give it
CASES = {
    "constant": {"schedule": "constant"},
    "constant_with_warmup": {"schedule": "constant", "warmup_steps": 10},
    "constant_with_warmup#0.1": {"schedule": "constant", "warmup_share": 0.1},
    "constant_with_warmup#10%": {"schedule": "constant", "warmup_share": 0.1},
    "linear": {"schedule": "linear", "warmup_steps": 10},
    "cosine": {"schedule": "cosine", "warmup_steps": 10},
    "cosine#nowarm": {"schedule": "cosine"},
    "cosine_with_restarts": {"schedule": "cosine_with_restarts", "cycles": 3, "warmup_steps": 10},
    "polynomial": {"schedule": "polynomial", "power": 2.0, "min_ratio": 1e-7 / BASE_RATE},
    "inverse_sqrt": {"schedule": "inverse_sqrt", "warmup_steps": 10},
    "cosine_with_min_lr": {"schedule": "cosine", "min_ratio": 0.1, "warmup_steps": 10},
    "warmup_stable_decay": {"schedule": "warmup_stable_decay", "warmup_steps": 10, "decay_steps": 20},
}


def settings(**values: object) -> Optimizer:
    return Optimizer.model_validate(values)


@pytest.mark.parametrize("figure", CASES)
def test_rates_equal_the_reference(figure: str):
    rates = FIGURES[figure]["lr_at_step_index_0..N"]
    curve = rate_curve(settings(**CASES[figure]), FIGURES[figure]["total"])
    assert len(rates) == 101
    assert [BASE_RATE * curve(step) for step in range(101)] == pytest.approx(rates, rel=1e-12, abs=1e-18)


def test_every_figure_with_rates_is_matched():
    assert set(CASES) == {name for name, figure in FIGURES.items() if "error" not in figure}


@given(
    st.sampled_from(sorted(SCHEDULES)), st.integers(0, 300), st.integers(0, 150), st.integers(1, 200),
    st.floats(0, 1), st.sampled_from(sorted(DECAYS)),
)  # fmt: skip
def test_factors_stay_between_0_and_1(name, step, warmup_steps, total_steps, min_ratio, decay_shape):
    decay_steps = max(1, total_steps // 3)
    shape = Shape(total_steps, warmup_steps, 3, 2.0, 0, decay_steps, decay_shape, ((20, 0.5),))
    value = factor(name, step, shape, min_ratio)
    assert 0.0 <= value <= 1.0 + 1e-12
    if name in FALLING and step >= total_steps > warmup_steps:
        assert value == pytest.approx(min_ratio)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_warmup_rises_in_a_line_and_ends_at_the_schedule(name: str):
    shape, bare = Shape(100, 10, decay_steps=20), Shape(100, 10, decay_steps=20)
    assert [factor(name, step, shape) for step in (0, 5)] == [0.0, 0.5]
    assert factor(name, 10, shape) == SCHEDULES[name](10, bare)
    if name != "adafactor":
        assert factor(name, 10, shape) == 1.0


def test_rex_is_the_published_curve():
    """Chen et al. 2021: (1 − t/T) / (1/2 + 1/2 · (1 − t/T))."""
    for step in range(101):
        left = 1 - step / 100
        assert factor("rex", step, Shape(100)) == pytest.approx(left / (0.5 + 0.5 * left))


def test_adafactor_has_its_own_step_size():
    curve = rate_curve(settings(schedule="adafactor"), 50_000)
    assert curve(0) == 1e-2
    assert curve(39_999) == pytest.approx(1 / math.sqrt(40_000))


def test_points_take_steps_and_shares_in_any_order():
    assert read_points("75%:0.1, 30 : 0.5\n5:2e-1;", 200) == ((5, 0.2), (30, 0.5), (150, 0.1))
    curve = rate_curve(settings(schedule="piecewise_constant", points="10:0.5, 50%:0.1"), 100)
    assert [curve(step) for step in (0, 9, 10, 49, 50, 99)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]


@pytest.mark.parametrize("text", ["0.5", "10:", "ten:0.5", "10=0.5", "-1:0.5", "10:0.5:3"])
def test_points_that_cannot_be_read_are_named(text: str):
    with pytest.raises(UserError, match=f"got {text}"):
        read_points(text, 100)


def test_steps_beat_the_share_beside_them():
    wsd = {"schedule": "warmup_stable_decay", "decay_share": 0.5}
    assert rate_curve(settings(**wsd), 100)(60) < 1.0
    assert rate_curve(settings(**wsd, decay_steps=10), 100)(60) == 1.0


FAULTS = {
    "optimizer.warmup_steps": {"warmup_steps": 100},
    "optimizer.warmup_share": {"warmup_share": 1.0},
    "optimizer.decay_steps": {"schedule": "warmup_stable_decay", "warmup_steps": 50, "decay_steps": 51},
    "optimizer.decay_share": {"schedule": "warmup_stable_decay", "warmup_share": 0.5, "decay_share": 0.6},
    "optimizer.points": {"schedule": "piecewise_constant", "points": "100:0.5"},
}


@pytest.mark.parametrize("where", FAULTS)
def test_what_does_not_fit_into_the_run_is_a_problem(where: str):
    (problem,) = schedule_problems(settings(**FAULTS[where]), 100)
    assert problem.where == where
    assert problem.message.endswith(".")


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_what_fits_is_no_problem(values: dict):
    assert not list(schedule_problems(settings(**values), 100))
