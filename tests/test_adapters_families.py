"""engine/adapters: every algorithm's forward is the layer with W + ΔW, its gradients are exact, ΔW starts at zero."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from engine.adapter_shapes import SHAPES, Options, Place, butterfly_factors, factors_of, trained_count
from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Context
from engine.adapters.layer import FrozenLayer, Layer, frozen_layer
from engine.adapters.site import weight_shape

WIDTHS = st.integers(1, 13)
VARIANTS: dict[str, tuple[str, Options]] = {
    **{name: (name, Options()) for name in ADAPTERS},
    "dora on outputs": ("dora", Options(dora_norm="output")),
    "lokr decomposed": ("lokr", Options(decompose_both=True)),
    "lokr whole": ("lokr", Options(full_matrix=True)),
    "lokr factor": ("lokr", Options(factor=3)),
    "oft rescaled": ("oft", Options(rescaled=True)),
    "oft constrained": ("oft", Options(constraint=0.01)),
    "boft rescaled": ("boft", Options(rescaled=True, constraint=0.02)),
    "ia3 on inputs": ("ia3", Options(on_input=True)),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def place_of(module: Layer, rank: int, options: Options) -> Place:
    return Place(weight_shape(module), rank, module.bias is not None, options)


def numbers(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random parameters; magnitudes are positive."""
    found = {suffix: randn(*shape, seed=at) for at, (suffix, shape) in enumerate(shapes.items())}
    return {suffix: tensor.abs() + 0.5 if suffix == "dora_scale" else tensor for suffix, tensor in found.items()}


def check_forward_is_delta(variant: str, module: Layer, x: Tensor, rank: int, multiplier: float) -> None:
    """Directly, over another adapter (where W cannot be read), and on a layer with the changed weight and bias."""
    name, options = VARIANTS[variant]
    how, module = ADAPTERS[name], module.double().requires_grad_(False)
    shapes = how.shapes(place_of(module, rank, options))
    if not shapes:  # BOFT cannot split these outputs
        return
    parameters, layer = numbers(shapes), frozen_layer(module)
    covered = FrozenLayer(module, module.forward, is_plain=False)
    context = Context(0.7, multiplier, options, None, how.constants(layer, parameters))
    over = dataclasses.replace(context, constants=how.constants(covered, parameters))
    plain, stacked = how.forward(x, layer, parameters, context), how.forward(x, covered, parameters, over)
    bias = how.delta_bias(parameters, context)
    module.weight.add_(how.delta_weight(parameters, module.weight.clone(), context))
    if bias is not None:
        assert module.bias is not None
        module.bias.add_(bias)
    torch.testing.assert_close(plain, module(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(stacked, module(x), rtol=1e-10, atol=1e-10)


MULTIPLIERS = st.sampled_from([1.0, 0.5, -2.0])


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    sizes=st.tuples(WIDTHS, WIDTHS, WIDTHS),
    lead=st.lists(st.integers(1, 3), max_size=2),
    bias=st.booleans(),
    multiplier=MULTIPLIERS,
)
@settings(max_examples=25, deadline=None)
def test_a_linear_with_an_adapter_is_the_linear_with_the_delta(
    variant: str, sizes: tuple[int, int, int], lead: list[int], bias: bool, multiplier: float
) -> None:
    inputs, outputs, rank = sizes
    check_forward_is_delta(variant, nn.Linear(inputs, outputs, bias), randn(*lead, inputs, seed=9), rank, multiplier)


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    sizes=st.tuples(WIDTHS, WIDTHS, st.integers(1, 5)),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 1]),
    multiplier=MULTIPLIERS,
)
@settings(max_examples=25, deadline=None)
def test_a_convolution_with_an_adapter_is_the_convolution_with_the_delta(
    variant: str, sizes: tuple[int, int, int], kernel: int, stride: int, padding: int, multiplier: float
) -> None:
    module = nn.Conv2d(sizes[0], sizes[1], kernel, stride, padding)
    check_forward_is_delta(variant, module, randn(2, sizes[0], 6, 5, seed=9), sizes[2], multiplier)


