"""From noise and text features to latents, by the samplers as diffusers computes them.

All arithmetic outside the UNet is fp32, and all random numbers come from a CPU generator with the picture's seed: the
same prompt and seed start from the same noise on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine.sdxl.latents import LATENT_CHANNELS, PX_PER_LATENT
from engine.sdxl.noise import BETA_END, BETA_START, TRAIN_TIMESTEPS, Prediction
from engine.sdxl.text import TextFeatures
from engine.sdxl.unet import predict, size_ids

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Drawing:
    """One picture to draw: size (width, height), sampling steps, CFG scale, seed, and a key of SAMPLERS."""

    size_px: tuple[int, int]
    steps: int
    cfg_scale: float
    seed: int
    sampler: str = "euler"


def draw(
    unet: UNet2DConditionModel,
    positive: TextFeatures,
    negative: TextFeatures,
    drawing: Drawing,
    prediction: Prediction = "epsilon",
    zero_terminal_snr: bool = False,
) -> torch.Tensor:
    """Scaled latents of one picture, fp32 [1, 4, height / 8, width / 8] on the UNet's device.

    positive, negative: features of one caption each, of equal length. With a CFG scale of 1 the negative is not used.
    """
    guided = drawing.cfg_scale != 1.0
    features = (negative, positive) if guided else (positive,)
    rows = torch.cat([feature.rows for feature in features]).to(unet.device)
    pooled = torch.cat([feature.pooled for feature in features]).to(unet.device)
    sizes = size_ids(drawing.size_px, (0, 0), drawing.size_px).to(unet.device).expand(len(features), 6)

    def denoise(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        batch, timesteps = noisy.expand(len(features), -1, -1, -1), timestep.to(noisy.device).expand(len(features))
        predicted = predict(unet, batch, timesteps, rows, pooled, sizes).float()
        return _guided(predicted, drawing.cfg_scale) if guided else predicted

    width_px, height_px = drawing.size_px
    generator = torch.Generator().manual_seed(drawing.seed)
    noise = torch.randn(1, LATENT_CHANNELS, height_px // PX_PER_LATENT, width_px // PX_PER_LATENT, generator=generator)
    scheduler = SAMPLERS[drawing.sampler](scheduler_config(prediction, zero_terminal_snr))
    return sample_latents(denoise, scheduler, drawing.steps, noise.to(unet.device), generator)


@torch.no_grad()
def sample_latents(
    denoise: Denoise, scheduler: Any, steps: int, noise: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Run a diffusers scheduler from standard normal noise [B, C, h, w] to latents of the same shape.

    denoise(scaled noisy latents [B, C, h, w], timestep []) → prediction [B, C, h, w], guidance already applied.
    """
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):  # DDIM has none: it finds its place by the timestep
        scheduler.set_begin_index(0)
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        prediction = denoise(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(prediction, timestep, latents, generator=generator, return_dict=False)[0]
    return latents


def scheduler_config(prediction: Prediction, zero_terminal_snr: bool = False) -> dict[str, Any]:
    """The scheduler settings of SDXL's published model; with zero terminal SNR, those that start at the very last step.

    Lin et al. 2023, arXiv 2305.08891, section 3.3: only "trailing" timesteps contain that last one. A model that
    predicts noise says nothing about the picture there (section 3.2), so such models are drawn on the plain schedule.
    """
    rescaled = zero_terminal_snr and prediction == "v_prediction"
    return {
        "num_train_timesteps": TRAIN_TIMESTEPS,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
        "prediction_type": prediction,
        "timestep_spacing": "trailing" if rescaled else "leading",
        "rescale_betas_zero_snr": rescaled,
    }


def _guided(predictions: torch.Tensor, cfg_scale: float) -> torch.Tensor:
    """u + scale · (c − u), [u, c] as [2, C, h, w] → [1, C, h, w] (Ho and Salimans 2022, arXiv 2207.12598, eq. 6)."""
    without, with_prompt = predictions.chunk(2)
    return without + cfg_scale * (with_prompt - without)


# diffusers is imported when a sampler is made: a run that draws no samples need not load its schedulers.
def _euler(config: dict[str, Any]) -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**config)


def _euler_a(config: dict[str, Any]) -> Any:
    from diffusers import EulerAncestralDiscreteScheduler

    return EulerAncestralDiscreteScheduler(**config)


def _ddim(config: dict[str, Any]) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(**config, clip_sample=False, set_alpha_to_one=False)


def _dpmpp_2m_karras(config: dict[str, Any]) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(**config, use_karras_sigmas=True)


SAMPLERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "euler": _euler,
    "euler_a": _euler_a,
    "ddim": _ddim,
    "dpmpp_2m_karras": _dpmpp_2m_karras,
}
