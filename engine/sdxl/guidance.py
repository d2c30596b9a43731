"""Classifier-free guidance, and what takes back the contrast that it adds. Pure functions."""

from __future__ import annotations

from torch import Tensor


def guided(without: Tensor, with_prompt: Tensor, cfg_scale: float, rescale: float = 0.0) -> Tensor:
    """u + scale · (c − u) (Ho and Salimans 2022, arXiv 2207.12598, equation 6), rescaled: [B, C, h, w] each.

    rescale φ: φ · x · std(c)/std(x) + (1 − φ) · x per picture (Lin et al. 2023, arXiv 2305.08891, section 3.4).
    """
    found = without + cfg_scale * (with_prompt - without)
    if not rescale:
        return found
    dims = tuple(range(1, found.ndim))
    factor = with_prompt.std(dim=dims, keepdim=True) / found.std(dim=dims, keepdim=True)
    return rescale * (found * factor) + (1 - rescale) * found
