"""What SDXL's UNet is called with. The weights and the forward pass are diffusers' UNet2DConditionModel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


def size_ids(
    original_px: tuple[int, int], crop_left_top_px: tuple[int, int], target_px: tuple[int, int]
) -> torch.Tensor:
    """How an image was cut, in six numbers, fp32 [6] (Podell et al. 2023, arXiv 2307.01952, section 2.2).

    Sizes are (width, height) and the crop (left, top); SDXL's own order is height, width, top, left, height, width.
    """
    (width, height), (left, top), (target_width, target_height) = original_px, crop_left_top_px, target_px
    return torch.tensor([height, width, top, left, target_height, target_width], dtype=torch.float32)


def predict(
    unet: UNet2DConditionModel,
    noisy: torch.Tensor,
    timesteps: torch.Tensor,
    rows: torch.Tensor,
    pooled: torch.Tensor,
    size_ids: torch.Tensor,
) -> torch.Tensor:
    """The UNet's prediction (noise or velocity), in the UNet's precision. No host synchronisation.

    noisy [B, 4, h, w], timesteps int64 [B], rows [B, tokens, 2048], pooled [B, 1280], size_ids fp32 [B, 6]
    → [B, 4, h, w]. Size ids stay in fp32: half precision cannot hold 1,023.
    """
    dtype = unet.dtype
    return unet(
        noisy.to(dtype),
        timesteps,
        encoder_hidden_states=rows.to(dtype),
        added_cond_kwargs={"text_embeds": pooled.to(dtype), "time_ids": size_ids.float()},
        return_dict=False,
    )[0]
