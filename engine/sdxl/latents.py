"""Between pictures and SDXL's latents: encode, draw, decode; in fp32 where half precision overflows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from PIL import Image

from engine.errors import ModelError
from engine.finite import is_finite

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

SCALE = 0.13025
LATENT_CHANNELS = 4
PX_PER_LATENT = 8
_OVERFLOW = "The VAE overflows in half precision on this picture: it was done again in fp32. Set VAE precision to fp32."


def encode_moments(vae: AutoencoderKL, pixels: torch.Tensor, warn: Callable[[str], None] | None = None) -> torch.Tensor:
    """Mean and standard deviation of the latents of pictures, unscaled, fp32 [B, 8, H/8, W/8] on the VAE's device.

    pixels: [B, 3, H, W] in −1…1, sides multiples of 8. Pictures whose moments are not finite in half precision are done
    again in fp32, after `warn` was told; so each picture's result depends on it alone. Raises ModelError if fp32 fails.
    """
    return _with_fp32_fallback(vae, pixels, _moments, warn)


def draw_latents(moments: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """(mean + std · eps) · 0.13025: moments [B, 8, h, w], standard normal eps [B, 4, h, w] → [B, 4, h, w]."""
    mean, std = moments.chunk(2, dim=1)
    return (mean + std * eps) * SCALE


def decode(vae: AutoencoderKL, latents: torch.Tensor, warn: Callable[[str], None] | None = None) -> torch.Tensor:
    """Pictures of scaled latents: [B, 4, h, w] → fp32 [B, 3, 8h, 8w], about −1…1. Falls back as `encode_moments`."""
    return _with_fp32_fallback(vae, latents / SCALE, _decoded, warn)


def to_pictures(pixels: torch.Tensor) -> list[Image.Image]:
    """RGB pictures of [B, 3, H, W] in −1…1; values beyond are clamped."""
    levels = ((pixels.detach().float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()) for picture in levels.cpu()]


def _moments(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    posterior = vae.encode(pixels).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
    return torch.cat([posterior.mean.float(), (0.5 * posterior.logvar.float()).exp()], dim=1)


def _decoded(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    return vae.decode(latents, return_dict=False)[0].float()  # pyright: ignore[reportArgumentType]


def _with_fp32_fallback(
    vae: AutoencoderKL,
    values: torch.Tensor,
    compute: Callable[[AutoencoderKL, torch.Tensor], torch.Tensor],
    warn: Callable[[str], None] | None,
) -> torch.Tensor:
    """compute(vae, values) in the VAE's precision, its non-finite rows computed again by an fp32 copy of the VAE."""
    result = compute(vae, values.to(vae.device, vae.dtype))
    broken = ~result.isfinite().flatten(1).all(dim=1)
    if not broken.any():
        return result
    if vae.dtype != torch.float32:
        if warn:
            warn(_OVERFLOW)
        again = compute(copy.deepcopy(vae).float(), values[broken.to(values.device)].to(vae.device, torch.float32))
        result[broken] = again
    if not is_finite(result):
        message = "the VAE gives values that are not finite, in fp32 too. The file is damaged: take another VAE."
        raise ModelError(message, "VAE")
    return result
