"""Losses, Huber thresholds and min-SNR weights equal the reference."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from engine.losses import (
    LOSSES,
    THRESHOLDS,
    ImageWeights,
    LossTerms,
    debiased_weights,
    image_losses,
    loss_terms,
    min_snr_weights,
    p2_weights,
    scaled_v_weights,
    soft_min_snr_weights,
    timestep_weights,
    v_like_weights,
)
from engine.sdxl.noise import sdxl_schedule
from engine.sections.loss import Loss

FIGURES = load_file(REFERENCE / "loss.safetensors")
NUMBERS = json.loads((REFERENCE / "loss.json").read_text(encoding="utf-8"))
TIMESTEPS = torch.arange(1000)
SNR = sdxl_schedule().snr


def pair_losses(terms: LossTerms, weights: torch.Tensor | None = None) -> torch.Tensor:
    timesteps = FIGURES["pair_timesteps"]
    return image_losses(
        terms,
        FIGURES["pair_pred"],
        FIGURES["pair_target"],
        timesteps,
        FIGURES["all_snr"][timesteps],
        ImageWeights(weights),
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


def test_image_weights_and_debiased_estimation_together_equal_the_reference():
    figures = NUMBERS["full:l2+debiased"]
    losses = pair_losses(LossTerms(debiased=True), torch.tensor(figures["loss_weights"], dtype=torch.float32))
    assert losses.tolist() == pytest.approx(figures["per_sample"], rel=1e-5)
    assert losses.mean().item() == pytest.approx(figures["mean"], rel=1e-5)


@pytest.mark.parametrize(("v_prediction", "suffix"), [(False, "eps"), (True, "v")])
def test_debiased_weights_equal_the_reference(v_prediction: bool, suffix: str):
    assert_close(debiased_weights(SNR, v_prediction), FIGURES[f"debiased_{suffix}"], rtol=1e-5, atol=0)


def test_the_weights_of_a_noise_loss_on_velocities_equal_the_reference():
    assert_close(scaled_v_weights(SNR), FIGURES["scale_v_pred_loss_like_noise_pred"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_v_like_weights_equal_the_reference(strength: float):
    assert_close(v_like_weights(SNR, strength), FIGURES[f"v_pred_like_loss_{strength}"], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("post_process_minsnr5_debiased_eps", LossTerms(min_snr_gamma=5, debiased=True)),
        (
            "post_process_minsnr5_v_scale_like",
            LossTerms(min_snr_gamma=5, scale_v_like_noise=True, v_prediction=True),
        ),
    ],
)
def test_several_weightings_multiply_as_in_the_reference(name: str, terms: LossTerms):
    product = torch.ones(1000)
    for weights in timestep_weights(terms, SNR):
        product = product * weights
    assert_close(product, FIGURES[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
@pytest.mark.parametrize("schedule", ["constant", "exponential"])
def test_the_huber_scale_multiplies_the_threshold_after_its_schedule(kind: str, schedule: str):
    timesteps = FIGURES["pair_timesteps"]
    difference = FIGURES["pair_pred"] - FIGURES["pair_target"]
    threshold = FIGURES[f"huber_c_{schedule}_0.1_scale2"][timesteps].view(-1, 1, 1, 1)
    wanted = LOSSES[kind](difference, torch.zeros_like(difference), threshold).mean(dim=(1, 2, 3))
    ours = pair_losses(LossTerms(kind=kind, huber_schedule=schedule, huber_scale=2.0))
    assert_close(ours, wanted, rtol=1e-5, atol=0)


def test_the_huber_scale_leaves_the_schedule_snr_alone_as_in_the_reference():
    assert torch.equal(FIGURES["huber_c_snr_0.1_scale2"], FIGURES["huber_c_snr_0.1"])
    plain = pair_losses(LossTerms(kind="huber", huber_schedule="snr"))
    assert torch.equal(pair_losses(LossTerms(kind="huber", huber_schedule="snr", huber_scale=2.0)), plain)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_soft_min_snr_is_the_weight_of_the_paper_on_the_clean_image(gamma: float):
    on_image = 1.0 / (1.0 / SNR + 1.0 / gamma)
    assert_close(soft_min_snr_weights(SNR, gamma, v_prediction=False), on_image / SNR, rtol=1e-5, atol=0)
    assert_close(soft_min_snr_weights(SNR, gamma, v_prediction=True), on_image / (SNR + 1), rtol=1e-5, atol=0)


def test_soft_min_snr_lies_below_min_snr_and_meets_it_far_from_the_bend():
    soft, hard = soft_min_snr_weights(SNR, 5, False), min_snr_weights(SNR, 5, False)
    assert (soft < hard).all()
    assert soft[0] / hard[0] > 0.99 and soft[-1] / hard[-1] > 0.99


def test_p2_weights_are_those_of_the_paper():
    assert_close(p2_weights(SNR, 1.0, 1.0, v_prediction=False), 1 / (1 + SNR), rtol=1e-6, atol=0)
    assert_close(p2_weights(SNR, 0.5, 2.0, v_prediction=False), 1 / (2 + SNR).sqrt(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["min_snr_gamma", "soft_min_snr_gamma", "p2_gamma"])
def test_a_weighting_counts_the_same_error_alike_whatever_is_predicted(name: str):
    """The velocity's squared error is (s + 1) / s times the noise's at the same noised input."""
    (noise_weights,) = timestep_weights(replace(LossTerms(), **{name: 0.7}), SNR)
    (velocity_weights,) = timestep_weights(replace(LossTerms(v_prediction=True), **{name: 0.7}), SNR)
    assert_close(velocity_weights * (SNR + 1) / SNR, noise_weights, rtol=1e-5, atol=0)


def test_a_mask_multiplies_each_element_before_the_mean_and_its_area_does_not_divide():
    prediction, mask = torch.full((2, 4, 4, 6), 2.0), torch.ones(2, 1, 4, 6)
    mask[1, :, :, 3:] = 0.5
    losses = image_losses(
        LossTerms(), prediction, torch.zeros_like(prediction), torch.tensor([5, 5]), SNR[:2], ImageWeights(None, mask)
    )
    assert losses.tolist() == [4.0, 3.0]


def test_mask_image_weight_and_prior_weight_multiply():
    prediction, mask = torch.ones(3, 4, 2, 2), torch.zeros(3, 1, 2, 2)
    mask[:, :, 0] = 1
    weights = ImageWeights(torch.tensor([1.0, 0.25, 0.0]), mask)
    losses = image_losses(
        LossTerms(), prediction, torch.zeros_like(prediction), torch.tensor([1, 1, 1]), SNR[:3], weights
    )
    assert losses.tolist() == [0.5, 0.125, 0.0]


def test_nothing_outside_a_black_mask_reaches_the_gradient():
    prediction, mask = torch.ones(1, 4, 2, 2, requires_grad=True), torch.zeros(1, 1, 2, 2)
    mask[..., 0] = 1
    target = torch.zeros(1, 4, 2, 2)
    image_losses(LossTerms(), prediction, target, torch.tensor([1]), SNR[:1], ImageWeights(None, mask)).sum().backward()
    assert prediction.grad is not None
    assert (prediction.grad[..., 0] != 0).all() and (prediction.grad[..., 1] == 0).all()


def test_the_terms_are_the_settings_of_the_preset():
    settings = Loss(kind="huber", huber_scale=2, p2_gamma=1, p2_k=3, v_like=0.5, debiased=True, soft_min_snr_gamma=4)
    terms = loss_terms(settings, v_prediction=True)
    assert (terms.kind, terms.huber_scale, terms.p2_gamma, terms.p2_k) == ("huber", 2, 1, 3)
    assert (terms.v_like, terms.debiased, terms.soft_min_snr_gamma, terms.v_prediction) == (0.5, True, 4, True)


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


@pytest.mark.parametrize("v_prediction", [False, True])
def test_a_loss_with_everything_on_never_waits_for_the_device(v_prediction: bool):
    """Tensors without values: reading one on the host raises."""
    terms = LossTerms("smooth_l1", 0.1, "exponential", 2.0, 5.0, 4.0, 1.0, 1.0, v_prediction, 0.5, True, v_prediction)
    with FakeTensorMode():
        weights = ImageWeights(torch.ones(2), torch.ones(2, 1, 8, 8))
        timesteps, snr = torch.randint(0, 1000, (2,)), torch.rand(2)
        found = image_losses(terms, torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), timesteps, snr, weights)
    assert found.shape == (2,)
