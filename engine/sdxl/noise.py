"""SDXL's noise schedule and what is built on it: noised latents, targets, and variants of the noise itself.

Everything here is tensors in, tensors out, in fp32, and free of host synchronisation, so that a step which calls it can
be captured as a CUDA graph. Random numbers are handed in, never drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

TRAIN_TIMESTEPS = 1000
BETA_START = 0.00085
BETA_END = 0.012

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Schedule:
    """A diffusion schedule: ᾱ and the signal-to-noise ratio ᾱ / (1 − ᾱ) of each timestep, both fp32 [1000]."""

    alphas_cumprod: torch.Tensor
    snr: torch.Tensor

    def to(self, device: torch.device | str) -> Schedule:
        """The same schedule on another device."""
        return Schedule(self.alphas_cumprod.to(device), self.snr.to(device))


def sdxl_schedule(zero_terminal_snr: bool = False) -> Schedule:
    """The schedule SDXL was trained on: β linear in its square root from 0.00085 to 0.012, 1000 steps.

    zero_terminal_snr: shift and scale √ᾱ so that the last step is pure noise (Lin et al. 2023, arXiv 2305.08891,
    algorithm 1). The signal-to-noise ratios are those of the rescaled schedule.
    """
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS, dtype=torch.float32) ** 2
    alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
    if zero_terminal_snr:
        alphas_cumprod = _rescaled(alphas_cumprod)
    return Schedule(alphas_cumprod, alphas_cumprod / (1.0 - alphas_cumprod))


def _rescaled(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """√ᾱ ← (√ᾱ − √ᾱ_T) · √ᾱ_0 / (√ᾱ_0 − √ᾱ_T): the first step stays, the last becomes 0. [1000] → [1000]"""
    roots = alphas_cumprod.sqrt()
    return ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2


def _signal_and_noise(schedule: Schedule, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t), [B, 1, 1, 1] each."""
    alphas = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt(), (1.0 - alphas).sqrt()


def add_noise(schedule: Schedule, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """√ᾱ_t · latents + √(1 − ᾱ_t) · noise (Ho et al. 2020, arXiv 2006.11239, equation 4).

    latents, noise: [B, C, h, w]; timesteps: int64 [B] in 0…999. Returns fp32 [B, C, h, w].
    """
    signal, sigma = _signal_and_noise(schedule, timesteps)
    return signal * latents + sigma * noise


def velocity(schedule: Schedule, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """√ᾱ_t · noise − √(1 − ᾱ_t) · latents (Salimans and Ho 2022, arXiv 2202.00512, appendix D), as `add_noise`."""
    signal, sigma = _signal_and_noise(schedule, timesteps)
    return signal * noise - sigma * latents


def target(
    schedule: Schedule, prediction: Prediction, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the UNet should predict: the noise itself, or the velocity. fp32 [B, C, h, w]."""
    if prediction == "v_prediction":
        return velocity(schedule, latents, noise, timesteps)
    return noise.float()


def offset_noise(noise: torch.Tensor, draw: torch.Tensor, strength: float | torch.Tensor) -> torch.Tensor:
    """Noise with a shift that is the same over a whole channel, so that overall brightness is learned.

    noise: [B, C, h, w]; draw: standard normal [B, C, 1, 1]; strength: a number or [B, C, 1, 1].
    Source: N. Guttenberg, "Diffusion with offset noise", 2023.
    """
    return noise + strength * draw


def adaptive_strength(strength: float | torch.Tensor, latents: torch.Tensor, scale: float) -> torch.Tensor:
    """Strength of the offset with scale · |mean of the latents| of each channel added, never below 0: [B, C, 1, 1].

    strength: a number or [B, 1, 1, 1]; latents: [B, C, h, w]. As sd-scripts' adaptive_noise_scale.
    """
    return (strength + scale * latents.mean(dim=(2, 3), keepdim=True).abs()).clamp(min=0.0)


def pyramid_sizes(height: int, width: int, levels: int, draws: Sequence[float]) -> list[tuple[int, int]]:
    """Sizes (height, width) of the noises for `pyramid_noise`: ⌊side / rⁱ⌋ with r = 2 + 2u drawn anew each level.

    draws: at least `levels` numbers in 0…1. Ends with the first level that is one row or one column.
    """
    sizes: list[tuple[int, int]] = []
    for level, draw in zip(range(levels), draws, strict=False):
        shrink = (2 + 2 * draw) ** level
        sizes.append((max(1, int(height / shrink)), max(1, int(width / shrink))))
        if 1 in sizes[-1]:
            break
    return sizes


def pyramid_noise(noise: torch.Tensor, draws: Sequence[torch.Tensor], discount: float) -> torch.Tensor:
    """Noise with coarser noises added, level i weighted by discountⁱ, then divided by its standard deviation.

    noise: [B, C, h, w]; draws: standard normal [B, C, hᵢ, wᵢ] of the sizes from `pyramid_sizes`.
    Source: J. Whitaker, "Multi-resolution noise for diffusion model training", 2023.
    """
    size = (noise.shape[-2], noise.shape[-1])
    for level, draw in enumerate(draws):
        noise = noise + functional.interpolate(draw, size=size, mode="bilinear") * discount**level
    return noise / noise.std()


def perturbed_noise(noise: torch.Tensor, draw: torch.Tensor, strength: float | torch.Tensor) -> torch.Tensor:
    """Noise for the noised input only; the target keeps `noise` (Ning et al. 2023, arXiv 2301.11706, algorithm 1).

    noise, draw: [B, C, h, w], standard normal; strength γ: a number or [B, 1, 1, 1].
    """
    return noise + strength * draw
