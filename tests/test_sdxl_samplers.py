"""Each sampler gives the latents of diffusers' own SDXL pipeline, for noise and velocity predictions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_unet import CONTEXT_WIDTH, POOLED_WIDTH, tiny_unet
from torch.testing import assert_close

from engine.sdxl.noise import Prediction
from engine.sdxl.samplers import SAMPLERS, Drawing, draw
from engine.sdxl.text import TextFeatures

SIZE_PX = (40, 64)
# the scheduler file of SDXL base 1.0, as published
PUBLISHED: dict[str, Any] = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
VAE: dict[str, Any] = {
    "block_out_channels": (4, 4, 4, 4),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 2,
}
CASES: list[tuple[Prediction, bool]] = [("epsilon", False), ("v_prediction", False), ("v_prediction", True)]


@pytest.fixture(scope="module")
def pipeline():
    """diffusers' pipeline with a tiny random UNet and VAE; text features are given, so it has no encoders."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    unet = tiny_unet()
    vae = AutoencoderKL(**VAE).eval()
    absent: Any = None
    scheduler: Any = EulerDiscreteScheduler.from_config(PUBLISHED)
    pipeline = StableDiffusionXLPipeline(
        vae, absent, absent, absent, absent, unet=unet, scheduler=scheduler, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def features(seed: int) -> TextFeatures:
    generator = torch.Generator().manual_seed(seed)
    return TextFeatures(
        torch.randn(1, 77, CONTEXT_WIDTH, generator=generator), torch.randn(1, POOLED_WIDTH, generator=generator)
    )


def published_scheduler(sampler: str, prediction: str, zero_terminal_snr: bool):
    """Made as diffusers' users do: from the published settings, by class name and one option."""
    import diffusers

    changes = {"prediction_type": prediction}
    if zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    name, options = {
        "euler": ("EulerDiscreteScheduler", {}),
        "euler_a": ("EulerAncestralDiscreteScheduler", {}),
        "ddim": ("DDIMScheduler", {}),
        "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    }[sampler]
    return getattr(diffusers, name).from_config(PUBLISHED, **changes, **options)


@pytest.mark.parametrize(("prediction", "zero_terminal_snr"), CASES)
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_latents_equal_the_pipeline(pipeline, sampler: str, prediction: Prediction, zero_terminal_snr: bool):
    positive, negative = features(1), features(2)
    pipeline.scheduler = published_scheduler(sampler, prediction, zero_terminal_snr)
    expected = pipeline(
        prompt_embeds=positive.rows,
        pooled_prompt_embeds=positive.pooled,
        negative_prompt_embeds=negative.rows,
        negative_pooled_prompt_embeds=negative.pooled,
        width=SIZE_PX[0],
        height=SIZE_PX[1],
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    drawing = Drawing(SIZE_PX, steps=5, cfg_scale=4.0, seed=7, sampler=sampler)
    ours = draw(pipeline.unet, positive, negative, drawing, prediction, zero_terminal_snr)
    assert torch.isfinite(ours).all()
    assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_noise_predictions_are_drawn_on_the_plain_schedule(pipeline, sampler: str):
    drawing = Drawing(SIZE_PX, steps=2, cfg_scale=4.0, seed=7, sampler=sampler)
    plain, rescaled = (
        draw(pipeline.unet, features(1), features(2), drawing, "epsilon", zero) for zero in (False, True)
    )
    assert torch.equal(plain, rescaled)


def test_cfg_scale_1_ignores_the_negative_prompt(pipeline):
    drawing = Drawing(SIZE_PX, steps=3, cfg_scale=1.0, seed=7)
    first = draw(pipeline.unet, features(1), features(2), drawing)
    second = draw(pipeline.unet, features(1), features(3), drawing)
    assert torch.equal(first, second)


def test_the_same_seed_draws_the_same_picture_and_another_does_not(pipeline):
    def picture(seed: int) -> torch.Tensor:
        return draw(pipeline.unet, features(1), features(2), Drawing(SIZE_PX, 3, 4.0, seed, "euler_a"))

    assert torch.equal(picture(5), picture(5))
    assert not torch.allclose(picture(5), picture(6))


def test_drawing_leaves_the_global_random_state_alone(pipeline):
    before = torch.get_rng_state()
    draw(pipeline.unet, features(1), features(2), Drawing(SIZE_PX, 3, 4.0, 5, "euler_a"))
    assert torch.equal(torch.get_rng_state(), before)
