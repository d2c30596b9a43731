"""Pictures from the demo model, by diffusers' Euler sampler: enough to judge the model without the training engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from engine.sdxl.checkpoint import TextEncoders, load_text_encoders, load_unet, load_vae
from engine.sdxl.detect import identify
from engine.sdxl.latents import decode, to_pictures
from engine.sdxl.text import encode_text
from engine.sdxl.tokenizer import Tokenizers
from engine.sdxl.unet import predict, size_ids


@dataclass(frozen=True)
class Model:
    unet: UNet2DConditionModel
    text_1: CLIPTextModel
    text_2: CLIPTextModelWithProjection
    vae: AutoencoderKL


def load_model(path: Path) -> Model:
    """The four parts of a single file, in fp32 on the CPU, by the engine's own loader."""
    facts, device = identify(path), torch.device("cpu")
    texts = load_text_encoders(facts, torch.float32, device)
    return Model(
        load_unet(facts, torch.float32, device), texts.one, texts.two, load_vae(facts, torch.float32, device, None)
    )


@torch.no_grad()
def draw(
    model: Model,
    prompts: list[str],
    seeds: list[int],
    size_px: tuple[int, int] = (128, 128),
    steps: int = 20,
    cfg_scale: float = 4.0,
) -> list[Image.Image]:
    """One picture a prompt; picture i depends on seed i, not on its neighbours. The negative prompt is empty."""
    width, height = size_px
    count = len(prompts)
    text = encode_text(TextEncoders(model.text_1, model.text_2), *Tokenizers.load().ids([*prompts, ""], 75))
    rows, pooled = with_empty(text.rows), with_empty(text.pooled)
    conditions = size_ids(size_px, (0, 0), size_px).expand(2 * count, 6)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    scheduler.set_timesteps(steps)
    noises = [torch.randn(4, height // 8, width // 8, generator=torch.Generator().manual_seed(s)) for s in seeds]
    latents = torch.stack(noises) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        noisy = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
        asked, empty = predict(model.unet, noisy, timestep, rows, pooled, conditions).chunk(2)
        latents = scheduler.step(empty + cfg_scale * (asked - empty), timestep, latents, return_dict=False)[0]
    return [picture for part in latents.split(8) for picture in to_pictures(decode(model.vae, part))]


def with_empty(rows: Tensor) -> Tensor:
    """Features of N prompts and, last, of the empty one → [2 N, …]: the prompts, then N times the empty one."""
    return torch.cat([rows[:-1], rows[-1:].expand(rows[:-1].shape)])
