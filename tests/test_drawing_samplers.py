"""The third-order step against quadrature and against k-diffusion's equation; schedules of steps; guidance."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from engine.drawing.denoising import denoise_latents
from engine.drawing.groups import Sampling
from engine.drawing.samplers import DRAWING_SAMPLERS, all_steps, make_scheduler, split_at
from engine.drawing.settings import BY_PATH, SPREAD_SAMPLERS
from engine.sdxl.guidance import guided
from engine.sdxl.third_order import third_order_step

H = (0.7, 0.5, 0.9)  # this step in λ and the two before


def doubles(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def step(denoised: tuple[float, float, float], y: float, noise: float = 0.0) -> float:
    """The step at α = 1 (variance exploding, as k-diffusion computes), from σ = 1: y is x."""
    sigma_next = math.exp(-H[0])
    now, before, earlier = (doubles(value) for value in denoised)
    levels = doubles(1.0)[0], doubles(sigma_next)[0]
    return float(third_order_step(doubles(y), (now, before, earlier), levels, doubles(*H), doubles(noise * sigma_next)))


def test_the_third_order_step_is_exact_for_a_picture_that_changes_evenly():
    def picture(at: float) -> float:
        return 0.4 - 1.3 * at

    # y(h) = e^{-2h} y + ∫ 2 e^{-2(h-s)} D(s) ds, by Simpson's rule with 2,000 intervals
    places = torch.linspace(0, H[0], 2001, dtype=torch.float64)
    values = 2 * torch.exp(-2 * (H[0] - places)) * (0.4 - 1.3 * places)
    weights = torch.ones(2001, dtype=torch.float64)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    wanted = math.exp(-2 * H[0]) * 0.3 + float((values * weights).sum() * H[0] / 2000 / 3)
    found = step((picture(0), picture(-H[1]), picture(-H[1] - H[2])), 0.3)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_the_third_order_step_is_that_of_k_diffusion():
    x, denoised, noise = 0.3, (0.5, -0.2, 0.9), 1.7
    h, h_1, h_2 = H
    r0, r1, h_eta = h_1 / h, h_2 / h, 2 * h
    d1_0, d1_1 = (denoised[0] - denoised[1]) / r0, (denoised[1] - denoised[2]) / r1
    d1, d2 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1), (d1_0 - d1_1) / (r0 + r1)
    phi_2 = math.expm1(-h_eta) / h_eta + 1
    phi_3 = phi_2 / h_eta - 0.5
    wanted = math.exp(-h_eta) * x - math.expm1(-h_eta) * denoised[0] + phi_2 * d1 - phi_3 * d2
    wanted += noise * math.exp(-h) * math.sqrt(-math.expm1(-2 * h))
    assert step(denoised, x, noise) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("sampler", sorted(DRAWING_SAMPLERS))
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_draws_the_picture(sampler: Any, prediction: Any):
    """A network that always knows the picture: every sampler must end on it, with zero terminal SNR too."""
    picture = torch.linspace(-1, 1, 16).view(1, 1, 4, 4).repeat(1, 4, 1, 1)
    zero = prediction == "v_prediction"
    steps = all_steps(Sampling(sampler=sampler, sigmas="normal"), prediction, zero, 12)
    scheduler = steps.scheduler
    generator = [torch.Generator().manual_seed(1)]
    latents = torch.randn(1, 4, 4, 4, generator=generator[0]) * scheduler.init_noise_sigma
    alphas = scheduler.alphas_cumprod.double().clamp(min=2.0**-24)

    def predict(scaled: torch.Tensor, timestep: torch.Tensor, step: int) -> torch.Tensor:
        place = float(timestep)
        low = int(place)
        logs = torch.log(((1 - alphas) / alphas).sqrt())
        share = place - low
        sigma = math.exp(float(logs[low] * (1 - share) + logs[min(low + 1, 999)] * share))
        signal = 1 / math.sqrt(1 + sigma**2)
        noise = (scaled - signal * picture) / (sigma * signal)
        return noise if prediction == "epsilon" else signal * noise - sigma * signal * picture

    found = denoise_latents(latents, [(steps, predict)], generator, lambda *seen: None)
    assert_close(found, picture, atol=0.12 if sampler == "ddim" else 0.03, rtol=0)


@pytest.mark.parametrize("sampler", sorted(DRAWING_SAMPLERS))
def test_two_experts_make_all_steps_once(sampler: Any):
    steps, later = (all_steps(Sampling(sampler=sampler, sigmas="normal"), "epsilon", False, 10) for _ in range(2))
    first, second = split_at(steps, later, 0.6)
    assert torch.equal(torch.cat([first.timesteps, second.timesteps]), steps.timesteps)
    assert first.number(len(first.timesteps) - 1) + 1 == second.number(0)
    assert len(first.timesteps) > 0 < len(second.timesteps)


@pytest.mark.parametrize("sampler", sorted(SPREAD_SAMPLERS))
@pytest.mark.parametrize("sigmas", ["karras", "exponential"])
def test_noise_levels_can_be_spread(sampler: Any, sigmas: Any):
    levels: tuple[Any, ...] = ("normal", sigmas)
    plain, spread = (make_scheduler(Sampling(sampler=sampler, sigmas=name), "epsilon", False) for name in levels)
    plain.set_timesteps(8)
    spread.set_timesteps(8)
    assert not torch.equal(plain.timesteps, spread.timesteps)


def test_the_names_are_those_of_the_settings():
    assert set(BY_PATH["sampling.sampler"].choices) == set(DRAWING_SAMPLERS)


def test_rescaled_guidance_has_the_contrast_of_the_prompted_half():
    generator = torch.Generator().manual_seed(3)
    without, prompted = (torch.randn(2, 4, 8, 8, generator=generator) for _ in range(2))
    found = guided(without, prompted, 9.0, 1.0)
    assert_close(found.std(dim=(1, 2, 3)), prompted.std(dim=(1, 2, 3)))
    assert torch.equal(guided(without, prompted, 1.0), without + (prompted - without))
