"""Every kind of adapter goes on bit for bit from a state that went through a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_models import run_unet
from tiny_unet import CONTEXT_WIDTH, POOLED_WIDTH, tiny_unet
from torch import nn

from engine.adapters import ADAPTERS
from engine.adapters.attach import Adapter, Recipe, attach
from engine.draws import draw_fraction
from engine.optimizer_arguments import arguments_of
from engine.optimizers import make_optimizer, pack_state, unpack_state
from engine.rate_groups import rate_groups
from engine.sections.optimizer import Optimizer
from engine.state import State, load_state, save_state
from engine.updater import Updater

SHAPES = ((7, CONTEXT_WIDTH), (POOLED_WIDTH,))


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return tiny_unet().requires_grad_(False)


def begin(name: str, unet: nn.Module) -> tuple[Adapter, Updater]:
    rank = 4 if name == "oft" else 8  # as the widths of so small a model can be split
    recipe = Recipe(name, rank=rank, alpha=2.0, conv_rank=rank, conv_alpha=1.0)
    adapter = attach({"unet": unet}, recipe, "cpu")
    groups = rate_groups(adapter.groups, {"unet": 1e-2}, shaped=False)
    optimizer = make_optimizer("adamw", groups, arguments_of(Optimizer()))
    return adapter, Updater(optimizer, groups, 1.0, False, torch.device("cpu"))


def train(unet: nn.Module, adapter: Adapter, updater: Updater, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        rows, pooled = (torch.randn(2, *shape, generator=generator) for shape in SHAPES)
        updater.begin_step(1.0)
        adapter.begin_batch(draw_fraction("ranks", 0, step), torch.tensor([10, 700]))
        run_unet(unet, rows, pooled, seed=step).square().mean().backward()
        adapter.end_batch()
        updater.update(step)


@pytest.mark.slow
@pytest.mark.parametrize("name", ADAPTERS)
def test_a_resumed_adapter_equals_an_uninterrupted_one(name: str, unet: nn.Module, tmp_path: Path):
    adapter, updater = begin(name, unet)
    start = {key: tensor.clone() for key, tensor in adapter.tensors().items()}
    train(unet, adapter, updater, range(2))
    moments, about = pack_state(updater.optimizer)
    path = save_state(tmp_path, State(2, adapter.tensors(), moments, {"optimizer": about}))
    train(unet, adapter, updater, range(2, 4))
    whole = {key: tensor.clone() for key, tensor in adapter.tensors().items()}
    adapter.detach()

    state = load_state(path)
    adapter, updater = begin(name, unet)
    adapter.load_tensors(state.adapter)
    unpack_state(updater.optimizer, state.optimizer, state.about["optimizer"])
    train(unet, adapter, updater, range(2, 4))
    resumed = adapter.tensors()
    adapter.detach()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert any(not torch.equal(whole[key], start[key]) for key in whole)
    assert any(not torch.equal(state.adapter[key], whole[key]) for key in whole)