@pytest.mark.parametrize("module", [nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.LayerNorm(6, bias=False)])
def test_a_norm_with_differences_is_the_norm_with_the_delta(module: Layer) -> None:
    x = randn(2, 5, 6, seed=9) if isinstance(module, nn.LayerNorm) else randn(2, 6, 4, 3, seed=9)
    check_forward_is_delta("full", module, x, 1, 0.5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kernel", [0, 1, 3])
def test_nothing_changes_at_the_start(variant: str, kernel: int) -> None:
    name, options = VARIANTS[variant]
    how = ADAPTERS[name]
    module = (nn.Conv2d(6, 12, kernel, padding=1) if kernel else nn.Linear(6, 12)).double().requires_grad_(False)
    layer = frozen_layer(module)
    shapes = how.shapes(place_of(module, 6, options))
    parameters = {suffix: torch.full(shape, 7.0) for suffix, shape in shapes.items()}
    how.init(seeded(1), parameters, layer)
    exact = {suffix: tensor.double() for suffix, tensor in parameters.items()}
    context = Context(0.7, 1.0, options, None, how.constants(layer, exact))
    x = randn(2, 6, 4, 4) if kernel else randn(2, 6)
    # start values are fp32, and so is a norm of DoRA's
    torch.testing.assert_close(how.forward(x, layer, exact, context), module(x), rtol=1e-6, atol=1e-6)
    assert how.delta_weight(exact, module.weight, context).abs().max() < 1e-6
    assert not any(parameters[suffix].any() for suffix in shapes if suffix in how.STARTS_ZERO)
    assert all(parameters[suffix].any() for suffix in shapes if suffix not in how.STARTS_ZERO)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if not variant.startswith("dora")])
@pytest.mark.parametrize("kernel", [0, 3])
def test_gradients_are_exact(variant: str, kernel: int) -> None:
    name, options = VARIANTS[variant]
    how = ADAPTERS[name]
    module = (nn.Conv2d(4, 6, kernel, padding=1) if kernel else nn.Linear(4, 6)).double().requires_grad_(False)
    layer = frozen_layer(module)
    shapes = how.shapes(place_of(module, 6, options))
    values = {suffix: (0.3 * tensor).requires_grad_() for suffix, tensor in numbers(shapes).items()}
    x = (randn(2, 4, 3, 2, seed=9) if kernel else randn(3, 4, seed=9)).requires_grad_()

    def forward(x: Tensor, *tensors: Tensor) -> Tensor:
        return how.forward(x, layer, dict(zip(shapes, tensors, strict=True)), Context(0.7, 1.0, options))

    assert torch.autograd.gradcheck(forward, [x, *values.values()])


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("kernel", [0, 3])
def test_dora_s_gradient_takes_the_norm_as_a_constant(side: str, kernel: int) -> None:
    """Against the paper's equation 11 written openly: ‖V‖ detached."""
    how, options = ADAPTERS["dora"], Options(dora_norm=side)  # pyright: ignore[reportArgumentType]
    module = (nn.Conv2d(4, 6, kernel, padding=1) if kernel else nn.Linear(4, 6)).double().requires_grad_(False)
    parameters = numbers(how.shapes(place_of(module, 2, options)))
    leaves = [tensor.requires_grad_() for tensor in parameters.values()]
    x = randn(2, 4, 3, 2, seed=9) if kernel else randn(3, 4, seed=9)
    layer = frozen_layer(module)
    context = Context(0.7, 1.0, options, None, how.constants(layer, parameters))
    whole = module.weight + ADAPTERS["lora"].delta_weight(parameters, module.weight, context)
    norm = whole.detach().flatten(2) if kernel else whole.detach()[:, :, None]
    norm = norm.square().sum((0, 2) if side == "input" else (1, 2)).sqrt()
    weight = whole * parameters["dora_scale"] / norm.view(parameters["dora_scale"].shape)
    y = functional.conv2d(x, weight, module.bias, padding=1) if kernel else functional.linear(x, weight, module.bias)
    expected = torch.autograd.grad(y.square().sum(), leaves)
    got = torch.autograd.grad(how.forward(x, layer, parameters, context).square().sum(), leaves)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------- what papers and other programs' files say of single algorithms


