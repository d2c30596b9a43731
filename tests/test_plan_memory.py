"""The forecast of memory follows what the graph really keeps, and every setting that spares memory shows in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.step import KnownText, Task, make_batch, make_unet
from engine.adapters.attach import Recipe, attach
from engine.losses import LossTerms
from engine.memory import advice
from engine.objective import Objective
from engine.plan import make_plan
from engine.plan_memory import activation_numbers, forecast_memory
from engine.preset import Preset
from engine.sdxl.configs import Config
from engine.sdxl.noise import sdxl_schedule
from tests.training import small_preset

FULL: Config = {
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
SMALL: Config = {**FULL, "block_out_channels": (32, 64, 128), "transformer_layers_per_block": (1, 1, 1)}
# Numbers a latent cell that the graph of full-size SDXL keeps at 1024 × 1024, rank 16, counted as below (6.28 GiB in
# bf16, and 0.53 GiB with checkpointing, where one block more is made again and kept for the moment)
COUNTED_FULL = {False: 205_816, True: 17_506}


def kept_numbers(task: Task, conv_rank: int) -> int:
    """Numbers that autograd keeps after the forward pass of a UNet without content, weights left out."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        unet = make_unet(task)
        adapter = attach({"unet": unet}, Recipe(rank=task.rank, conv_rank=conv_rank))
        batch, text = make_batch(task)
        weights = [*unet.parameters(), *(matrix for group in adapter.groups for matrix in group.flat.matrices())]
        known = {tensor.untyped_storage()._cdata for tensor in weights}
        kept: dict[int, Any] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                kept[storage._cdata] = storage
            return tensor

        objective, words = Objective(sdxl_schedule(False), "epsilon", LossTerms()), KnownText(text)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            objective.loss(unet, batch, words)  # pyright: ignore[reportArgumentType]
        return sum(storage.nbytes() for storage in kept.values()) // task.dtype.itemsize


def preset(**changes: Any) -> Preset:
    return Preset().changed({key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.slow
@pytest.mark.parametrize("conv_rank", [4])
def test_activations_are_counted_as_the_graph_keeps_them(conv_rank):
    """What grows with the picture; the text's share stays the same and is small in full size."""
    sizes = (64, 128)
    small, large = (kept_numbers(Task(width=32, depths=(1, 1), size_px=size, rank=16), conv_rank) for size in sizes)
    cells = (sizes[1] ** 2 - sizes[0] ** 2) // 64
    assert activation_numbers(SMALL, preset(adapter__conv_rank=conv_rank), cells) == pytest.approx(
        large - small, rel=0.1
    )


def test_full_size_is_forecast_as_it_was_counted():
    assert activation_numbers(FULL, preset(), 1) == pytest.approx(COUNTED_FULL[False], rel=0.05)
    checkpointed = activation_numbers(FULL, preset(memory__gradient_checkpointing=True), 1)
    assert COUNTED_FULL[True] < checkpointed < 1.3 * COUNTED_FULL[True]


def total(**changes: Any) -> int:
    return activation_numbers(FULL, preset(**changes), 4096)


def test_activations_grow_with_the_area_and_shrink_with_checkpointing():
    assert activation_numbers(FULL, preset(), 8192) == pytest.approx(2 * activation_numbers(FULL, preset(), 4096))
    assert total(memory__gradient_checkpointing=True) < 0.15 * total()
    assert total(adapter__conv_rank=4) > total()


SAVINGS = {
    "memory.unet_storage": "int8",
    "memory.gradient_checkpointing": True,
    "memory.adapter_precision": "bf16",
    "optimizer.name": "adamw_8bit",
    "adapter.rank": 1,
    "memory.precision": "fp32",
    "captions.cache_text": False,
    "data.cache_latents": False,
    "run.ema_decay": 0.9,
    "run.batch_size": 2,
}
MORE = ("memory.precision", "captions.cache_text", "data.cache_latents", "run.ema_decay", "run.batch_size")


@pytest.mark.parametrize("path", SAVINGS)
def test_each_setting_that_spares_or_takes_memory_shows_in_the_plan(tmp_path, path):
    plain = small_preset(tmp_path, memory__precision="bf16")
    plan = make_plan(plain)
    changed = forecast_memory(
        plain.changed({path: SAVINGS[path]}),
        plan.model,
        plan.adapter_parameters // (2 if "rank" in path else 1),
        plan.images,
    )
    assert (changed.total_bytes > plan.memory.total_bytes) == (path in MORE)
    assert changed.total_bytes != plan.memory.total_bytes


def test_the_total_is_in_the_plan_s_json(tmp_path):
    plan = make_plan(small_preset(tmp_path, memory__device="auto"))
    assert f'"total_bytes": {plan.memory.total_bytes}' in plan.to_json()


def test_a_plan_without_a_model_forecasts_nothing():
    assert forecast_memory(preset(), None, 1000, ()).total_bytes == 0


def test_advice_names_storages_that_take_less():
    settled = {"memory__gradient_checkpointing": True, "memory__device": "cpu", "memory__precision": "bf16"}
    assert "memory.unet_storage to int8" in advice(preset(**settled), "Training")
    assert "memory.unet_storage to nf4" in advice(preset(**settled, memory__unet_storage="int8"), "Training")


def test_an_average_that_would_begin_after_the_last_epoch_is_told(tmp_path):
    late = small_preset(tmp_path, run__length="epochs", run__epochs=1, run__ema_decay=0.9, run__ema_start_step=8)
    (problem,) = make_plan(late).problems
    assert problem.where == "run.ema_start_step" and "8 of 8" in problem.message
    assert make_plan(late.changed({"run.ema_start_step": 7})).problems == ()
