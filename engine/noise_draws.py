"""The noise of a batch with everything that the preset adds to it. Each addition draws from a generator of its own.

So switching one of them on changes no other random number of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from engine.sdxl.noise import adaptive_strength, offset_noise, perturbed_noise, pyramid_noise, pyramid_sizes

if TYPE_CHECKING:
    from engine.sections.noise import Noise

Generators = Callable[[str], torch.Generator]


def shaped_noise(
    settings: Noise, noise: torch.Tensor, offset: torch.Tensor, latents: torch.Tensor, generators: Generators
) -> tuple[torch.Tensor, torch.Tensor]:
    """The noise that is the target, and the one that the input is noised with (another one with perturbation).

    noise, latents: [B, 4, h, w]; offset: standard normal [B, 4, 1, 1]; all on one device. generators(name): a fresh
    CPU generator of this batch. Random strengths are drawn for each image.
    """
    if settings.offset or settings.offset_adaptive:
        noise = offset_noise(noise, offset, _offset_strength(settings, latents, generators))
    if settings.pyramid_levels:
        noise = pyramid_noise(noise, _pyramid(settings.pyramid_levels, noise, generators), settings.pyramid_discount)
    if not settings.perturbation:
        return noise, noise
    generator = generators("perturbation")
    strength = torch.full((len(noise), 1, 1, 1), settings.perturbation)
    if settings.perturbation_random:
        strength = strength * torch.rand(strength.shape, generator=generator)
    draw = torch.randn(noise.shape, generator=generator)
    return noise, perturbed_noise(noise, draw.to(noise.device), strength.to(noise.device))


def _offset_strength(settings: Noise, latents: torch.Tensor, generators: Generators) -> float | torch.Tensor:
    strength: float | torch.Tensor = settings.offset
    if settings.offset_random:
        shares = torch.rand((len(latents), 1, 1, 1), generator=generators("offset strength"))
        strength = (settings.offset * shares).to(latents.device)
    if settings.offset_adaptive:
        strength = adaptive_strength(strength, latents, settings.offset_adaptive)
    return strength


def _pyramid(levels: int, noise: torch.Tensor, generators: Generators) -> list[torch.Tensor]:
    generator = generators("pyramid")
    height, width = noise.shape[-2:]
    sizes = pyramid_sizes(height, width, levels, torch.rand(levels, generator=generator).tolist())
    return [torch.randn((*noise.shape[:2], *size), generator=generator).to(noise.device) for size in sizes]