def test_loha_s_scale_is_in_its_delta_once() -> None:
    """A LoHa of twice the alpha has twice the delta, in the built ΔW as in the forward."""
    how, module = ADAPTERS["loha"], nn.Linear(5, 4, bias=False).double().requires_grad_(False)
    parameters, x = numbers(how.shapes(Place((4, 5), 3))), randn(2, 5, seed=9)
    one, two = (how.delta_weight(parameters, module.weight, Context(scale)) for scale in (0.5, 1.0))
    torch.testing.assert_close(2 * one, two)
    change = how.forward(x, frozen_layer(module), parameters, Context(0.5)) - module(x)
    torch.testing.assert_close(change, functional.linear(x, one))


def test_lokr_with_two_whole_factors_has_no_scale() -> None:
    how = ADAPTERS["lokr"]
    whole = numbers(how.shapes(Place((6, 6), 3, options=Options(full_matrix=True))))
    low = numbers(how.shapes(Place((36, 36), 1)))
    assert set(whole) == {"lokr_w1", "lokr_w2"}
    assert set(low) == {"lokr_w1", "lokr_w2_a", "lokr_w2_b"}
    for parameters, factor in ((whole, 1.0), (low, 0.25)):
        size = 36 if parameters is low else 6
        deltas = [how.delta_weight(parameters, torch.empty(size, size), Context(scale)) for scale in (1.0, 0.25)]
        torch.testing.assert_close(deltas[1], factor * deltas[0])


@given(width=st.integers(2, 40), rank=st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_oft_turns_without_stretching(width: int, rank: int) -> None:
    for name in ("oft", "boft"):
        how = ADAPTERS[name]
        shapes = how.shapes(Place((width, 3), rank))
        if shapes:
            weight = randn(width, 3, seed=1)
            turned = weight + how.delta_weight(numbers(shapes), weight, Context())
            torch.testing.assert_close(turned.t() @ turned, weight.t() @ weight)


def test_oft_s_constraint_holds_and_a_file_holds_what_is_left_of_it() -> None:
    how, place = ADAPTERS["oft"], Place((12, 3), 4, options=Options(constraint=0.05))
    parameters, weight = numbers(how.shapes(place)), randn(12, 3, seed=1)
    context = Context(options=place.options)
    saved = how.for_file(parameters, place)
    skew = saved["oft_blocks"] - saved["oft_blocks"].mT
    assert skew.norm() == pytest.approx(0.05 * 12)
    free = how.delta_weight(saved, weight, Context())
    torch.testing.assert_close(free, how.delta_weight(parameters, weight, context))


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.74, 0.999])
def test_dylora_trains_the_first_ranks_only_at_the_scale_of_that_rank(draw: float) -> None:
    how, module = ADAPTERS["dylora"], nn.Linear(5, 7).double().requires_grad_(False)
    gate = how.gate(8, Options(block_size=2), draw, torch.zeros(1))
    assert gate is not None
    active = 2 * (1 + math.floor(draw * 4))
    parameters = numbers(how.shapes(Place((7, 5), 8)))
    leaves = [tensor.requires_grad_() for tensor in parameters.values()]
    y = how.forward(randn(3, 5, seed=9), frozen_layer(module), parameters, Context(0.5, gate=gate))
    down, up = torch.autograd.grad(y.square().sum(), leaves)
    assert [bool(row.any()) for row in down] == [at < active for at in range(8)]
    assert [bool(column.any()) for column in up.t()] == [at < active for at in range(8)]
    cut = {"lora_down.weight": leaves[0][:active], "lora_up.weight": leaves[1][:, :active]}
    alone = ADAPTERS["lora"].forward(randn(3, 5, seed=9), frozen_layer(module), cut, Context(0.5 * 8 / active))
    torch.testing.assert_close(y, alone)


