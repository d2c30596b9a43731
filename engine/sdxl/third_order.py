"""DPM-Solver++(3M) SDE: the third-order multistep step, tensors in, tensors out.

Lu et al. 2022, arXiv 2211.01095, give the solver; K. Crowson's k-diffusion (`sample_dpmpp_3m_sde`) the stochastic form
that all programs draw with. With y = x / α, λ = log(α/σ) and h = λ⁺ − λ:

    y⁺ = e^{−2h} y + (1 − e^{−2h}) D + φ₂ D₁ − φ₃ D₂ + (σ⁺/α⁺) √(1 − e^{−2h}) n
    φ₂ = (e^{−2h} − 1)/(2h) + 1,  φ₃ = φ₂/(2h) − 1/2

which solves dy = 2 (D − y) dλ exactly where the denoised picture D is linear in λ (of a parabola it takes half of the
curvature, as published). diffusers 0.42 adds −½ instead of +½ in its last term, so that D₂ does not vanish with h and
pictures break; hence our own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def third_order_step(
    sample: Tensor,
    denoised: tuple[Tensor, Tensor, Tensor],
    signal_noise: tuple[Tensor, Tensor],
    steps: Tensor,
    noise: Tensor,
) -> Tensor:
    """x at the next noise level.

    sample: [B, C, h, w], denoised: D now, one and two steps ago, each as `sample`; signal_noise: (α⁺, σ⁺/σ) 0-dim;
    steps: [3] of h (this step), h₋₁ and h₋₂ (the two before), in λ; noise: standard normal as `sample`, already times
    σ⁺.
    """
    (now, before, earlier), (alpha, ratio), (h, h_1, h_2) = denoised, signal_noise, steps
    r_0, r_1 = h_1 / h, h_2 / h
    slope_0, slope_1 = (now - before) / r_0, (before - earlier) / r_1
    d_1 = slope_0 + (slope_0 - slope_1) * r_0 / (r_0 + r_1)
    d_2 = (slope_0 - slope_1) / (r_0 + r_1)
    phi_2 = torch.expm1(-2 * h) / (2 * h) + 1
    phi_3 = phi_2 / (2 * h) - 0.5
    drift = -torch.expm1(-2 * h) * now + phi_2 * d_1 - phi_3 * d_2
    return ratio * torch.exp(-h) * sample + alpha * drift + torch.sqrt(-torch.expm1(-2 * h)) * noise
