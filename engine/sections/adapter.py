"""Settings of the section `adapter`: what is trained."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Adapter(Section):
    algorithm: Literal["lora", "lora_fa", "full"] = setting(
        "lora",
        "The kind of adapter; LoRA is read by every program, and a conv rank makes it a LoCon.",
        "算法",
        level="expert",
        kohya="LoRA_type",
        sd_scripts="network_module",
    )
    rank: int = setting(
        16,
        "Size of the adapter: more can hold more detail, costs memory, and over-trains sooner.",
        "秩 (rank)",
        ge=1,
        le=1024,
        kohya="network_dim",
        sd_scripts="network_dim",
    )
    alpha: float = setting(
        16.0,
        "Strength at which the adapter is applied, divided by the rank; half or all of the rank is usual.",
        "Alpha",
        gt=0,
        le=4096,
        kohya="network_alpha",
        sd_scripts="network_alpha",
    )
    conv_rank: int = setting(
        0,
        "Rank for the 3×3 convolutions (LoCon); 0 leaves them alone.",
        "卷积秩",
        ge=0,
        le=1024,
        level="advanced",
        kohya="conv_dim",
        sd_scripts="conv_dim",
    )
    conv_alpha: float = setting(
        1.0,
        "Alpha for the convolutions.",
        "卷积 Alpha",
        gt=0,
        le=4096,
        level="advanced",
        kohya="conv_alpha",
        sd_scripts="conv_alpha",
    )
    rank_stabilised: bool = setting(
        False,
        "Divide alpha by the square root of the rank instead of the rank (rsLoRA): large ranks then learn as fast as "
        "small ones.",
        "秩稳定缩放 (rsLoRA)",
        label="Rank-stabilised scale",
        level="expert",
    )
    norms: bool = setting(
        False,
        "Train the weights and biases of the norms as well, as LyCORIS' train_norm; adds very little to the file.",
        "训练归一化层",
        label="Train the norms",
        level="expert",
        kohya="train_norm",
    )
    unet: bool = setting(
        True,
        "Train the UNet: the part that draws.",
        "训练 UNet",
        label="Train the UNet",
        sd_scripts="network_train_text_encoder_only",
    )
    text_encoder_1: bool = setting(
        False,
        "Train the first text encoder (CLIP-L); helps new words, over-trains easily.",
        "训练文本编码器 1",
        label="Train text encoder 1",
        sd_scripts="network_train_unet_only",
    )
    text_encoder_2: bool = setting(
        False,
        "Train the second text encoder (OpenCLIP bigG).",
        "训练文本编码器 2",
        label="Train text encoder 2",
        sd_scripts="network_train_unet_only",
    )
    text_encoder_stop: float = setting(
        0.0,
        "Steps after which the text encoders are trained no more; below 1 a share of the run, 0 to train them to the end.",
        "停止训练文本编码器",
        label="Stop training the text encoders",
        ge=0,
        le=10000000,
        level="advanced",
        kohya="stop_text_encoder_training",
    )
