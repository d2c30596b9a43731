"""The demo model: SDXL's four parts in miniature.

SDXL's structure is kept (three UNet stages of which the first has no attention, ``text_time`` conditioning, two CLIP
text encoders of differing widths with the full vocabulary, 4-channel VAE with factor 8); only widths and depths shrink.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from engine.sdxl.latents import SCALE
from engine.sdxl.tokenizer import BOS, EOS, PAD_ONE, PAD_TWO

NATIVE_PX = 128
TEXT_WIDTHS = (32, 40)
SIZE_WIDTH = 32
HEAD_WIDTH = 32
UNET_GROUPS, VAE_GROUPS = 16, 8
TEXT_HEADS = 2


def new_unet() -> UNet2DConditionModel:
    widths = (32, 64, 64)
    config: dict[str, Any] = {
        "sample_size": NATIVE_PX // 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": widths,
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": tuple(width // HEAD_WIDTH for width in widths),  # diffusers means their number
        "cross_attention_dim": sum(TEXT_WIDTHS),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_WIDTH,
        "projection_class_embeddings_input_dim": TEXT_WIDTHS[1] + 6 * SIZE_WIDTH,
        "norm_num_groups": UNET_GROUPS,
    }
    return UNet2DConditionModel(**config)


def new_text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    shared: dict[str, Any] = {
        "vocab_size": 49408,
        "num_hidden_layers": 3,
        "num_attention_heads": TEXT_HEADS,
        "max_position_embeddings": 77,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    one, two = (
        CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, projection_dim=width, hidden_act=act, **shared)
        for width, act in zip(TEXT_WIDTHS, ("quick_gelu", "gelu"), strict=True)
    )
    one.pad_token_id, two.pad_token_id = PAD_ONE, PAD_TWO
    encoders = CLIPTextModel(one), CLIPTextModelWithProjection(two)
    for encoder in encoders:
        token_embedding(encoder).weight.data.mul_(10)  # wider apart, words are learned faster
    return encoders


def token_embedding(encoder: CLIPTextModel | CLIPTextModelWithProjection) -> nn.Embedding:
    """The encoder's token embeddings; their weight is [49408, width]."""
    return next(module for module in encoder.modules() if isinstance(module, nn.Embedding))


class SeenWords(nn.Module):
    """Token embeddings [words, width] of only the words (int64 ids) that training sees, in place of the whole table.

    The other rows get no gradient and no decay, so they would stay what they are: 96 % of the work on the tables.
    """

    def __init__(self, table: Tensor, words: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table[words].clone())
        self.row_of = torch.full((len(table),), len(words))  # out of range: a word that is not among them is an error
        self.row_of[words] = torch.arange(len(words))

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(self.row_of[ids], self.weight)


def new_vae() -> AutoencoderKL:
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (16, 32, 48, 48),
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": VAE_GROUPS,
        "sample_size": NATIVE_PX,
        "scaling_factor": SCALE,
    }
    vae = AutoencoderKL(**config)
    for name, module in vae.named_modules():
        start_near_linear(name, module)
    return vae


@torch.no_grad()
def start_near_linear(name: str, module: nn.Module) -> None:
    """Start the VAE as an almost linear pyramid: branches of the residual blocks and attention are quiet, the
    convolutions between levels pass on what they get. From there it learns several times faster."""
    if name.endswith("to_out.0") and isinstance(module, nn.Linear):
        module.weight.mul_(0.1)
    if not isinstance(module, nn.Conv2d) or name.endswith("conv1"):
        return
    if module.bias is not None:
        module.bias.zero_()
    module.weight.mul_(0.1)
    if name.endswith("conv2"):
        return
    eye = torch.eye(module.out_channels, module.in_channels)
    if "downsamplers" in name:
        module.weight[:, :, :2, :2] += eye[:, :, None, None] / 4
    elif "upsamplers" in name:
        module.weight[:, :, 1, 1] += eye
    else:
        middle = module.kernel_size[0] // 2
        module.weight[:, :, middle, middle] += nn.init.orthogonal_(torch.empty_like(eye))
