"""Weights and moments in bf16: rounding by chance is right on average, exact where it can be, and repeats itself."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import engine.rounding
from engine import events
from engine.adapters.flat import FlatParameters
from engine.adapters.site import Group
from engine.optimizer_arguments import arguments_of
from engine.optimizers import make_optimizer, pack_state
from engine.rate_groups import rate_groups
from engine.rounding import RoundedStep, round_stochastic
from engine.rules.memory import STEPS_BY_SEGMENT
from engine.sections.optimizer import Optimizer
from engine.updater import Updater
from tests.test_resume import assert_same_outcome, resume_here
from tests.training import events_of, losses_of, small_preset, train_here

BF16 = torch.bfloat16


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rounding_is_right_on_average():
    values = torch.tensor([1.0 + 2.0**-10, -3.3, 1e-8, 12345.678, -1e-38, 0.1]).repeat_interleave(40_000)
    rounded = round_stochastic(values, generator()).float().view(6, -1)
    values = values.view(6, -1)
    step = (rounded.amax(1) - rounded.amin(1)).double()  # one step of bf16: both neighbours come up
    assert (rounded.double().mean(1) - values[:, 0].double()).abs().div(step).max() < 4 * 0.5 / 200


def test_only_the_two_neighbours_come_up_and_each_as_often_as_it_is_near():
    value = 1.0 + 2.0**-7 * 0.25
    rounded = round_stochastic(torch.full((40_000,), value), generator()).float()
    assert set(rounded.tolist()) == {1.0, 1.0 + 2.0**-7}
    assert (rounded > 1).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_what_bf16_can_hold_stays_and_what_is_no_number_stays_none():
    exact = torch.randn(1000, generator=generator()).to(BF16).float()
    exact = torch.cat([exact, torch.tensor([0.0, -0.0, 2.0**-120, float("inf"), -float("inf")])])
    assert torch.equal(round_stochastic(exact, generator(3)).float(), exact)
    assert round_stochastic(torch.tensor([float("nan")]), generator()).isnan().all()


def stepper(values: torch.Tensor, seed: int = 0, name: str = "adamw", decay: float = 0.0):
    """A bf16 vector and what updates it."""
    flat = FlatParameters({"numbers": tuple(values.shape)}, BF16)
    flat.vector.data = values.to(BF16)
    rounding = RoundedStep([flat.vector], seed)
    groups = rate_groups([Group("unet", "unet", 1.0, flat)], {"unet": 1e-4}, False, rounding)
    settings = Optimizer.model_validate({"name": name, "weight_decay": decay})
    optimizer = make_optimizer(name, groups, arguments_of(settings))
    return flat.vector, Updater(optimizer, groups, 0.0, False, torch.device("cpu"), rounding)


def steps(vector: nn.Parameter, updater: Updater, first: int, last: int, gradient: torch.Tensor) -> None:
    for step in range(first, last):
        vector.grad = gradient.to(BF16)
        updater.begin_step(1.0)
        updater.update(step)


def test_steps_too_small_for_bf16_add_up():
    vector, updater = stepper(torch.ones(4096))
    steps(vector, updater, 0, 50, torch.ones(4096))
    assert vector.dtype == BF16
    assert 1 - vector.float().mean().item() == pytest.approx(50e-4, rel=0.1)  # rounded to the nearest: exactly 1
    nearest = torch.ones(1, dtype=BF16)
    for _ in range(50):
        nearest -= 1e-4
    assert nearest.item() == 1


def test_moments_lie_in_bf16_and_follow_those_of_fp32():
    size = 2048
    gradients = torch.randn(20, size, generator=generator(1))
    vector, updater = stepper(torch.ones(size))
    wide = nn.Parameter(torch.ones(size))
    plain = torch.optim.AdamW([wide], lr=1e-4, weight_decay=0.0)
    for step, gradient in enumerate(gradients):
        vector.grad, wide.grad = gradient.to(BF16), gradient
        updater.begin_step(1.0)
        updater.update(step)
        plain.step()
    (part,) = updater.optimizer.param_groups[0]["params"]
    for key in ("exp_avg", "exp_avg_sq"):
        narrow, full = updater.optimizer.state[part][key], plain.state[wide][key]
        assert narrow.dtype == BF16
        assert ((narrow.float() - full).norm() / full.norm()).item() < 0.02
        assert abs((narrow.float().mean() / full.mean()).item() - 1) < 0.02 or key == "exp_avg"
    assert (vector.float().mean() - wide.mean()).abs().item() < 3 * 2**-9 / size**0.5


@pytest.mark.parametrize("name", STEPS_BY_SEGMENT)
def test_segments_are_stepped_as_the_whole_is(name, monkeypatch):
    values, gradient = torch.randn(2, 8192, generator=generator(2))
    results = []
    for size in (1 << 23, 4096):
        monkeypatch.setattr(engine.rounding, "SEGMENT", size)
        monkeypatch.setattr(engine.rounding, "round_stochastic", lambda wide, _: wide.to(BF16))
        vector, updater = stepper(values, name=name)
        steps(vector, updater, 0, 3, gradient)
        results.append(vector.detach().clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], values.to(BF16))


def test_gradients_of_several_batches_are_added_in_fp32():
    flat = FlatParameters({"numbers": (4096,)}, BF16)
    flat.to(torch.device("cpu"), BF16)
    rounding = RoundedStep([flat.vector], 0, sums=True)
    total, narrow = torch.zeros(4096), torch.zeros(4096, dtype=BF16)
    for seed in range(40):
        gradient = torch.randn(4096, generator=generator(seed)).to(BF16)
        (flat.matrices()[0] * gradient).sum().backward()
        total += gradient.float()
        narrow += gradient
    assert flat.vector.grad is not None and torch.equal(flat.vector.grad, total)
    assert (narrow.float() - total).abs().max() > 0.05
    groups = rate_groups([Group("unet", "unet", 1.0, flat)], {"unet": 1.0}, False, rounding)
    numbers = Optimizer.model_validate({"name": "sgd_nesterov", "beta1": 0.0, "weight_decay": 0.0})
    optimizer = make_optimizer("sgd_nesterov", groups, arguments_of(numbers))
    updater = Updater(optimizer, groups, 0.0, False, torch.device("cpu"), rounding)
    updater.begin_step(1.0)
    norm = updater.update(0)
    torch.testing.assert_close(norm, total.norm())
    assert flat.vector.dtype == BF16 and flat.vector.grad is None


def test_chance_is_a_function_of_seed_and_step():
    def after(seed: int) -> torch.Tensor:
        vector, updater = stepper(torch.ones(512), seed)
        steps(vector, updater, 0, 3, torch.ones(512))
        return vector.detach()

    assert torch.equal(after(1), after(1))
    assert not torch.equal(after(1), after(2))


@pytest.mark.parametrize("name", STEPS_BY_SEGMENT)
def test_a_step_that_is_not_finite_changes_nothing(name):
    vector, updater = stepper(torch.randn(8192, generator=generator()), name=name)
    steps(vector, updater, 0, 2, torch.ones(8192))
    before = [vector.detach().clone(), *(tensor.clone() for tensor in pack_state(updater.optimizer)[0].values())]
    steps(vector, updater, 2, 3, torch.full((8192,), float("nan")))
    after = [vector, *pack_state(updater.optimizer)[0].values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True) if one.numel() > 1)


@pytest.mark.slow
def test_a_run_in_bf16_follows_one_in_fp32_and_resumes_bit_for_bit(tmp_path):
    changes = {"memory__precision": "bf16", "run__steps": 8}
    full = train_here(small_preset(tmp_path, **changes), tmp_path / "full")
    changes["memory__adapter_precision"] = "bf16"
    whole = train_here(small_preset(tmp_path, **changes), tmp_path / "whole")
    assert losses_of(whole) == pytest.approx(losses_of(full), rel=0.02)
    half = train_here(small_preset(tmp_path, run__save_every_steps=4, **changes), tmp_path / "half")
    state = load_file(half.state / "step-00000004.safetensors")
    kept = {tensor.dtype for name, tensor in state.items() if tensor.numel() > 1000}
    assert kept == {BF16}
    (half.state / "step-00000008.safetensors").unlink()
    (half.checkpoints / "tiny.safetensors").unlink()
    resume_here(half)
    assert events_of(half, events.Started)[-1].from_step == 4
    assert_same_outcome(half, whole)
