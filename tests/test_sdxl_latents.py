"""VAE moments and pictures equal the reference; half precision that overflows is done again in fp32."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch.testing import assert_close

from engine.errors import ModelError
from engine.sdxl.checkpoint import load_vae
from engine.sdxl.detect import identify
from engine.sdxl.latents import decode, draw_latents, encode_moments, to_pictures

FIGURES = load_file(REFERENCE / "model_reduced.safetensors")
NOTES = json.loads((REFERENCE / "model_reduced.json").read_text(encoding="utf-8"))["vae"]
PIXELS = (torch.arange(3 * 64 * 96) % 251).reshape(1, 3, 64, 96).float() / 125 - 1


@pytest.fixture(scope="module")
def reduced(reduced_model_path: Path):
    return load_vae(identify(reduced_model_path), torch.float32, "cpu")


@pytest.fixture
def overflowing():
    """A tiny fp16 VAE that overflows on bright pictures only: grey ones stay finite."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    shape = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(block_out_channels=(4, 4, 4, 4), norm_num_groups=2, **shape).eval().requires_grad_(False)  # pyright: ignore[reportArgumentType]
    vae.encoder.conv_in.weight.fill_(3e4)
    vae.decoder.conv_in.weight.fill_(3e4)
    return vae.half()


@torch.no_grad()
def test_moments_equal_the_reference(reduced):
    moments = encode_moments(reduced, PIXELS)
    mean, std = moments.chunk(2, dim=1)
    assert_close(mean, FIGURES["vae.mean"], rtol=1e-5, atol=1e-5)
    assert_close(std.log() * 2, FIGURES["vae.logvar"], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_decoded_pixels_equal_the_reference(reduced):
    pixels = decode(reduced, FIGURES["vae.mean"] * NOTES["scale_factor"])
    assert pixels.shape == PIXELS.shape
    assert_close(pixels[..., :8, :8], FIGURES["vae.decode_of_mean_8x8corner"], rtol=1e-5, atol=1e-5)
    assert pixels.double().sum().item() == pytest.approx(NOTES["decode_sum"], abs=0.01)


def test_latents_are_mean_plus_scaled_noise():
    mean, std, eps = torch.randn(3, 2, 4, 3, 5).unbind()
    latents = draw_latents(torch.cat([mean, std.abs()], dim=1), eps)
    assert_close(latents, (mean + std.abs() * eps) * 0.13025)


@torch.no_grad()
def test_only_pictures_that_overflow_are_encoded_again(overflowing):
    grey, bright = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    bright[..., :8] = -1.0
    said: list[str] = []
    moments = encode_moments(overflowing, torch.cat([grey, bright]), said.append)
    exact = encode_moments(copy.deepcopy(overflowing).float(), bright)
    assert torch.isfinite(moments).all()
    assert_close(moments[1:], exact)
    assert_close(moments[:1], encode_moments(overflowing, grey, said.append))
    assert len(said) == 1
    assert "fp32" in said[0]
    assert overflowing.dtype == torch.float16


@torch.no_grad()
def test_latents_that_overflow_are_decoded_again(overflowing):
    latents = torch.full((1, 4, 2, 2), 3.0)
    said: list[str] = []
    pixels = decode(overflowing, latents, said.append)
    assert_close(pixels, decode(copy.deepcopy(overflowing).float(), latents))
    assert len(said) == 1


@torch.no_grad()
def test_a_vae_that_fails_in_fp32_is_refused(overflowing):
    broken = overflowing.float()
    broken.quant_conv.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"VAE.*not finite.*another VAE"):
        encode_moments(broken, torch.zeros(1, 3, 16, 16))


def test_pictures_are_clamped_and_rounded():
    pixels = torch.tensor([-3.0, -1.0, 0.0, 1.0, 7.0]).expand(1, 3, 2, 5)
    (picture,) = to_pictures(pixels)
    assert picture.size == (5, 2)
    assert picture.mode == "RGB"
    assert [picture.getpixel((x, 1)) for x in range(5)] == [(v, v, v) for v in (0, 0, 128, 255, 255)]
