"""Stage 3 of the demo's build: train the UNet and both text encoders together, from nothing, on cached latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from demo.latents import Bucket
from demo.lean import make_lean
from demo.pair import Training, train
from demo.shared import Group, Progress, load_state, save_state
from demo.tiny_sdxl import SeenWords, new_text_encoders, new_unet, token_embedding
from engine.sdxl.checkpoint import TextEncoders
from engine.sdxl.noise import add_noise, sdxl_schedule
from engine.sdxl.text import encode_text
from engine.sdxl.tokenizer import EOS, PAD_TWO
from engine.sdxl.unet import predict

STEPS = 9500
BATCH = 16
# Learning rate by step, linear in between: everything is learned by step 8500; then once more, for clean edges
RATES = ((0, 1.2e-5), (100, 1.2e-3), (3500, 1.2e-3), (8500, 0.0), (8501, 7e-4), (STEPS, 0.0))
EMA = 0.998
SAVE_EVERY_STEPS = 250


@dataclass
class Parts:
    """What is trained. A state dict of all three is {"unet": …, "text_1": …, "text_2": …}."""

    unet: UNet2DConditionModel
    text_1: CLIPTextModel
    text_2: CLIPTextModelWithProjection

    def modules(self) -> dict[str, torch.nn.Module]:
        return {"unet": self.unet, "text_1": self.text_1, "text_2": self.text_2}

    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for module in self.modules().values() for parameter in module.parameters()]

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        return {name: module.state_dict() for name, module in self.modules().items()}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        for name, module in self.modules().items():
            module.load_state_dict(state[name])


def new_parts() -> Parts:
    """Untrained, from seed 1; the UNet in the memory layout that is fastest on CPUs."""
    torch.manual_seed(1)
    parts = Parts(new_unet(), *new_text_encoders())
    parts.unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return parts


def loss_weights(snr: Tensor) -> Tensor:
    """min-SNR (γ = 5; Hang et al. 2023, arXiv 2303.09556) times 1 + 1/snr, at most 12: more weight where there is most
    noise and colours are decided. Without it a model of this size draws forms but hardly ever learns colours."""
    return (snr.clamp(max=5) / snr * (1 + 1 / snr)).clamp(max=60) / 5


def learning_rate(step: int) -> float:
    for (start, before), (end, after) in pairwise(RATES):
        if step <= end:
            return before + (after - before) * (step - start) / (end - start)
    return RATES[-1][1]


def draw_timesteps(snr: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Timesteps int64 [B] and the weights of their losses [B].

    Half of them are drawn as often as their weight says, and the weights divided by that: the same loss on average,
    with less chance in it where weights are large.
    """
    weights = loss_weights(snr)
    frequency = 0.5 + 0.5 * weights / weights.mean()
    timesteps = torch.multinomial(frequency, BATCH, replacement=True, generator=generator)
    return timesteps, (weights / frequency)[timesteps]


def draw_batch(buckets: list[Bucket], step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, ids for encoder one, for encoder two, size conditions: a function of the step."""
    generator = torch.Generator().manual_seed(10_000_000 + step)
    shares = torch.tensor([float(len(bucket.latents)) for bucket in buckets])
    bucket = buckets[int(torch.multinomial(shares, 1, generator=generator))]
    index = torch.randint(len(bucket.latents), (BATCH,), generator=generator)
    variant = torch.randint(bucket.ids.shape[1], (BATCH,), generator=generator)
    ids_one = bucket.ids[index, variant].long()
    return bucket.latents[index].float(), ids_one, padded_with_zero(ids_one), bucket.size_ids[index]


def padded_with_zero(ids: Tensor) -> Tensor:
    """[B, 77] padded with EOS → padded with 0, as SDXL's second encoder gets them."""
    past_end = (ids == EOS).int().cumsum(1) > 1
    return ids.masked_fill(past_end, 0)


def train_parts(buckets: list[Bucket], state_path: Path, export: Callable[[Parts], None]) -> tuple[float, float]:
    """Train, or go on from the state file. `export` gets the averaged weights now and then, and at the end.

    Returns the processor seconds of the two processes.
    """
    parts, averaged = new_parts(), new_parts()
    make_lean(parts.unet)
    words = torch.cat([bucket.ids.flatten() for bucket in buckets] + [torch.tensor([PAD_TWO])]).unique().long()
    tables = [keep_seen(encoder, words) for encoder in (parts.text_1, parts.text_2)]
    others = [w for w in parts.parameters() if all(w is not table for table in tables)]
    groups = [Group.of(others, decay=1e-3), Group.of(tables, decay=0.0)]  # no word fades
    first = load_state(state_path, groups)
    training = Training(
        groups,
        lambda step, half: step_loss(parts, buckets, step, half),
        learning_rate,
        lambda step: min(EMA, (1 + step) / (10 + step)),
        first,
        STEPS,
    )
    progress = Progress("unet", first, STEPS)

    def export_averages() -> None:
        fill(averaged, parts, groups, words)
        export(averaged)

    def after_step(step: int, loss: float) -> None:
        progress.report(step, loss)
        if (step + 1) % SAVE_EVERY_STEPS == 0:
            save_state(state_path, groups, step + 1)
            export_averages()

    seconds = train(training, after_step)
    export_averages()
    return seconds


def keep_seen(encoder: CLIPTextModel | CLIPTextModelWithProjection, words: Tensor) -> torch.nn.Parameter:
    """Cut an encoder's token table down to these words; returns what is left."""
    seen = SeenWords(token_embedding(encoder).weight.data, words)
    embeddings = next(module for module in encoder.modules() if hasattr(module, "token_embedding"))
    embeddings.token_embedding = seen
    return seen.weight


@torch.no_grad()
def fill(averaged: Parts, parts: Parts, groups: list[Group], words: Tensor) -> None:
    """Put the averages of the trained weights into whole parts: of the token tables, the rows of the seen words."""
    averages = {id(p): a for group in groups for p, a in zip(group.parameters, group.averaged(), strict=True)}
    for target, trained in zip(averaged.parameters(), parts.parameters(), strict=True):
        rows = slice(None) if target.shape == trained.shape else words
        target.data[rows] = averages[id(trained)]


def step_loss(parts: Parts, buckets: list[Bucket], step: int, half: int) -> Tensor:
    """The part of a step's loss that one half (0 or 1) of its batch gives."""
    schedule = sdxl_schedule()
    generator = torch.Generator().manual_seed(20_000_000 + step)
    batch = draw_batch(buckets, step)
    noise = torch.randn(batch[0].shape, generator=generator)
    drawn = (*batch, noise, *draw_timesteps(schedule.snr, generator))
    latents, ids_one, ids_two, size_ids, noise, timesteps, weights = (values.chunk(2)[half] for values in drawn)
    text = encode_text(TextEncoders(parts.text_1, parts.text_2), ids_one[:, None], ids_two[:, None])
    noisy = add_noise(schedule, latents, noise, timesteps)
    predicted = predict(parts.unet, noisy, timesteps, text.rows, text.pooled, size_ids)
    errors = (predicted - noise).square().mean((1, 2, 3))
    return 0.5 * (errors * weights).mean()
