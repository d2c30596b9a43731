"""A whole step as the spine makes it, everything switched on: the host never has to know a tensor's numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from optimizer_runs import NothingIsRead
from tiny_unet import CONTEXT_WIDTH, POOLED_WIDTH, tiny_unet

from benchmarks.step import KnownText
from engine.adapters.attach import Recipe, attach
from engine.adapters.dropout import Dropout
from engine.adapters.limits import NormLimit
from engine.average import Average, AverageSettings
from engine.objective import Objective
from engine.preset import Preset
from engine.sdxl.text import TextFeatures
from engine.sections.loss import Loss
from engine.updater import make_updater

CPU = torch.device("cpu")
LOSSES = {
    "epsilon": Loss(kind="huber", min_snr_gamma=5, debiased=True, v_like=0.5),
    "v_prediction": Loss(kind="smooth_l1", huber_schedule="exponential", p2_gamma=1, scale_v_like_noise=True),
}


@pytest.mark.parametrize("prediction", LOSSES)
@pytest.mark.parametrize("adapter_precision", ["fp32", "bf16"])
def test_a_whole_step_never_waits_for_the_device(prediction: Any, adapter_precision: str):
    unet = tiny_unet().to(torch.bfloat16).requires_grad_(False)  # pyright: ignore[reportArgumentType]
    adapter = attach({"unet": unet}, Recipe(rank=4, conv_rank=2, dropout=Dropout(0.1, 0.1, 0.1)), CPU)
    preset = Preset().changed({"memory.adapter_precision": adapter_precision, "run.accumulation": 2})
    updater = make_updater(preset, adapter, torch.bfloat16, CPU)
    objective = Objective.of(LOSSES[prediction], prediction, prediction == "v_prediction", CPU)
    limit, average = NormLimit(adapter, 0.5), Average(adapter, AverageSettings(0.9))
    latents, noise = torch.randn(2, 2, 4, 8, 8)
    batch: Any = SimpleNamespace(
        words=None, latents=latents, noise=noise, input_noise=noise + 0.1, timesteps=torch.tensor([10, 900]),
        size_ids=torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2), weights=torch.tensor([0.25, 0.25]),
        mask=torch.rand(2, 1, 8, 8), place=0, first=0, whole=2,
    )  # fmt: skip
    text: Any = KnownText(TextFeatures(torch.randn(2, 7, CONTEXT_WIDTH), torch.randn(2, POOLED_WIDTH)))

    def step(number: int) -> torch.Tensor:
        updater.begin_step(0.5)
        loss = torch.zeros(())
        for _ in range(2):
            adapter.begin_batch(0.4, batch.timesteps)
            adapter.dropout.draw(number, batch)
            share = objective.loss(unet, batch, text)
            (share * updater.scale).backward()
            adapter.end_batch()
            loss += share.detach()
        updater.update(number)
        limit.apply()
        average.update(number + 1)
        return loss

    step(0)  # the first one makes the optimizer's memory
    before = {name: vector.detach().clone() for name, vector in adapter.vectors.items()}
    with NothingIsRead():
        loss = step(1)
    assert torch.isfinite(loss)
    assert all(not torch.equal(vector, before[name]) for name, vector in adapter.vectors.items())
