"""engine/adapters/lora.py, fused.py: forward(x) is x through W + ΔW, gradients are exact, start values are kohya's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from engine.adapter_shapes import Place
from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Context
from engine.adapters.fused import low_rank_linear
from engine.adapters.layer import FrozenLayer, frozen_layer
from engine.adapters.lora import DOWN, UP

WIDTHS = st.integers(1, 9)
SCALES = st.sampled_from([0.25, 0.5, 1.0, -2.0])

# What needs numbers of its layer, or changes the bias too, is proven with them in test_adapters_families.py
PLAIN = [name for name in ADAPTERS if name not in ("dora", "boft", "full")]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def check_forward_is_delta(name: str, module: nn.Linear | nn.Conv2d, x: Tensor, rank: int, scale: float) -> None:
    algorithm = ADAPTERS[name]
    module = module.double().requires_grad_(False)
    shapes = algorithm.shapes(Place(tuple(module.weight.shape), rank))
    parameters = {suffix: randn(*shape, seed=place) for place, (suffix, shape) in enumerate(shapes.items())}
    context = Context(scale)
    fused = algorithm.forward(x, frozen_layer(module), parameters, context)
    over_another = algorithm.forward(x, FrozenLayer(module, module.forward, is_plain=False), parameters, context)
    module.weight.add_(algorithm.delta_weight(parameters, module.weight, context))
    torch.testing.assert_close(fused, module(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(over_another, module(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", PLAIN)
@given(
    sizes=st.tuples(WIDTHS, WIDTHS, WIDTHS),
    lead=st.lists(st.integers(1, 4), max_size=3),
    bias=st.booleans(),
    scale=SCALES,
)
def test_a_linear_with_an_adapter_is_the_linear_with_the_delta(
    name: str, sizes: tuple[int, int, int], lead: list[int], bias: bool, scale: float
) -> None:
    in_width, out_width, rank = sizes
    check_forward_is_delta(name, nn.Linear(in_width, out_width, bias), randn(*lead, in_width, seed=9), rank, scale)


@pytest.mark.parametrize("name", PLAIN)
@given(
    sizes=st.tuples(WIDTHS, WIDTHS, WIDTHS),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 1]),
    scale=SCALES,
)
def test_a_convolution_with_an_adapter_is_the_convolution_with_the_delta(
    name: str, sizes: tuple[int, int, int], kernel: int, stride: int, padding: int, scale: float
) -> None:
    module = nn.Conv2d(sizes[0], sizes[1], kernel, stride, padding)
    check_forward_is_delta(name, module, randn(2, sizes[0], 6, 5, seed=9), sizes[2], scale)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_the_fused_linear_are_exact(bias: bool) -> None:
    weight, offset = randn(5, 4, seed=1), randn(5, seed=2) if bias else None
    inputs = [randn(2, 3, 4, seed=3), randn(2, 4, seed=4), randn(5, 2, seed=5)]
    for tensor in inputs:
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, down, up: low_rank_linear(x, weight, offset, down, up, 0.7), inputs)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
def test_each_gradient_is_right_without_the_others(wanted: tuple[int, ...]) -> None:
    weight = randn(5, 4, seed=1)
    inputs = [randn(3, 4, seed=3), randn(2, 4, seed=4), randn(5, 2, seed=5)]
    for index in wanted:
        inputs[index].requires_grad_()
    leaves = [inputs[index] for index in wanted]
    fused = low_rank_linear(inputs[0], weight, None, inputs[1], inputs[2], 0.7)
    plain = functional.linear(inputs[0], weight + 0.7 * inputs[2] @ inputs[1])
    expected = torch.autograd.grad(plain.pow(2).sum(), leaves)
    torch.testing.assert_close(torch.autograd.grad(fused.pow(2).sum(), leaves), expected)


def test_a_layer_used_twice_and_checkpointed_gives_the_same_gradients() -> None:
    weight, down, up = randn(4, 4, seed=1), randn(2, 4, seed=2).requires_grad_(), randn(4, 2, seed=3).requires_grad_()
    x = randn(3, 4, seed=4).requires_grad_()

    def block(h: Tensor) -> Tensor:
        return low_rank_linear(torch.tanh(low_rank_linear(h, weight, None, down, up, 0.5)), weight, None, down, up, 0.5)

    direct = torch.autograd.grad(block(x).sum(), [x, down, up])
    again = checkpoint(block, x, use_reentrant=False)
    assert isinstance(again, Tensor)
    torch.testing.assert_close(torch.autograd.grad(again.sum(), [x, down, up]), direct, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype) -> None:
    shapes = [(7, 32), (48, 32), (48,), (4, 32), (48, 4)]
    x, weight, bias, down, up = ((randn(*shape, seed=place) / 4).to(dtype) for place, shape in enumerate(shapes))
    got = low_rank_linear(x, weight, bias, down, up, 0.5)
    expected = functional.linear(x.double(), weight.double() + 0.5 * up.double() @ down.double(), bias.double())
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("shape", "fan_in"), [((64, 100), 100), ((64, 10, 3, 3), 90)])
def test_down_starts_kaiming_uniform_and_up_zero(shape: tuple[int, ...], fan_in: int) -> None:
    algorithm = ADAPTERS["lora"]
    parameters = {suffix: torch.full(size, 7.0) for suffix, size in algorithm.shapes(Place(shape, 40)).items()}
    algorithm.init(seeded(1), parameters, frozen_layer(nn.Linear(1, 1).requires_grad_(False)))
    reference = torch.empty_like(parameters[DOWN])
    nn.init.kaiming_uniform_(reference, a=math.sqrt(5), generator=seeded(1))
    torch.testing.assert_close(parameters[DOWN], reference)
    assert parameters[DOWN].abs().max() <= 1 / math.sqrt(fan_in)
    assert not parameters[UP].any()
    assert not algorithm.delta_weight(parameters, torch.empty(shape), Context()).any()