def test_dylora_draws_every_block_alike() -> None:
    how = ADAPTERS["dylora"]
    gates = [how.gate(6, Options(block_size=2), draw / 300, torch.zeros(1)) for draw in range(300)]
    counts = [sum(int((gate > 0).sum()) == size for gate in gates if gate is not None) for size in (2, 4, 6)]
    assert counts == [100, 100, 100]


def test_tlora_s_ranks_grow_as_the_noise_falls() -> None:
    gate = ADAPTERS["tlora"].gate(8, Options(min_rank=2), 0.0, torch.tensor([999, 750, 500, 1, 0]))
    assert gate is not None
    assert gate.sum(1).tolist() == [2, 3, 5, 7, 8]
    assert all(row.tolist() == sorted(row.tolist(), reverse=True) for row in gate)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 5), (3, 5, 4, 4)])
def test_tlora_s_mask_is_for_each_image(shape: tuple[int, ...]) -> None:
    how = ADAPTERS["tlora"]
    conv = len(shape) == 4
    module = (nn.Conv2d(5, 7, 3, padding=1) if conv else nn.Linear(5, 7)).double().requires_grad_(False)
    parameters, x = numbers(how.shapes(place_of(module, 4, Options()))), randn(*shape, seed=9)
    gate = how.gate(4, Options(min_rank=1), 0.0, torch.tensor([999, 400, 0]))
    assert gate is not None
    together = how.forward(x, frozen_layer(module), parameters, Context(0.5, gate=gate))
    for at, row in enumerate(gate):
        single = how.forward(x[at : at + 1], frozen_layer(module), parameters, Context(0.5, gate=row))
        torch.testing.assert_close(together[at : at + 1], single)


def test_tlora_starts_with_orthogonal_rows() -> None:
    parameters = {suffix: torch.empty(shape) for suffix, shape in SHAPES["tlora"](Place((6, 30), 4)).items()}
    ADAPTERS["tlora"].init(seeded(1), parameters, frozen_layer(nn.Linear(1, 1).requires_grad_(False)))
    down = parameters["lora_down.weight"]
    torch.testing.assert_close(down @ down.t(), torch.eye(4) / 3)
    assert not parameters["lora_up.weight"].any()


@given(width=st.integers(1, 3000), factor=st.integers(-1, 70))
def test_a_split_multiplies_to_the_width(width: int, factor: int) -> None:
    small, large = factors_of(width, factor)
    assert small * large == width
    assert small <= large


@pytest.mark.parametrize(
    ("width", "factor", "split"),
    [(127, 4, (1, 127)), (128, -1, (8, 16)), (250, 8, (5, 50)), (360, 8, (8, 45)), (1024, 16, (16, 64))],
)
def test_splits_are_lycoris_s(width: int, factor: int, split: tuple[int, int]) -> None:
    assert factors_of(width, factor) == split


@given(width=st.integers(1, 3000), size=st.integers(1, 70))
def test_a_butterfly_has_an_even_size_and_a_power_of_two_of_blocks(width: int, size: int) -> None:
    found, blocks = butterfly_factors(width, size)
    if found:
        assert found * blocks == width
        assert found % 2 == 0
        assert found <= size
        assert blocks & (blocks - 1) == 0


def test_lora_fa_counts_only_what_is_trained() -> None:
    assert trained_count("lora_fa", Place((7, 5), 4)) == 28
    assert trained_count("lora", Place((7, 5), 4)) == 48
