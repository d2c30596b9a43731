"""Half-precision weights that are widened when used compute what fp32 copies compute, in less memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from loaded_model import CPU
from torch import nn

from engine.sdxl import frozen
from engine.sdxl.checkpoint import load_text_encoders, load_unet
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.narrow import NarrowConv2d, NarrowLinear, cpu_computes_fast_in, make_narrow


@pytest.fixture(scope="module")
def facts(reduced_model_path: Path) -> ModelFacts:
    return identify(reduced_model_path)


def inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    added = {"text_embeds": torch.randn(1, 512, generator=generator), "time_ids": torch.full((1, 6), 64.0)}
    return {
        "sample": torch.randn(1, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 77, 768, generator=generator),
        "added_cond_kwargs": added,
    }


@pytest.mark.slow
def test_the_unet_predicts_the_same_bit_for_bit_and_gradients_up_to_rounding(facts: ModelFacts):
    results = []
    for keep_narrow in (False, True):
        unet = load_unet(facts, torch.float32, CPU, keep_narrow)
        given = inputs()
        given["encoder_hidden_states"].requires_grad_()
        predicted = unet(**given, return_dict=False)[0]
        predicted.square().sum().backward()
        results.append((predicted.detach(), given["encoder_hidden_states"].grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_gradients_are_the_same_with_checkpointing(facts: ModelFacts):
    unet = load_unet(facts, torch.float32, CPU, keep_narrow=True)
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            unet.train()
            unet.enable_gradient_checkpointing()
        given = inputs()
        given["sample"].requires_grad_()
        unet(**given, return_dict=False)[0].sum().backward()
        found.append(given["sample"].grad)
    assert found[0] is not None and torch.equal(found[0], found[1])


@pytest.mark.slow
def test_the_text_encoders_give_the_same_bit_for_bit(facts: ModelFacts):
    ids = torch.randint(0, 49407, (1, 77), generator=torch.Generator().manual_seed(1))
    ids[0, -1] = 49407
    wide, narrow = (load_text_encoders(facts, torch.float32, CPU, keep) for keep in (False, True))
    assert torch.equal(wide.one(ids).last_hidden_state, narrow.one(ids).last_hidden_state)
    assert torch.equal(wide.two(ids).text_embeds, narrow.two(ids).text_embeds)


@pytest.mark.slow
def test_weights_stay_narrow_views_and_everything_else_is_wide(facts: ModelFacts):
    unet = load_unet(facts, torch.float32, CPU, keep_narrow=True)
    assert unet.dtype == torch.float32
    narrow = [layer for layer in unet.modules() if isinstance(layer, NarrowLinear | NarrowConv2d)]
    assert sum(layer.weight.numel() for layer in narrow) > 0.9 * sum(p.numel() for p in unet.parameters())
    for layer in narrow:
        assert layer.weight.dtype == torch.bfloat16
        assert layer.weight.untyped_storage().nbytes() == facts.size_bytes
    narrow_weights = {id(layer.weight) for layer in narrow}
    others = [parameter for parameter in unet.parameters() if id(parameter) not in narrow_weights]
    assert {parameter.dtype for parameter in others} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_and_its_gradient(dtype: torch.dtype, stride: int):
    wide = nn.Conv2d(6, 4, 3, stride=stride, padding=1, groups=2).requires_grad_(False)
    wide.weight.copy_(wide.weight.to(dtype).float())
    narrow = nn.Conv2d(6, 4, 3, stride=stride, padding=1, groups=2).requires_grad_(False)
    holder = nn.Sequential(narrow)
    narrow.load_state_dict(wide.state_dict())
    narrow.weight.data = wide.weight.to(dtype)
    assert make_narrow(holder, least_numbers=1) == {"0.weight"}
    x = torch.randn(2, 6, 8, 8, requires_grad=True)
    gradients = [torch.autograd.grad(layer(x).square().sum(), x)[0] for layer in (wide, narrow)]
    assert torch.equal(wide(x), narrow(x))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images, height, width, unfolded", [(1, 2, 3, True), (2, 1, 3, True), (2, 2, 3, False)])
def test_a_large_convolution_of_few_pixels_is_a_matrix_product(
    monkeypatch: pytest.MonkeyPatch, bias: bool, images: int, height: int, width: int, unfolded: bool
):
    monkeypatch.setattr(frozen, "_NUMBERS_A_PIXEL", 576 // 6)
    calls: list[torch.Size] = []
    patches = frozen._unfolded
    monkeypatch.setattr(frozen, "_unfolded", lambda x, *more: (calls.append(x.shape), patches(x, *more))[1])
    layer = nn.Conv2d(8, 8, 3, padding=1, bias=bias).requires_grad_(False)
    narrow = nn.Sequential(copy.deepcopy(layer))
    make_narrow(narrow, least_numbers=1)
    x = torch.randn(images, 8, height, width, requires_grad=True)
    factors = torch.randn(images, 8, height, width)
    (wide_gradient,), (gradient,) = (torch.autograd.grad((one(x) * factors).sum(), x) for one in (layer, narrow))
    assert torch.allclose(layer(x), narrow(x), rtol=1e-5, atol=1e-6)
    assert torch.allclose(wide_gradient, gradient, rtol=1e-5, atol=1e-6)
    assert bool(calls) == unfolded


@pytest.mark.slow
def test_state_dicts_keep_their_names(facts: ModelFacts):
    narrow = load_unet(facts, torch.float32, CPU, keep_narrow=True)
    assert list(narrow.state_dict()) == list(load_unet(facts, torch.bfloat16, CPU).state_dict())


def test_fp32_is_fast_on_every_cpu():
    assert cpu_computes_fast_in(torch.float32)
    assert isinstance(cpu_computes_fast_in(torch.bfloat16), bool)
    assert isinstance(cpu_computes_fast_in(torch.float16), bool)
