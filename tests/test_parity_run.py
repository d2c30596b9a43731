"""200 steps of Atelier against the same 200 steps of a plain loop of torch, diffusers and transformers.

The plain loop is given what a run draws (images in their order, latents, noise, timesteps) and the adapter's start
values; everything else it does by itself and as plainly as possible: text features, noising, LoRA layers, UNet, loss,
gradient clipping, AdamW, cosine schedule.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from engine.adapters.attach import Recipe, attach
from engine.batches import Batch, BatchMaker
from engine.data.cache import Store
from engine.data.digests import FileDigests
from engine.latent_source import LatentSource
from engine.plan import make_plan
from engine.preset import Preset, resolve
from engine.sdxl import checkpoint
from engine.sdxl.detect import identify
from engine.sdxl.tokenizer import Tokenizers
from engine.text_source import TextSource
from tests.training import losses_of, small_preset, train_here

STEPS = 200


class PlainLoRA(nn.Module):
    """A linear with a low-rank branch beside it, as the paper draws it."""

    def __init__(self, linear: nn.Linear, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.linear, self.scale = linear, scale
        self.down, self.up = nn.Parameter(down.clone()), nn.Parameter(up.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.scale * (x @ self.down.T @ self.up.T)


def put_plain_lora_on(unet: nn.Module, preset: Preset) -> dict[str, PlainLoRA]:
    """PlainLoRA on every linear of the UNet's transformers, by name in files, with the start values of such a run."""
    shape = preset.adapter
    started = attach({"unet": unet}, Recipe("lora", shape.rank, shape.alpha, seed=preset.run.seed))
    names = {site.target.path: site.target.name for site in started.sites}
    begun = {path: dict(started.parameters_of(name)) for path, name in names.items()}
    started.detach()
    linears = {
        name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Linear) and ".attentions." in name
    }
    assert linears.keys() == begun.keys()
    made: dict[str, PlainLoRA] = {}
    for path, linear in linears.items():
        parent, _, name = path.rpartition(".")
        values = begun[path]
        plain = PlainLoRA(linear, values["lora_down.weight"], values["lora_up.weight"], shape.alpha / shape.rank)
        setattr(unet.get_submodule(parent), name, plain)
        made[names[path]] = plain
    return made


class NoWords:
    """Captions as they are: the plain loop reads them itself."""

    def words(self, captions):
        return captions


def drawn_batches(preset: Preset) -> list[Batch]:
    plan = make_plan(preset)
    assert plan.model is not None
    cpu = torch.device("cpu")
    cache = resolve(preset.data.cache_folder)
    look = (preset.data.background, preset.data.resampling)
    vae = checkpoint.load_vae(plan.model, torch.float32, cpu, None)
    digest = checkpoint.part_digest(plan.model, "vae", None)
    latents = LatentSource(vae, digest, FileDigests(cache), Store.open(cache, "latents"), look, print)
    maker = BatchMaker(preset, plan, (latents, None, cast(TextSource, NoWords())), cpu)
    return [batch for step in range(STEPS) for batch in maker.batches(step)]


def plain_losses(preset: Preset, batches: list[Batch]) -> tuple[list[float], dict[str, PlainLoRA]]:
    facts = identify(resolve(preset.model.base))
    encoders = checkpoint.load_text_encoders(facts, torch.float32, torch.device("cpu"))
    unet = checkpoint.load_unet(facts, torch.float32, torch.device("cpu"))
    plain = put_plain_lora_on(unet, preset)
    weights = [weight for layer in plain.values() for weight in (layer.down, layer.up)]
    optimizer = torch.optim.AdamW(
        weights, lr=preset.optimizer.unet_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, preset.optimizer.warmup_steps, STEPS)
    noising = DDPMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    losses: list[float] = []

    @cache  # the encoders are not trained
    @torch.no_grad()
    def read(captions: tuple[str, ...]) -> tuple[Any, Any]:
        ids_1, ids_2 = Tokenizers.load().ids(captions, 75)
        one, two = encoders.one, encoders.two
        return one(ids_1[:, 0], output_hidden_states=True), two(ids_2[:, 0], output_hidden_states=True)

    for batch in batches:
        one, two = read(tuple(image.caption for image in batch.images))
        noisy = noising.add_noise(batch.latents, batch.noise, batch.timesteps)  # pyright: ignore[reportArgumentType]
        predicted = unet(
            noisy,
            batch.timesteps,
            torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1),
            added_cond_kwargs={"text_embeds": two.text_embeds, "time_ids": batch.size_ids},
        ).sample
        loss = functional.mse_loss(predicted, batch.noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, plain


@pytest.mark.slow
def test_losses_and_weights_are_those_of_a_plain_loop(tmp_path: Path):
    preset = small_preset(
        tmp_path,
        run__steps=STEPS,
        run__save_precision="fp32",
        adapter__rank=4,
        adapter__alpha=2.0,
        optimizer__unet_rate=1e-4,
        optimizer__warmup_steps=20,
    )
    run = train_here(preset)
    expected, plain = plain_losses(preset, drawn_batches(preset))
    assert losses_of(run) == pytest.approx(expected, rel=1e-5)

    saved = load_file(run.checkpoints / "tiny.safetensors")
    ours = torch.cat([saved[f"{name}.lora_up.weight"].flatten() for name in plain])
    theirs = torch.cat([layer.up.detach().flatten() for layer in plain.values()])
    assert (ours - theirs).norm() < 1e-3 * theirs.norm()  # Adam magnifies rounding where gradients are nearly 0
