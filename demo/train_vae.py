"""Stage 1 of the demo's build: train the VAE, then set its latents to SDXL's scale."""

from __future__ import annotations

import math
import random
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from torch import Tensor

from demo.captions import random_scene
from demo.lean import make_lean
from demo.pair import Training, train
from demo.pictures import draw_anything, draw_scene
from demo.shared import Group, Progress, load_state, save_state
from demo.tiny_sdxl import new_vae
from engine.sdxl.latents import SCALE, decode, encode_moments

STEPS = 2300
CROPPED_STEPS = 2130  # on 64 px cuts; then whole pictures
BATCH = 8
RATE = 2e-3
KL_WEIGHT = 8e-4
SAVE_EVERY_STEPS = 500


def to_pixels(pictures: list[Image.Image]) -> Tensor:
    """Pictures of one size → [B, 3, H, W] in −1 … 1."""
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1


def training_pixels(step: int, half: int) -> Tensor:
    """The pictures of one half (0 or 1) of a step's batch."""
    rng = random.Random(1_000_000 + 2 * step + half)
    pictures = []
    for _ in range((BATCH if step < CROPPED_STEPS else BATCH // 2) // 2):
        free = rng.random() < 0.25
        picture = draw_anything((128, 128), rng) if free else draw_scene(random_scene(rng, (128, 128)), rng)
        if step < CROPPED_STEPS:
            left, top = rng.randrange(0, 65, 8), rng.randrange(0, 65, 8)
            picture = picture.crop((left, top, left + 64, top + 64))
        pictures.append(picture)
    return to_pixels(pictures).contiguous(memory_format=torch.channels_last)


def edges_loss(shown: Tensor, true: Tensor) -> Tensor:
    return F.l1_loss(shown.diff(dim=-1), true.diff(dim=-1)) + F.l1_loss(shown.diff(dim=-2), true.diff(dim=-2))


def learning_rate(step: int) -> float:
    return RATE * min(1, (step + 1) / 30) * max(0.02, 0.5 + 0.5 * math.cos(math.pi * step / STEPS))


def train_vae(state_path: Path) -> tuple[AutoencoderKL, tuple[float, float]]:
    """Train from seed 0, or go on from the state file.

    Returns the VAE, with unit-variance latents after scaling, and the processor seconds of the two processes.
    """
    torch.manual_seed(0)
    vae = new_vae().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    make_lean(vae)
    groups = [Group.of(list(vae.parameters()), decay=1e-4)]
    first = load_state(state_path, groups)
    progress = Progress("vae", first, STEPS)

    def after_step(step: int, loss: float) -> None:
        progress.report(step, loss)
        if (step + 1) % SAVE_EVERY_STEPS == 0:
            save_state(state_path, groups, step + 1)

    seconds = train(
        Training(groups, partial(step_loss, vae), learning_rate, lambda step: 0.0, first, STEPS),
        after_step,
    )
    trained = new_vae().eval()
    trained.load_state_dict(vae.state_dict())
    rescale(trained)
    return trained, seconds


def step_loss(vae: AutoencoderKL, step: int, half: int) -> Tensor:
    """The part of a step's loss that one half (0 or 1) of its pictures gives."""
    pixels = training_pixels(step, half)
    posterior = vae.encode(pixels, return_dict=False)[0]
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(2 * step + half))
    shown = vae.decode(posterior.mean + posterior.std * noise, return_dict=False)[0]  # pyright: ignore[reportArgumentType]
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    reconstruction = F.l1_loss(shown, pixels) + F.mse_loss(shown, pixels)
    return 0.5 * (reconstruction + 0.5 * edges_loss(shown, pixels) + KL_WEIGHT * kl)


@torch.no_grad()
def rescale(vae: AutoencoderKL) -> None:
    """Move each latent channel to mean 0 and deviation 1/0.13025, so that SDXL's scaling factor holds exactly.

    Only the two quant convolutions change; what is decoded stays the same.
    """
    rng = random.Random(77)
    pixels = to_pixels([draw_scene(random_scene(rng, (128, 128)), rng) for _ in range(96)])
    means = torch.cat([encode_moments(vae, part)[:, :4] for part in pixels.split(16)])
    middle, gain = means.mean((0, 2, 3)), 1 / (SCALE * means.std((0, 2, 3)))
    after, before = vae.post_quant_conv, vae.quant_conv
    assert after is not None and after.bias is not None and before is not None and before.bias is not None
    after.bias += after.weight[:, :, 0, 0] @ middle
    after.weight /= gain.view(1, 4, 1, 1)
    before.bias[:4] = (before.bias[:4] - middle) * gain
    before.weight[:4] *= gain.view(4, 1, 1, 1)
    before.bias[4:] += 2 * gain.log()  # the log-variances move with the scale


@torch.no_grad()
def fidelity_db(vae: AutoencoderKL) -> float:
    """Peak signal-to-noise ratio of reconstructed pictures that were not trained on."""
    rng = random.Random(78)
    pixels = to_pixels([draw_scene(random_scene(rng, (128, 128)), rng) for _ in range(32)])
    shown = decode(vae, encode_moments(vae, pixels)[:, :4] * SCALE).clamp(-1, 1)
    return 10 * math.log10(4 / F.mse_loss(shown, pixels).item())
