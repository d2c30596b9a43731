"""Noise schedule, noised latents, targets and noise variants equal the reference."""

from __future__ import annotations

import random

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch.testing import assert_close

from engine.sdxl.noise import (
    add_noise,
    offset_noise,
    perturbed_noise,
    pyramid_noise,
    pyramid_sizes,
    sdxl_schedule,
    target,
    velocity,
)

FIGURES = load_file(REFERENCE / "loss.safetensors")
LATENTS = FIGURES["noise_latents"]
SHAPE = tuple(LATENTS.shape)


def plain_noise() -> torch.Tensor:
    """The draw that every noise figure starts from; later draws go on from its generator state."""
    torch.manual_seed(42)
    random.seed(42)
    return torch.randn(SHAPE)


def test_schedule_equals_the_reference():
    schedule = sdxl_schedule()
    assert torch.equal(schedule.alphas_cumprod, FIGURES["alphas_cumprod"])
    assert_close(schedule.snr, FIGURES["all_snr"], rtol=1e-6, atol=0)


def test_zero_terminal_snr_schedule_equals_the_reference():
    schedule = sdxl_schedule(zero_terminal_snr=True)
    assert_close(schedule.alphas_cumprod, FIGURES["ztsnr_alphas_cumprod"], rtol=0, atol=3e-7)
    assert schedule.alphas_cumprod[-1] == 0
    assert_close(schedule.alphas_cumprod[0], sdxl_schedule().alphas_cumprod[0])


def test_snr_is_that_of_the_rescaled_schedule():
    schedule = sdxl_schedule(zero_terminal_snr=True)
    assert_close(schedule.snr, schedule.alphas_cumprod / (1 - schedule.alphas_cumprod))
    assert schedule.snr[-1] == 0
    assert (schedule.snr[1:] < sdxl_schedule().snr[1:]).all()


@pytest.mark.parametrize(
    "name",
    ["plain", "offset0.1", "offset0.1_rand", "offset0.05_adaptive0.2", "offset+multires", "multires6_0.3",
     "multires10_0.1", "range200_400", "fixed500"],
)  # fmt: skip
def test_noised_latents_equal_the_reference(name: str):
    noisy = add_noise(sdxl_schedule(), LATENTS, FIGURES[f"noise_{name}.noise"], FIGURES[f"noise_{name}.timesteps"])
    assert_close(noisy, FIGURES[f"noise_{name}.noisy"], rtol=1e-6, atol=1e-6)


def test_the_cleanest_and_the_noisiest_timestep_equal_the_reference():
    noisy = add_noise(sdxl_schedule(), LATENTS, FIGURES["noise_plain.noise"], torch.tensor([0, 999]))
    assert_close(noisy, FIGURES["add_noise_t0_999"], rtol=1e-6, atol=1e-6)


def test_noised_latents_of_the_rescaled_schedule_equal_the_reference():
    schedule = sdxl_schedule(zero_terminal_snr=True)
    noisy = add_noise(schedule, LATENTS, FIGURES["noise_ztsnr.noise"], FIGURES["noise_ztsnr.timesteps"])
    assert_close(noisy, FIGURES["noise_ztsnr.noisy"], rtol=1e-5, atol=1e-6)


def test_velocity_equals_the_reference():
    ours = velocity(sdxl_schedule(), LATENTS, FIGURES["noise_plain.noise"], FIGURES["velocity_t"])
    assert_close(ours, FIGURES["velocity"], rtol=1e-6, atol=1e-6)


def test_targets_follow_the_prediction():
    noise, timesteps, schedule = plain_noise(), torch.tensor([3, 800]), sdxl_schedule()
    assert torch.equal(target(schedule, "epsilon", LATENTS, noise, timesteps), noise)
    velocities = target(schedule, "v_prediction", LATENTS, noise, timesteps)
    assert torch.equal(velocities, velocity(schedule, LATENTS, noise, timesteps))


