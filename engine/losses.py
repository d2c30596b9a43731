"""From prediction and target to one loss per image: element-wise difference, mean, image weight, timestep weight.

Tensors in, tensors out, no host synchronisation: all of it may run inside a captured CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from engine.sections.loss import Loss

TRAIN_TIMESTEPS = 1000
SNR_LIMIT = 1000.0  # sd-scripts cuts there what would be infinite on clean images


@dataclass(frozen=True)
class ImageWeights:
    """What each image counts: `images` fp32 [B] (prior preservation, the user's own weights), `mask` [B, 1, h, w]."""

    images: torch.Tensor | None = None
    mask: torch.Tensor | None = None


NO_WEIGHTS = ImageWeights()


@dataclass(frozen=True)
class LossTerms:
    """How a loss is made up. `kind` is a key of LOSSES, `huber_schedule` of THRESHOLDS; a weighting at 0 is off.

    The weightings multiply. Which of them go with noise or velocity predictions is decided before (engine/rules).
    """

    kind: str = "l2"
    huber_threshold: float = 0.1
    huber_schedule: str = "snr"
    huber_scale: float = 1.0
    min_snr_gamma: float = 0.0
    soft_min_snr_gamma: float = 0.0
    p2_gamma: float = 0.0
    p2_k: float = 1.0
    scale_v_like_noise: bool = False
    v_like: float = 0.0
    debiased: bool = False
    v_prediction: bool = False


def loss_terms(settings: Loss, v_prediction: bool) -> LossTerms:
    """The terms of the preset's section `loss` for a model that predicts velocities, or the noise."""
    names = {field.name for field in fields(LossTerms)} - {"v_prediction"}
    return LossTerms(v_prediction=v_prediction, **{name: getattr(settings, name) for name in names})


def image_losses(
    terms: LossTerms,
    prediction: torch.Tensor,
    target: torch.Tensor,
    timesteps: torch.Tensor,
    snr: torch.Tensor,
    weights: ImageWeights = NO_WEIGHTS,
) -> torch.Tensor:
    """The loss of each image, fp32 [B]; the batch's loss is their mean.

    prediction, target: [B, C, h, w]; timesteps: int64 [B]; snr: fp32 [B], of those timesteps, from the schedule that
    made the noised input. The order is that of sd-scripts: element-wise, mask, mean over C, h and w (the mask's area
    does not divide), image weight, timestep weights.
    """
    threshold = THRESHOLDS[terms.huber_schedule](terms.huber_threshold, timesteps, snr)
    if terms.huber_schedule != "snr":
        threshold = threshold * terms.huber_scale
    losses = LOSSES[terms.kind](prediction.float(), target.float(), threshold.view(-1, 1, 1, 1))
    if weights.mask is not None:
        losses = losses * weights.mask
    losses = losses.mean(dim=(1, 2, 3))
    if weights.images is not None:
        losses = losses * weights.images
    for weight in timestep_weights(terms, snr):
        losses = losses * weight
    return losses


def timestep_weights(terms: LossTerms, snr: torch.Tensor) -> Iterator[torch.Tensor]:
    """The weightings that are on, fp32 [B] each, in the order in which they multiply."""
    if terms.min_snr_gamma > 0:
        yield min_snr_weights(snr, terms.min_snr_gamma, terms.v_prediction)
    if terms.soft_min_snr_gamma > 0:
        yield soft_min_snr_weights(snr, terms.soft_min_snr_gamma, terms.v_prediction)
    if terms.p2_gamma > 0:
        yield p2_weights(snr, terms.p2_gamma, terms.p2_k, terms.v_prediction)
    if terms.scale_v_like_noise:
        yield scaled_v_weights(snr)
    if terms.v_like > 0:
        yield v_like_weights(snr, terms.v_like)
    if terms.debiased:
        yield debiased_weights(snr, terms.v_prediction)


def l2(prediction: torch.Tensor, target: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """d² with d = prediction − target, of the same shape. Needs no threshold."""
    return (prediction - target) ** 2


def l1(prediction: torch.Tensor, target: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """|d|, of the same shape. Needs no threshold."""
    return (prediction - target).abs()


def huber(prediction: torch.Tensor, target: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """2c(√(d² + c²) − c), about d² below the threshold c and 2c|d| above it. threshold: [B, 1, 1, 1]."""
    return 2.0 * threshold * (((prediction - target) ** 2 + threshold**2).sqrt() - threshold)


def smooth_l1(prediction: torch.Tensor, target: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """2(√(d² + c²) − c), about d²/c below the threshold c and 2|d| above it. threshold: [B, 1, 1, 1]."""
    return 2.0 * (((prediction - target) ** 2 + threshold**2).sqrt() - threshold)


def constant_threshold(threshold: float, timesteps: torch.Tensor, snr: torch.Tensor) -> torch.Tensor:
    """c₀ at every timestep, fp32 [B]."""
    return torch.full_like(snr, threshold)


def exponential_threshold(threshold: float, timesteps: torch.Tensor, snr: torch.Tensor) -> torch.Tensor:
    """exp(ln c₀ · t / 1000): from 1 on clean images to c₀ on pure noise, fp32 [B]."""
    return threshold ** (timesteps.to(torch.float32) / TRAIN_TIMESTEPS)


def snr_threshold(threshold: float, timesteps: torch.Tensor, snr: torch.Tensor) -> torch.Tensor:
    """(1 − c₀) / (1 + σ)² + c₀ with σ = 1 / √SNR, fp32 [B]. Is c₀ where the SNR is 0."""
    return (1.0 - threshold) / (1.0 + snr.rsqrt()) ** 2 + threshold


def min_snr_weights(snr: torch.Tensor, gamma: float, v_prediction: bool) -> torch.Tensor:
    """min(s, γ) / s, or min(s, γ) / (s + 1) for velocity targets (Hang et al. 2023, arXiv 2303.09556, section 3.4).

    snr: fp32 [B] → [B]. At zero terminal SNR the first form takes its limit, 1.
    """
    if v_prediction:
        return snr.clamp(max=gamma) / (snr + 1.0)
    return (gamma / snr).clamp(max=1.0)


def soft_min_snr_weights(snr: torch.Tensor, gamma: float, v_prediction: bool) -> torch.Tensor:
    """γ / (s + γ), or s / (s + 1) of that for velocity targets: min-SNR without its kink.

    Crowson et al. 2024 (HDiT, arXiv 2401.11605) weigh the error of the clean image by 1 / (σ² + 1/γ) with
    σ² = 1/s, which is sγ / (s + γ); the error of the noise is s times that of the image. snr: fp32 [B] → [B].
    """
    weights = gamma / (snr + gamma)
    return weights * noise_like_weights(snr) if v_prediction else weights


def p2_weights(snr: torch.Tensor, gamma: float, k: float, v_prediction: bool) -> torch.Tensor:
    """1 / (k + s)^γ on the error of the noise (Choi et al. 2022, arXiv 2204.00227, equation 8); k > 0.

    For velocity targets s / (s + 1) of that, so that both weigh the noise's error alike. snr: fp32 [B] → [B].
    """
    weights = (k + snr) ** -gamma
    return weights * noise_like_weights(snr) if v_prediction else weights


def noise_like_weights(snr: torch.Tensor) -> torch.Tensor:
    """s / (s + 1) = ᾱ: makes the error of the velocity that of the noise, since ε = √(1 − ᾱ)·x_t + √ᾱ·v.

    Salimans and Ho 2022, arXiv 2202.00512, appendix D. snr: fp32 [B] → [B].
    """
    return snr / (snr + 1.0)


def scaled_v_weights(snr: torch.Tensor) -> torch.Tensor:
    """`noise_like_weights` with s cut at 1000, as sd-scripts' scale_v_pred_loss_like_noise_pred. fp32 [B] → [B]."""
    return noise_like_weights(snr.clamp(max=SNR_LIMIT))


def v_like_weights(snr: torch.Tensor, strength: float) -> torch.Tensor:
    """1 + strength · (s + 1) / s, s cut at 1000: the error of the velocity is added to that of the noise.

    snr: fp32 [B], above 0 → [B]. As sd-scripts' v_pred_like_loss.
    """
    return 1.0 + strength / scaled_v_weights(snr)


def debiased_weights(snr: torch.Tensor, v_prediction: bool) -> torch.Tensor:
    """1 / √s (Yu et al. 2023, arXiv 2310.08442), or 1 / (s + 1) for velocity targets.

    s is cut at 1000 as sd-scripts does. snr: fp32 [B], above 0 unless velocities are predicted → [B].
    """
    limited = snr.clamp(max=SNR_LIMIT)
    return 1.0 / (limited + 1.0) if v_prediction else limited.rsqrt()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l2": l2,
    "l1": l1,
    "huber": huber,
    "smooth_l1": smooth_l1,
}

THRESHOLDS: dict[str, Callable[[float, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "constant": constant_threshold,
    "exponential": exponential_threshold,
    "snr": snr_threshold,
}
