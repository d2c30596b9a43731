"""A UNet of SDXL's kind with random weights, small enough to build and run in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

CONTEXT_WIDTH = 12
POOLED_WIDTH = 10
UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (1, 2),
    "cross_attention_dim": CONTEXT_WIDTH,
    "transformer_layers_per_block": (1, 1),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 6 * 256 + POOLED_WIDTH,
}


def tiny_unet() -> UNet2DConditionModel:
    """The UNet, its weights from seed 0, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(**UNET).eval()