def test_latents_are_recovered_from_velocity_and_noised_latents():
    noise, timesteps, schedule = plain_noise(), torch.tensor([10, 999]), sdxl_schedule(zero_terminal_snr=True)
    alphas = schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = add_noise(schedule, LATENTS, noise, timesteps)
    recovered = alphas.sqrt() * noisy - (1 - alphas).sqrt() * velocity(schedule, LATENTS, noise, timesteps)
    assert_close(recovered, LATENTS, rtol=1e-5, atol=1e-5)


def test_half_precision_latents_are_noised_in_fp32():
    noise, timesteps = plain_noise(), torch.tensor([0, 999])
    half = LATENTS.to(torch.bfloat16)
    noisy = add_noise(sdxl_schedule(), half, noise, timesteps)
    assert noisy.dtype == torch.float32
    assert torch.equal(noisy, add_noise(sdxl_schedule(), half.float(), noise, timesteps))


def test_offset_noise_equals_the_reference():
    ours = offset_noise(plain_noise(), torch.randn(2, 4, 1, 1), 0.1)
    assert_close(ours, FIGURES["noise_offset0.1.noise"], rtol=1e-6, atol=1e-6)


def test_adaptive_offset_noise_equals_the_reference():
    noise = plain_noise()
    strength = 0.05 + 0.2 * LATENTS.mean(dim=(2, 3), keepdim=True).abs()
    ours = offset_noise(noise, torch.randn(2, 4, 1, 1), strength)
    assert_close(ours, FIGURES["noise_offset0.05_adaptive0.2.noise"], rtol=1e-6, atol=1e-6)


def test_a_random_strength_of_offset_and_perturbation_equals_the_reference():
    noise, strength = plain_noise(), 0.1 * torch.rand(1)
    offset = offset_noise(noise, torch.randn(2, 4, 1, 1), strength)
    assert_close(offset, FIGURES["noise_offset0.1_rand.noise"], rtol=1e-6, atol=1e-6)
    noise, timesteps = plain_noise(), torch.randint(0, 1000, (2,))
    strength = 0.1 * torch.rand(1)
    perturbed = perturbed_noise(noise, torch.randn(SHAPE), strength)
    assert torch.equal(timesteps, FIGURES["noise_ip0.1_rand.timesteps"])
    noisy = add_noise(sdxl_schedule(), LATENTS, perturbed, timesteps)
    assert_close(noisy, FIGURES["noise_ip0.1_rand.noisy"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("levels", "discount"), [(6, 0.3), (10, 0.1)])
def test_pyramid_noise_equals_the_reference(levels: int, discount: float):
    noise = plain_noise()
    sizes = pyramid_sizes(SHAPE[2], SHAPE[3], levels, [random.random() for _ in range(levels)])
    ours = pyramid_noise(noise, [torch.randn(2, 4, *size) for size in sizes], discount)
    assert_close(ours, FIGURES[f"noise_multires{levels}_{discount}.noise"], rtol=1e-6, atol=1e-6)


def test_offset_then_pyramid_equals_the_reference():
    noise = offset_noise(plain_noise(), torch.randn(2, 4, 1, 1), 0.1)
    sizes = pyramid_sizes(SHAPE[2], SHAPE[3], 6, [random.random() for _ in range(6)])
    ours = pyramid_noise(noise, [torch.randn(2, 4, *size) for size in sizes], 0.3)
    assert_close(ours, FIGURES["noise_offset+multires.noise"], rtol=1e-6, atol=1e-6)


def test_input_perturbation_equals_the_reference():
    noise = plain_noise()
    timesteps = torch.randint(0, 1000, (2,))
    perturbed = perturbed_noise(noise, torch.randn(SHAPE), 0.1)
    assert torch.equal(noise, FIGURES["noise_ip0.1.noise"])
    noisy = add_noise(sdxl_schedule(), LATENTS, perturbed, timesteps)
    assert_close(noisy, FIGURES["noise_ip0.1.noisy"], rtol=1e-6, atol=1e-6)


def test_pyramid_sizes_end_at_the_first_single_row():
    assert pyramid_sizes(16, 24, 9, [0.0] * 9) == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 1)]
