"""Timestep distributions: their masses, what is drawn from them, and how draws spread over a step."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sections.noise import Noise
from engine.timesteps import (
    DISTRIBUTIONS,
    SPREADS,
    beta_cumulative,
    cumulative,
    fractions,
    parse_curve,
    timestep_of,
)

CURVE = "0:1, 500:0.3, 1000:0"
CASES = {
    "uniform": Noise(),
    "uniform in a range": Noise(min_timestep=200, max_timestep=400),
    "logit-normal": Noise(timesteps="logit_normal"),
    "logit-normal, noisy and narrow": Noise(timesteps="logit_normal", logit_mean=1.5, logit_deviation=0.4),
    "beta": Noise(timesteps="beta", beta_a=2, beta_b=5),
    "beta with poles": Noise(timesteps="beta", beta_a=0.5, beta_b=0.5, min_timestep=100),
    "curve": Noise(timesteps="curve", timestep_curve=CURVE),
    "curve in a range": Noise(timesteps="curve", timestep_curve=CURVE, min_timestep=300, max_timestep=700),
}


def masses(noise: Noise) -> np.ndarray:
    return np.diff(np.asarray((0.0, *cumulative(noise))))


def curve_density(x: float) -> float:
    return 1 - 1.4 * x if x < 0.5 else 0.6 * (1 - x)


# Densities over x = t / 1000 without their constant factor, written from the definitions
DENSITIES = {
    "logit-normal": lambda x: math.exp(-(math.log(x / (1 - x)) ** 2) / 2) / (x * (1 - x)),
    "beta": lambda x: x * (1 - x) ** 4,
    "curve": curve_density,
}


@pytest.mark.parametrize("name", DENSITIES)
def test_masses_are_the_integral_of_the_density(name):
    middles = np.array([[DENSITIES[name]((t + (part + 0.5) / 20) / 1000) for part in range(20)] for t in range(1000)])
    wanted = middles.mean(axis=1)
    assert masses(CASES[name]) == pytest.approx(wanted / wanted.sum(), rel=2e-3, abs=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_masses_are_those_of_the_range_and_sum_to_one(name):
    noise, found = CASES[name], masses(CASES[name])
    assert (found >= 0).all() and found.sum() == pytest.approx(1)
    assert found[: noise.min_timestep].sum() == 0 and found[noise.max_timestep :].sum() == 0


@pytest.mark.parametrize("name", [name for name in CASES if "range" in name])
def test_a_range_cuts_the_distribution_and_does_not_squeeze_it(name):
    noise = CASES[name]
    whole = masses(noise.model_copy(update={"min_timestep": 0, "max_timestep": 1000}))
    inside = whole[noise.min_timestep : noise.max_timestep]
    assert masses(noise)[noise.min_timestep : noise.max_timestep] == pytest.approx(inside / inside.sum())


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_cumulative_distribution(name, spread):
    """Kolmogorov-Smirnov: 4,000 draws over 1,000 steps leave the distribution by less than at a level of 0.1 %.

    Of the spread ones a single place of the step is looked at as well, whose draws over the steps are independent.
    """
    table = cumulative(CASES[name])
    drawn = [[timestep_of(table, f) for f in fractions(spread, 4, 7, step)] for step in range(1000)]
    for sample in (np.ravel(drawn), np.asarray(drawn)[:, 1]):
        shares = np.searchsorted(np.sort(sample), np.arange(1000), side="right") / len(sample)
        assert np.abs(shares - np.asarray(table)).max() < 1.95 / math.sqrt(len(sample))


@pytest.mark.parametrize("name", ["uniform", "curve"])
def test_counts_of_ten_bands_pass_the_chi_square_test(name):
    """9 degrees of freedom: 27.9 is passed by all but 0.1 % of fair samples."""
    table = cumulative(CASES[name])
    drawn = [timestep_of(table, fractions("independent", 1, 3, step)[0]) for step in range(3000)]
    counts = np.bincount(np.asarray(drawn) // 100, minlength=10)
    wanted = masses(CASES[name]).reshape(10, 100).sum(axis=1) * len(drawn)
    assert ((counts - wanted) ** 2 / wanted).sum() < 27.9


@given(st.integers(1, 40), st.integers(0, 2**32), st.integers(0, 10**6))
def test_stratified_draws_hit_each_stratum_once(count, seed, step):
    assert sorted(int(f * count) for f in fractions("stratified", count, seed, step)) == list(range(count))


@given(st.integers(1, 40), st.integers(0, 2**32), st.integers(0, 10**6))
def test_antithetic_draws_come_in_pairs_around_the_middle(count, seed, step):
    drawn = fractions("antithetic", count, seed, step)
    assert all(one + two == pytest.approx(1) for one, two in zip(drawn[::2], drawn[1::2], strict=False))


@given(st.sampled_from(sorted(SPREADS)), st.integers(1, 40), st.integers(0, 10**6))
def test_fractions_lie_in_their_range_and_come_again(spread, count, step):
    drawn = fractions(spread, count, 1, step)
    assert all(0 <= f < 1 for f in drawn) and len(drawn) == count
    assert drawn == fractions(spread, count, 1, step)


@given(st.sampled_from(sorted(CASES)), st.floats(0, 1, exclude_max=True))
def test_every_drawn_timestep_has_a_mass(name, fraction):
    table = cumulative(CASES[name])
    assert masses(CASES[name])[timestep_of(table, fraction)] > 0


def test_equal_limits_draw_that_timestep_alone():
    for kind in DISTRIBUTIONS:
        table = cumulative(Noise.model_validate({"timesteps": kind, "min_timestep": 500, "max_timestep": 500}))
        assert {timestep_of(table, f) for f in (0.0, 0.3, 0.999999)} == {500}


@pytest.mark.parametrize("x", [0.001, 0.1, 0.3, 0.5, 0.77, 0.999])
def test_the_beta_function_equals_its_closed_forms(x):
    assert beta_cumulative(x, 1, 3) == pytest.approx(1 - (1 - x) ** 3, rel=1e-12)
    assert beta_cumulative(x, 20, 1) == pytest.approx(x**20, rel=1e-12)
    assert beta_cumulative(x, 0.5, 0.5) == pytest.approx(2 / math.pi * math.asin(math.sqrt(x)), rel=1e-12)
    binomial = sum(math.comb(12, k) * x**k * (1 - x) ** (12 - k) for k in range(5, 13))
    assert beta_cumulative(x, 5, 8) == pytest.approx(binomial, rel=1e-11)


@given(st.floats(0.1, 20), st.floats(0.1, 20), st.floats(1e-6, 1 - 1e-6))
def test_the_beta_function_is_symmetric_and_bounded(a, b, x):
    value = beta_cumulative(x, a, b)
    assert 0 <= value <= 1 + 1e-12
    assert value + beta_cumulative(1 - x, b, a) == pytest.approx(1, abs=1e-9)


def test_the_logit_normal_has_its_median_where_it_was_put():
    table = cumulative(Noise(timesteps="logit_normal", logit_mean=0.7))
    assert timestep_of(table, 0.5) == pytest.approx(1000 / (1 + math.exp(-0.7)), abs=1)
    quantile = 1000 / (1 + math.exp(-NormalDist(0.7, 1).inv_cdf(0.9)))
    assert timestep_of(table, 0.9) == pytest.approx(quantile, abs=1)


def test_curves_are_read_from_commas_semicolons_and_lines():
    assert parse_curve("0:1, 500 : .3;1000:0\n") == ((0, 1.0), (500, 0.3), (1000, 0.0))


def test_a_curve_is_level_outside_its_points():
    found = masses(Noise(timesteps="curve", timestep_curve="400:1, 600:3"))
    assert found[0] == pytest.approx(found[399]) and found[600] == pytest.approx(found[999])
    assert found[999] / found[0] == pytest.approx(3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no points"),
        ("0:1, 500", "got '500'"),
        ("0:1, 1001:1", "got '1001:1'"),
        ("0:-1", "got '0:-1'"),
        ("0:1e999", "got '0:1e999'"),
        ("500:1, 500:2", "got 500, then 500"),
        ("500:1, 100:2", "got 500, then 100"),
        ("0:0, 1000:0", "all weights are 0"),
    ],
)
def test_a_curve_that_cannot_be_read_is_told_in_a_sentence(text, told):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        parse_curve(text)
    assert told in str(caught.value)


def test_a_range_that_leaves_nothing_raises():
    with pytest.raises(ValueError, match="no timestep"):
        cumulative(Noise(timesteps="curve", timestep_curve="0:1, 500:0", min_timestep=600))
