"""Size ids, their embedding and the UNet's predictions equal the reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from tiny_unet import CONTEXT_WIDTH, POOLED_WIDTH, tiny_unet
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from engine import losses
from engine.sdxl.checkpoint import load_unet
from engine.sdxl.detect import identify
from engine.sdxl.noise import add_noise, sdxl_schedule, target
from engine.sdxl.unet import predict, size_ids

FIGURES = load_file(REFERENCE / "model_reduced.safetensors")
NOTES = json.loads((REFERENCE / "model_reduced.json").read_text(encoding="utf-8"))["unet"]
EMBEDDINGS = json.loads((REFERENCE / "size_embeddings.json").read_text(encoding="utf-8"))
REDUCED_POOLED_WIDTH = 512


@pytest.fixture(scope="module")
def reduced(reduced_model_path: Path):
    return load_unet(identify(reduced_model_path), torch.float32, "cpu")


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_size_ids_are_height_width_top_left_height_width():
    ids = size_ids(original_px=(1920, 1080), crop_left_top_px=(10, 0), target_px=(1344, 768))
    assert ids.tolist() == [1080, 1920, 0, 10, 768, 1344]
    assert ids.dtype == torch.float32


@pytest.mark.parametrize("case", ["case0", "case2", "case4"])
def test_size_embeddings_equal_the_reference(reduced, case: str):
    figure = EMBEDDINGS[case]
    original, crop, wanted = (tuple(reversed(figure[key])) for key in ("original_hw", "crop_tl_hw", "target_hw"))
    embedding = reduced.add_time_proj(size_ids(original, crop, wanted)).flatten()
    assert list(embedding.shape) == figure["shape"] == [1536]
    first = torch.tensor(figure["blocks_of_256_first8"])
    assert_close(embedding.unflatten(0, (6, 256))[:, :8], first, rtol=0, atol=1e-5)
    assert embedding.double().sum().item() == pytest.approx(figure["sum"], abs=1e-3)
    assert embedding.double().norm().item() == pytest.approx(figure["l2"], abs=1e-5)


@pytest.mark.parametrize("note", NOTES, ids=lambda note: f"t{note['t']}")
@torch.no_grad()
def test_predictions_equal_the_reference(reduced, note: dict):
    timesteps = torch.tensor([note["t"]])
    latents, noise, rows, vector = (
        drawn(1, 1, 4, 16, 24) * 0.8,
        drawn(2, 1, 4, 16, 24),
        drawn(3, 1, 77, 768),
        drawn(4, 1, 2048),
    )
    rows, vector = rows * 0.5, vector * 0.5
    noisy = add_noise(sdxl_schedule(), latents, noise, timesteps)
    # the figure's size part is random too: put it where the embedding of the size ids would stand
    hook = reduced.add_time_proj.register_forward_hook(lambda *_: vector[:, REDUCED_POOLED_WIDTH:].reshape(6, 256))
    try:
        predicted = predict(reduced, noisy, timesteps, rows, vector[:, :REDUCED_POOLED_WIDTH], torch.zeros(1, 6))
    finally:
        hook.remove()
    assert_close(predicted, FIGURES[f"unet.out_t{note['t']}"], rtol=1e-5, atol=1e-5)
    assert ((predicted - noise) ** 2).mean().item() == pytest.approx(note["mse_vs_noise"], rel=1e-5)


@torch.no_grad()
def test_size_ids_reach_a_half_precision_unet_whole():
    unet = tiny_unet().to(torch.bfloat16)  # pyright: ignore[reportArgumentType]
    seen: list[torch.Tensor] = []
    unet.add_time_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    ids = size_ids((4097, 1023), (3, 1), (1025, 1023))[None]
    rows, pooled = drawn(2, 1, 77, CONTEXT_WIDTH), drawn(3, 1, POOLED_WIDTH)
    predicted = predict(unet, drawn(1, 1, 4, 8, 8), torch.tensor([7]), rows, pooled, ids)
    assert predicted.dtype == torch.bfloat16
    assert seen[0].tolist() == ids.flatten().tolist()


@pytest.mark.slow
def test_a_step_never_waits_for_the_device():
    """From latents to the gradient with tensors that have no values: reading one on the host raises."""
    unet = tiny_unet()
    terms = losses.LossTerms(kind="huber", min_snr_gamma=5.0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        schedule = sdxl_schedule(zero_terminal_snr=True)
        latents, noise, timesteps = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randint(0, 1000, (2,))
        rows = torch.randn(2, 77, CONTEXT_WIDTH, requires_grad=True)
        pooled = torch.randn(2, POOLED_WIDTH)
        noisy = add_noise(schedule, latents, noise, timesteps)
        predicted = predict(unet, noisy, timesteps, rows, pooled, torch.randn(2, 6))
        wanted = target(schedule, "v_prediction", latents, noise, timesteps)
        weights = losses.ImageWeights(torch.ones(2), torch.ones(2, 1, *latents.shape[2:]))
        found = losses.image_losses(terms, predicted, wanted, timesteps, schedule.snr[timesteps], weights)
        found.mean().backward()
    assert found.shape == (2,)
    assert rows.grad is not None
