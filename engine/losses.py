"""From prediction and target to one loss per image: element-wise difference, mean, image weight, timestep weight.

Tensors in, tensors out, no host synchronisation: all of it may run inside a captured CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class LossTerms:
    """How a loss is made up. `kind` is a key of LOSSES, `huber_schedule` of THRESHOLDS; gamma 0 is no min-SNR."""

    kind: str = "l2"
    huber_threshold: float = 0.1
    huber_schedule: str = "snr"
    min_snr_gamma: float = 0.0
    v_prediction: bool = False


def image_losses(
    terms: LossTerms,
    prediction: torch.Tensor,
    target: torch.Tensor,
    timesteps: torch.Tensor,
    snr: torch.Tensor,
    image_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of each image, fp32 [B]; the batch's loss is their mean.

    prediction, target: [B, C, h, w]; timesteps: int64 [B]; snr: fp32 [B], of those timesteps, from the schedule that
    made the noised input; image_weights: fp32 [B], below 1 for regularization images (prior preservation).
    """
    threshold = THRESHOLDS[terms.huber_schedule](terms.huber_threshold, timesteps, snr).view(-1, 1, 1, 1)
    losses = LOSSES[terms.kind](prediction.float(), target.float(), threshold).mean(dim=(1, 2, 3))
    if image_weights is not None:
        losses = losses * image_weights
    if terms.min_snr_gamma > 0:
        losses = losses * min_snr_weights(snr, terms.min_snr_gamma, terms.v_prediction)
    return losses


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
