"""Settings of the section `loss`: what counts as an error."""

from __future__ import annotations

from typing import Literal

from engine.settings import Section, setting


class Loss(Section):
    kind: Literal["l2", "l1", "huber", "smooth_l1"] = setting("l2", "How the difference between prediction and target counts: squared (l2), absolute (l1), or between the two.", "损失函数", label="Loss", level="advanced", kohya="loss_type", sd_scripts="loss_type")
    huber_threshold: float = setting(0.1, "Where Huber and smooth L1 pass from squared to absolute.", "Huber 阈值", gt=0, le=10, level="expert", kohya="huber_c", sd_scripts="huber_c")
    huber_schedule: Literal["constant", "exponential", "snr"] = setting("snr", "How that threshold depends on the timestep.", "Huber 调度", level="expert", kohya="huber_schedule", sd_scripts="huber_schedule")
    huber_scale: float = setting(1.0, "Multiplies that threshold, after the schedule; not with the schedule snr.", "Huber 缩放", gt=0, le=10, level="expert", kohya="huber_scale", sd_scripts="huber_scale")
    min_snr_gamma: float = setting(0.0, "Weighs down nearly clean timesteps (min-SNR); 5 is usual, 0 switches it off.", "最小信噪比 Gamma", label="Min-SNR gamma", ge=0, le=100, kohya="min_snr_gamma", sd_scripts="min_snr_gamma")
    soft_min_snr_gamma: float = setting(0.0, "Min-SNR without its sharp bend, instead of it; 4 or 5 is usual, 0 switches it off.", "柔和最小信噪比 Gamma", label="Soft min-SNR gamma", ge=0, le=100, level="advanced")
    debiased: bool = setting(False, "Weighs noisy timesteps up (debiased estimation), which strengthens composition and overall tone.", "去偏估计损失", label="Debiased estimation", level="advanced", kohya="debiased_estimation_loss", sd_scripts="debiased_estimation_loss")
    p2_gamma: float = setting(0.0, "Weighs nearly clean timesteps down by their signal-to-noise ratio to this power (P2); 0.5 to 1 is usual, 0 is off.", "P2 加权 Gamma", label="P2 gamma", ge=0, le=4, level="expert")
    p2_k: float = setting(1.0, "Added to that ratio, so that very noisy timesteps do not count too much.", "P2 加权 k", label="P2 k", gt=0, le=100, level="expert")
    scale_v_like_noise: bool = setting(False, "For v-prediction models: weighs timesteps as a model that predicts noise would.", "按噪声预测缩放 v 损失", label="Scale v loss like noise loss", level="expert", kohya="scale_v_pred_loss_like_noise_pred", sd_scripts="scale_v_pred_loss_like_noise_pred")
    v_like: float = setting(0.0, "For models that predict noise: adds the loss of a v-prediction model, times this number; 0 switches it off.", "类 v 预测损失", label="V-prediction-like loss", ge=0, le=10, level="expert", kohya="v_pred_like_loss", sd_scripts="v_pred_like_loss")
    prior_weight: float = setting(1.0, "How much regularization pictures count beside the training images.", "正则化权重", ge=0, le=100, level="advanced", kohya="prior_loss_weight", sd_scripts="prior_loss_weight")
    image_weights: str = setting("", "One line for each folder or image that counts more or less than 1, like: 10_cat: 0.5 or 10_cat/blurry.png: 0.2.", "图像权重", kind="lines", level="advanced")
    mask: Literal["none", "alpha", "folder"] = setting("none", "Train only the white parts of a mask: the opaque parts of each picture (alpha), or pictures of the same name in a mask folder.", "遮罩损失", label="Masked loss", level="advanced", kohya="masked_loss", sd_scripts="masked_loss")
    mask_folder: str = setting("", "Holds the masks, named as the images, in sub-folders as the training folder or without; white is trained.", "遮罩文件夹", kind="folder", level="advanced", when={"loss.mask": "folder"}, sd_scripts="conditioning_data_dir")
    mask_outside: float = setting(0.0, "How much the black parts of a mask count: 0 not at all, 1 as much as the white ones.", "遮罩外权重", label="Weight outside the mask", ge=0, le=1, level="advanced")
