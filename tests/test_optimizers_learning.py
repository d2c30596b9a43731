"""Every optimizer learns: the demo's UNet, pictures and captions, one batch at fixed timesteps, a few steps.

Paged ones compute what their fellows do, in memory that only a GPU has.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from diffusers import UNet2DConditionModel
from optimizer_runs import NAMES, settings

from benchmarks.step import KnownText
from engine.adapters.attach import Recipe, attach
from engine.batches import Batch, BatchMaker
from engine.data.digests import FileDigests
from engine.latent_source import LatentSource
from engine.losses import LossTerms
from engine.objective import Objective
from engine.optimizer_arguments import arguments_of
from engine.optimizers import OPTIMIZERS, make_optimizer
from engine.plan import make_plan
from engine.preset import ROOT
from engine.rate_groups import rate_groups
from engine.sdxl import checkpoint
from engine.sdxl.noise import sdxl_schedule
from engine.text_source import TextSource, text_reading
from engine.updater import Updater
from tests.training import DEMO, small_preset

CPU = torch.device("cpu")
STEPS = 10
# Rates for so few steps, where 20 times the usual one is not enough; and those that others are taken to have found
RATES = {
    **dict.fromkeys(("sgd_nesterov", "sgd_nesterov_8bit"), 1.0),
    **dict.fromkeys(("lion", "lion_8bit", "paged_lion_8bit"), 1e-3),
    "sgd_schedule_free": 5.0,
    "radam": 0.04,
    "radam_schedule_free": 0.04,
}
FOUND = {
    "dadapt_adam": "d0=1e-3, growth_rate=1.02",
    "dadapt_adagrad": "d0=1e-2",
    "dadapt_lion": "d0=3e-4",
    "dadapt_sgd": "d0=3e-2",
    "prodigy": "d0=3e-4, growth_rate=1.02",
    "prodigy_plus_schedule_free": "d0=3e-4",
}


class Task(NamedTuple):
    unet: UNet2DConditionModel
    batch: Batch
    text: Any
    objective: Objective
    before: float  # the loss, which no adapter changes at its start


@pytest.fixture(scope="module")
def task(facts, tmp_path_factory) -> Task:
    """Two of the demo's pictures, encoded by its VAE and text encoders, at timesteps from early to late."""
    preset = small_preset(
        tmp_path_factory.mktemp("demo"),
        model__base=DEMO,
        data__folder=str(ROOT / "demo" / "images"),
        run__batch_size=2,
    )
    plan = make_plan(preset)
    look = (preset.data.background, preset.data.resampling)
    cache = Path(preset.data.cache_folder)
    latents = LatentSource(
        checkpoint.load_vae(facts, torch.float32, CPU, None), "demo", FileDigests(cache), None, look, print
    )
    encoders = checkpoint.load_text_encoders(facts, torch.float32, CPU)
    text = TextSource(encoders, "demo", None, text_reading(preset))
    (batch,) = BatchMaker(preset, plan, (latents, None, text), CPU).batches(0)
    batch = dataclasses.replace(batch, timesteps=torch.tensor([300, 700]))
    known: Any = KnownText(text.encode(batch.words))
    objective = Objective(sdxl_schedule(False), "epsilon", LossTerms())
    unet = checkpoint.load_unet(facts, torch.float32, CPU)
    with torch.no_grad():
        before = float(objective.loss(unet, batch, known))
    return Task(unet, batch, known, objective, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not OPTIMIZERS[name].gpu_only])
def test_every_optimizer_learns_on_the_demo(name: str, task: Task):
    adapter = attach({"unet": task.unet}, Recipe(rank=2, alpha=2.0))
    rate = 1.0 if OPTIMIZERS[name].rate_free else RATES.get(name, 20 * OPTIMIZERS[name].rate)
    groups = rate_groups(adapter.groups, {"unet": rate}, OPTIMIZERS[name].shaped)
    optimizer = make_optimizer(name, groups, arguments_of(settings(name, weight_decay=0.0, extra=FOUND.get(name, ""))))
    updater = Updater(optimizer, groups, 1.0, False, CPU)
    for step in range(STEPS):
        updater.begin_step(1.0)
        adapter.begin_batch(0.5, task.batch.timesteps)
        task.objective.loss(task.unet, task.batch, task.text).backward()
        adapter.end_batch()
        updater.update(step)
    with torch.no_grad():  # on the weights that would be saved
        after = float(task.objective.loss(task.unet, task.batch, task.text))
    adapter.detach()
    assert after < 0.98 * task.before
