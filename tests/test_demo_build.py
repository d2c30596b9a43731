"""The demo's build computes in fewer operations and in two processes: the same as torch and diffusers compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from demo.lean import make_lean
from demo.pair import BETAS, MOST_NORM, Training, train
from demo.shared import Group, load_state, save_state
from demo.tiny_sdxl import SeenWords, new_unet, new_vae
from engine.sdxl.unet import predict


def gradients(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.square().mean().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def same_up_to_rounding(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    most = max(float(value.abs().max()) for value in one.values())
    return one.keys() == other.keys() and all((one[name] - other[name]).abs().max() < 1e-5 * most for name in one)


def test_the_lean_unet_predicts_what_the_unet_of_diffusers_does_and_has_its_gradients():
    torch.manual_seed(0)
    unet = new_unet().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    noisy, rows, pooled = torch.randn(2, 4, 8, 12), torch.randn(2, 77, 72), torch.randn(2, 40)
    asked = (noisy, torch.tensor([10, 900]), rows, pooled, torch.full((2, 6), 128.0))
    usual = predict(unet, *asked)
    expected = gradients(unet, usual)
    make_lean(unet)
    lean = predict(unet, *asked)
    assert torch.allclose(lean, usual, atol=1e-5)
    assert same_up_to_rounding(expected, gradients(unet, lean))


def test_the_lean_vae_shows_what_the_vae_of_diffusers_does_and_has_its_gradients():
    torch.manual_seed(0)
    vae, pixels = new_vae(), torch.rand(1, 3, 32, 32)
    usual = vae(pixels, return_dict=False)[0]
    expected = gradients(vae, usual)
    make_lean(vae)
    lean = vae(pixels, return_dict=False)[0]
    assert torch.allclose(lean, usual, atol=1e-5)
    assert same_up_to_rounding(expected, gradients(vae, lean))


def test_seen_words_have_their_rows_of_the_table_and_others_are_refused():
    table = torch.randn(50, 4)
    seen = SeenWords(table, torch.tensor([3, 7, 49]))
    assert torch.equal(seen(torch.tensor([[49, 3], [7, 7]])), table[torch.tensor([[49, 3], [7, 7]])])
    with pytest.raises(IndexError):
        seen(torch.tensor([4]))


def small_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.Flatten(), nn.Linear(5 * 16, 7), nn.Linear(7, 1)).to(
        memory_format=torch.channels_last  # pyright: ignore[reportCallIssue]
    )


def half_loss(model: nn.Module, step: int, half: int) -> Tensor:
    batch = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(step)) * 2
    return 0.5 * model(batch.chunk(2)[half]).square().mean()


def training_of(model: nn.Module, first: int, last: int) -> Training:
    weights = list(model.parameters())
    groups = [Group.of(weights[:-2], decay=0.1), Group.of(weights[-2:], decay=0.0)]
    return Training(groups, lambda s, h: half_loss(model, s, h), lambda s: 0.01 + 0.001 * s, lambda s: 0.9, first, last)


def test_two_processes_train_as_one_does_with_torchs_adamw_and_clipping():
    pair, alone = small_model(), small_model()
    losses: list[float] = []
    training = training_of(pair, 0, 5)
    train(training, lambda step, loss: losses.append(loss))

    weights = list(alone.parameters())
    groups = [{"params": weights[:-2], "weight_decay": 0.1}, {"params": weights[-2:], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=BETAS)
    averages, norms = [weight.detach().clone() for weight in weights], []
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 + 0.001 * step
        optimizer.zero_grad()
        loss = half_loss(alone, step, 0) + half_loss(alone, step, 1)
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(weights, MOST_NORM)))
        optimizer.step()
        averages = [average.lerp(weight.detach(), 0.1) for average, weight in zip(averages, weights, strict=True)]
        assert losses[step] == pytest.approx(loss.item(), rel=1e-4)
    assert max(norms) > MOST_NORM > min(norms), "the case should hold steps with and without clipping"
    found = [average for group in training.groups for average in group.averaged()]
    for weight, own, average, own_average in zip(weights, pair.parameters(), averages, found, strict=True):
        assert torch.allclose(own, weight, atol=1e-5)
        assert torch.allclose(own_average, average, atol=1e-5)


def test_a_training_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path):
    straight, before, after = small_model(), small_model(), small_model()
    train(training_of(straight, 0, 4), lambda step, loss: None)
    halted = training_of(before, 0, 2)
    train(halted, lambda step, loss: None)
    save_state(tmp_path / "state.pt", halted.groups, 2)
    resumed = training_of(after, 2, 4)
    assert load_state(tmp_path / "state.pt", resumed.groups) == 2
    train(resumed, lambda step, loss: None)
    assert all(torch.equal(one, two) for one, two in zip(straight.parameters(), after.parameters(), strict=True))
