"""Loss scaling in fp16: the same update, left out and halved after an overflow, doubled after long without one."""

from __future__ import annotations

import math

import pytest
import torch
from optimizer_runs import NothingIsRead, make, vectors

from engine.updater import GROWTH_INTERVAL_STEPS, INITIAL_LOSS_SCALE, Updater


def scaled(clip_norm: float = 0.0):
    """Two parts, an updater that scales, and one that does not over parts of their own."""
    parts, plain = make("adamw")
    others, updater = make("adamw")
    with_scale = Updater(updater.optimizer, updater.groups, clip_norm, True, torch.device("cpu"))
    return (parts, Updater(plain.optimizer, plain.groups, clip_norm, False, torch.device("cpu"))), (others, with_scale)


def step(parts, updater: Updater, gradient: float) -> torch.Tensor:
    """One update from gradients as a scaled loss gives them."""
    updater.begin_step(1.0)
    for flat in parts.values():
        flat.vector.grad = torch.full_like(flat.vector, gradient) * updater.scale
    return updater.update(0)


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_a_scaled_loss_gives_the_very_update_and_norm_of_a_plain_one(clip_norm: float):
    (parts, plain), (others, updater) = scaled(clip_norm)
    for gradient in (0.3, -0.7, 1e-6):
        assert torch.equal(step(parts, plain, gradient), step(others, updater, gradient))
    assert all(torch.equal(one, two) for one, two in zip(vectors(parts), vectors(others), strict=True))
    assert (updater.scale, updater.good_steps) == (INITIAL_LOSS_SCALE, 3)
    assert plain.scale == 1


def test_an_overflow_is_left_out_and_halves_the_scale():
    _, (parts, updater) = scaled()
    step(parts, updater, 0.1)
    before = vectors(parts)
    assert not math.isfinite(step(parts, updater, math.inf))
    assert all(torch.equal(one, two) for one, two in zip(vectors(parts), before, strict=True))
    assert (updater.scale, updater.good_steps) == (INITIAL_LOSS_SCALE / 2, 0)


def test_after_long_without_an_overflow_the_scale_doubles():
    _, (parts, updater) = scaled()
    step(parts, updater, 0.1)
    updater.good_steps.fill_(GROWTH_INTERVAL_STEPS - 2)
    with NothingIsRead():
        step(parts, updater, 0.1)
    assert (updater.scale, updater.good_steps) == (INITIAL_LOSS_SCALE, GROWTH_INTERVAL_STEPS - 1)
    step(parts, updater, 0.1)
    assert (updater.scale, updater.good_steps) == (2 * INITIAL_LOSS_SCALE, 0)
