"""Settings of the section `loss`: what counts as an error."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Loss(Section):
    kind: Literal["l2", "l1", "huber", "smooth_l1"] = setting(
        "l2",
        "How the difference between prediction and target counts: squared (l2), absolute (l1), or between the two.",
        "损失函数",
        label="Loss",
        level="advanced",
        kohya="loss_type",
        sd_scripts="loss_type",
    )
    huber_threshold: float = setting(
        0.1,
        "Where Huber and smooth L1 pass from squared to absolute.",
        "Huber 阈值",
        gt=0,
        le=10,
        level="expert",
        kohya="huber_c",
        sd_scripts="huber_c",
    )
    huber_schedule: Literal["constant", "exponential", "snr"] = setting(
        "snr",
        "How that threshold depends on the timestep.",
        "Huber 调度",
        level="expert",
        kohya="huber_schedule",
        sd_scripts="huber_schedule",
    )
    min_snr_gamma: float = setting(
        0.0,
        "Weighs down nearly clean timesteps (min-SNR); 5 is usual, 0 switches it off.",
        "最小信噪比 Gamma",
        label="Min-SNR gamma",
        ge=0,
        le=100,
        kohya="min_snr_gamma",
        sd_scripts="min_snr_gamma",
    )
    prior_weight: float = setting(
        1.0,
        "How much regularization pictures count beside the training images.",
        "正则化权重",
        ge=0,
        le=100,
        level="advanced",
        kohya="prior_loss_weight",
        sd_scripts="prior_loss_weight",
    )
