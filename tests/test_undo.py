"""Steps that are left out: nothing they would have changed is changed, and the host does not wait to know of them."""

from __future__ import annotations

import math

import bitsandbytes.optim.optimizer
import pytest
import torch
from optimizer_runs import NAMES, NothingIsRead, make, settings, train, vectors

import engine.undo
from engine.optimizer_arguments import arguments_of
from engine.optimizers import OPTIMIZERS, pack_state
from engine.updater import Updater

WAITING = [name for name in NAMES if OPTIMIZERS[name].waits]
BITSANDBYTES = {
    "adamw_8bit": bitsandbytes.optim.AdamW8bit,
    "lion_8bit": bitsandbytes.optim.Lion8bit,
    "sgd_nesterov_8bit": bitsandbytes.optim.SGD8bit,
    "ademamix_8bit": bitsandbytes.optim.AdEMAMix8bit,
}


def spoiled_update(parts, updater: Updater) -> torch.Tensor:
    for flat in parts.values():
        flat.vector.grad = torch.full_like(flat.vector, 0.1)
    parts["unet"].vector.grad[3] = math.nan  # pyright: ignore[reportOptionalSubscript]
    updater.begin_step(1.0)
    return updater.update(0)


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_that_are_not_finite_leave_weights_and_memory_as_they_were(name: str, steps_before: int, monkeypatch):
    monkeypatch.setattr(engine.undo, "LARGE", 4000)  # of these vectors one is larger, and one is not
    parts, updater = make(name)
    train(parts, updater, range(steps_before))
    before = vectors(parts)
    memory = {key: tensor.clone() for key, tensor in pack_state(updater.optimizer)[0].items()}
    assert not math.isfinite(spoiled_update(parts, updater))
    # a schedule-free optimizer goes to its training weights and back, which rounds
    exact = not OPTIMIZERS[name].schedule_free
    for one, other in zip(before, vectors(parts), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0 if exact else 1e-6)
    after = pack_state(updater.optimizer)[0]
    counters = {key for key in memory if memory[key].numel() == 1}
    assert all(torch.equal(after[key], memory[key]) for key in memory if key not in counters)
    assert {*after} == {*memory}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WAITING])
def test_after_the_first_step_an_update_never_waits_for_the_device(name: str, monkeypatch):
    parts, updater = make(name)
    train(parts, updater, range(7))  # RAdam gathers before it moves
    before = vectors(parts)

    def waits(_: object) -> None:
        raise AssertionError("the GPU is waited for")

    monkeypatch.setattr(bitsandbytes.optim.optimizer, "sync_gpu", waits)
    for flat in parts.values():
        flat.vector.grad = torch.full_like(flat.vector, 0.1)
    with NothingIsRead():
        updater.begin_step(1.0)
        updater.update(7)
    assert not torch.equal(before[0], vectors(parts)[0])


@pytest.mark.parametrize("name", WAITING)
def test_optimizers_that_wait_are_those_that_are_said_to(name: str):
    parts, updater = make(name)
    train(parts, updater, range(1))
    if not OPTIMIZERS[name].gpu_only:  # by its own step, whatever is around it
        for group in updater.groups:
            for view in group.views:
                view.parameter.grad = torch.full_like(view.parameter, 0.1)
        updater.begin_step(1.0)
        with NothingIsRead(), pytest.raises(AssertionError, match="reads a tensor"):
            updater.optimizer.step()
    assert updater.waits


@pytest.mark.parametrize("name", BITSANDBYTES)
def test_bitsandbytes_without_its_waiting_computes_the_same(name: str):
    parts, updater = make(name)
    plain, other = make(name)
    other.optimizer = BITSANDBYTES[name](
        [{"params": [view.parameter for view in group.views], "lr": group.rate, "name": group.name}
         for group in other.groups], lr=1.0, **arguments_of(settings(name)),
    )  # fmt: skip
    train(parts, updater, range(4))
    train(plain, other, range(4))
    assert all(torch.equal(one, two) for one, two in zip(vectors(parts), vectors(plain), strict=True))
    assert type(updater.optimizer) is not type(other.optimizer)
