"""Losses, Huber thresholds and min-SNR weights equal the reference."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch.testing import assert_close

from engine.losses import LOSSES, THRESHOLDS, LossTerms, image_losses, min_snr_weights
from engine.sdxl.noise import sdxl_schedule

FIGURES = load_file(REFERENCE / "loss.safetensors")
NUMBERS = json.loads((REFERENCE / "loss.json").read_text(encoding="utf-8"))
TIMESTEPS = torch.arange(1000)
SNR = sdxl_schedule().snr


def pair_losses(terms: LossTerms, weights: torch.Tensor | None = None) -> torch.Tensor:
    timesteps = FIGURES["pair_timesteps"]
    return image_losses(
        terms, FIGURES["pair_pred"], FIGURES["pair_target"], timesteps, FIGURES["all_snr"][timesteps], weights
    )


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_plain_losses_equal_the_reference(kind: str):
    losses = pair_losses(LossTerms(kind=kind))
    assert_close(losses, FIGURES[f"pair_loss_{kind}_none"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
def test_robust_losses_equal_the_reference(kind: str, schedule: str):
    losses = pair_losses(LossTerms(kind=kind, huber_threshold=0.1, huber_schedule=schedule))
    assert_close(losses, FIGURES[f"pair_loss_{kind}_{schedule}"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("schedule", sorted(THRESHOLDS))
def test_thresholds_equal_the_reference(schedule: str):
    ours = THRESHOLDS[schedule](0.1, TIMESTEPS, SNR)
    assert_close(ours, FIGURES[f"huber_c_{schedule}_0.1"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("gamma", [1, 5, 20])
@pytest.mark.parametrize(("v_prediction", "suffix"), [(False, "eps"), (True, "v")])
def test_min_snr_weights_equal_the_reference(gamma: int, v_prediction: bool, suffix: str):
    ours = min_snr_weights(SNR, gamma, v_prediction)
    assert_close(ours, FIGURES[f"min_snr_gamma{gamma}_{suffix}"], rtol=1e-5, atol=0)


@pytest.mark.parametrize(("v_prediction", "name"), [(False, "full:l2+minsnr5"), (True, "full:l2+minsnr5+v")])
def test_image_weights_and_min_snr_together_equal_the_reference(v_prediction: bool, name: str):
    weights = torch.tensor(NUMBERS[name]["loss_weights"], dtype=torch.float32)
    losses = pair_losses(LossTerms(min_snr_gamma=5, v_prediction=v_prediction), weights)
    assert losses.tolist() == pytest.approx(NUMBERS[name]["per_sample"], rel=1e-5)
    assert losses.mean().item() == pytest.approx(NUMBERS[name]["mean"], rel=1e-5)


@pytest.mark.parametrize("kind", sorted(LOSSES))
@pytest.mark.parametrize("v_prediction", [False, True])
def test_losses_are_finite_at_zero_terminal_snr(kind: str, v_prediction: bool):
    snr = sdxl_schedule(zero_terminal_snr=True).snr[-1:]
    terms = LossTerms(kind=kind, min_snr_gamma=5, v_prediction=v_prediction)
    losses = image_losses(terms, torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.tensor([999]), snr)
    assert snr.item() == 0
    assert torch.isfinite(losses).all()


def test_losses_of_half_precision_predictions_are_computed_in_fp32():
    prediction = torch.full((1, 4, 8, 8), 300.0, dtype=torch.float16)
    losses = image_losses(LossTerms(), prediction, torch.zeros(1, 4, 8, 8), torch.tensor([0]), SNR[:1])
    assert losses.dtype == torch.float32
    assert losses.item() == 90_000


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_gradients_are_finite_where_prediction_equals_target(kind: str):
    prediction = torch.zeros(1, 4, 2, 2, requires_grad=True)
    image_losses(LossTerms(kind=kind), prediction, torch.zeros(1, 4, 2, 2), torch.tensor([0]), SNR[:1]).sum().backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))
