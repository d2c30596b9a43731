"""Settings of the section `optimizer`: how steps are made, and the learning rate over the run."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Optimizer(Section):
    name: Literal["adamw", "adamw_8bit"] = setting(
        "adamw",
        "How steps are computed; the 8-bit variant needs a quarter of the optimizer's memory.",
        "优化器",
        label="Optimizer",
        kohya="optimizer",
        sd_scripts="optimizer_type",
    )
    unet_rate: float = setting(
        1e-4,
        "Learning rate of the UNet part.",
        "UNet 学习率",
        label="Learning rate, UNet",
        ge=0,
        le=10,
        kind="rate",
        kohya="unet_lr",
        sd_scripts="unet_lr",
    )
    text_encoder_1_rate: float = setting(
        5e-5,
        "Learning rate of the first text encoder's part.",
        "文本编码器 1 学习率",
        label="Learning rate, text encoder 1",
        ge=0,
        le=10,
        kind="rate",
        when={"adapter.text_encoder_1": True},
        kohya="text_encoder_lr",
        sd_scripts="text_encoder_lr",
    )
    text_encoder_2_rate: float = setting(
        5e-5,
        "Learning rate of the second text encoder's part.",
        "文本编码器 2 学习率",
        label="Learning rate, text encoder 2",
        ge=0,
        le=10,
        kind="rate",
        when={"adapter.text_encoder_2": True},
        kohya="text_encoder_lr",
        sd_scripts="text_encoder_lr",
    )
    schedule: Literal["constant", "linear", "cosine"] = setting(
        "cosine",
        "How the learning rate moves over the run: it stays, falls in a line, or falls in a half wave.",
        "学习率调度",
        kohya="lr_scheduler",
        sd_scripts="lr_scheduler",
    )
    warmup_steps: int = setting(
        0,
        "Steps over which the learning rate rises from zero at the start.",
        "预热步数",
        ge=0,
        le=1000000,
        unit="steps",
        kohya="lr_warmup_steps",
        sd_scripts="lr_warmup_steps",
    )
    weight_decay: float = setting(
        0.01,
        "How strongly weights are pulled towards zero.",
        "权重衰减",
        ge=0,
        le=1,
        level="advanced",
        sd_scripts="optimizer_args",
    )
    beta1: float = setting(
        0.9,
        "How long the optimizer remembers the direction of steps.",
        "Beta 1",
        ge=0,
        le=0.99999,
        level="expert",
        sd_scripts="optimizer_args",
    )
    beta2: float = setting(
        0.999,
        "How long the optimizer remembers the size of steps.",
        "Beta 2",
        ge=0,
        le=0.99999,
        level="expert",
        sd_scripts="optimizer_args",
    )
    epsilon: float = setting(
        1e-8,
        "Smallest divisor in a step, against division by zero.",
        "Epsilon",
        gt=0,
        le=1,
        kind="rate",
        level="expert",
        sd_scripts="optimizer_args",
    )
    clip_norm: float = setting(
        1.0,
        "Largest length of the gradient; longer ones are shortened to it. 0 switches this off.",
        "梯度裁剪",
        ge=0,
        le=1000,
        level="advanced",
        kohya="max_grad_norm",
        sd_scripts="max_grad_norm",
    )
