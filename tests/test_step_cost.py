"""A training step dispatches fewer operations than the same work by diffusers and peft, and keeps less memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from optimizer_runs import NothingIsRead
from test_rounding import stepper, steps
from test_sdxl_storage import stored_layer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.allocations import Allocations
from benchmarks.lora_linear import operations_of
from benchmarks.step import CONTENDERS, Task, atelier, diffusers_and_peft, peak_bytes
from engine.adapters.attach import Recipe, attach
from engine.sdxl.storage import STORAGES

SMALL = Task(width=32, depths=(1, 2), size_px=64, rank=4)


@pytest.fixture(scope="module")
def made():
    return {name: make(SMALL) for name, make in CONTENDERS.items()}


@pytest.mark.slow
def test_both_do_the_same_work(made):
    losses = {name: contender.step().item() for name, contender in made.items()}
    assert losses["atelier"] == pytest.approx(losses["diffusers + peft"], rel=1e-5)
    adapter = sum(parameter.numel() for parameter in made["atelier"].trained)
    peft = sum(parameter.numel() for parameter in made["diffusers + peft"].trained)
    assert peft <= adapter < 1.2 * peft  # ours are padded to blocks of 256


@pytest.mark.slow
def test_a_step_dispatches_fewer_operations_than_diffusers_and_peft(made):
    for contender in made.values():
        contender.step()
    counts = {name: operations_of(contender.step) for name, contender in made.items()}
    assert counts["atelier"] < 0.85 * counts["diffusers + peft"]


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_a_packed_base_costs_few_operations_more_than_that(made, storage):
    packed = atelier(dataclasses.replace(SMALL, storage=storage))
    packed.step()
    assert operations_of(packed.step) < 1.1 * operations_of(made["diffusers + peft"].step)


@pytest.mark.slow
def test_a_step_takes_no_more_memory_than_by_diffusers_and_peft():
    """But for the padding of the flat vectors, which is large on matrices as small as these."""
    assert peak_bytes(atelier, SMALL) < 1.01 * peak_bytes(diffusers_and_peft, SMALL)


@pytest.mark.parametrize("storage", STORAGES)
def test_packed_layers_never_wait_for_the_device(storage):
    """Forward and backward with tensors that have no values: reading one on the host raises."""
    linear, conv = stored_layer(nn.Linear(64, 64), storage), stored_layer(nn.Conv2d(16, 64, 3), storage)
    stack: Any = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": nn.Sequential(linear)})})
    adapter = attach({"text_encoder_1": stack}, Recipe(rank=4))
    with FakeTensorMode(allow_non_fake_inputs=True):
        pixels = torch.randn(2, 16, 8, 8, requires_grad=True)
        stack["encoder"]["layers"](conv(pixels).flatten(2).mT).pow(2).mean().backward()
    (vector,) = adapter.vectors.values()
    assert vector.grad is not None and vector.grad.shape == vector.shape
    assert pixels.grad is not None and pixels.grad.shape == pixels.shape


def test_updates_rounded_by_chance_never_wait_for_the_device():
    vector, updater = stepper(torch.zeros(1024))
    steps(vector, updater, 0, 1, torch.ones(1024))  # the first one makes the optimizer's memory
    with NothingIsRead():
        steps(vector, updater, 1, 2, torch.ones(1024))


def test_allocations_are_counted_as_long_as_they_live():
    with Allocations() as taken:
        first = torch.zeros(1000)
        view = first.view(10, 100)
        second = first + 1
        del first, view
        assert taken.now_bytes == 4000
        torch.zeros(500)
    assert (taken.now_bytes, taken.peak_bytes) == (4000, 8000)
    del second
    assert taken.now_bytes == 0
