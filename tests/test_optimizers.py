"""Optimizers learn, know their formula, and go on bit for bit from a saved state."""

from __future__ import annotations

import builtins
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from engine.errors import MissingPackage, UserError
from engine.optimizers import OPTIMIZERS, make_optimizer, pack_state, unpack_state

SETTINGS = {"weight_decay": 0.01, "betas": (0.9, 0.99), "epsilon": 1e-8}
SHAPES = [(96, 64), (5000,), (7,)]  # above and below the size from which bitsandbytes uses 8 bits


def make(name: str, dtype: torch.dtype = torch.float32, shapes: list[tuple[int, ...]] = SHAPES):
    """Parameters from a seed in two groups, and an optimizer over them."""
    generator = torch.Generator().manual_seed(1)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]
    groups = [{"params": parameters[:1], "lr": 1e-2}, {"params": parameters[1:], "lr": 3e-3}]
    return parameters, make_optimizer(name, groups, **SETTINGS)


def train(parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Gradients are a function of step and parameter number alone."""
    for step in steps:
        for number, parameter in enumerate(parameters):
            generator = torch.Generator().manual_seed(1000 * step + number)
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        optimizer.step()


def stored(state: tuple[dict[str, torch.Tensor], dict], folder) -> tuple[dict[str, torch.Tensor], dict]:
    """The state after a way through files, as a resume sees it."""
    tensors, meta = state
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "state.safetensors")
    return load_file(folder / "state.safetensors"), json.loads(json.dumps(meta))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(name: str, dtype: torch.dtype, tmp_path):
    whole, optimizer = make(name, dtype)
    train(whole, optimizer, range(10))

    before, optimizer = make(name, dtype)
    train(before, optimizer, range(6))
    state = stored(pack_state(optimizer), tmp_path)
    after, optimizer = make(name, dtype)
    for fresh, old in zip(after, before, strict=True):
        fresh.data.copy_(old.data)
    unpack_state(optimizer, *state)
    train(after, optimizer, range(6, 10))

    assert all(torch.equal(one, other) for one, other in zip(whole, after, strict=True))
    assert not torch.equal(whole[0], before[0])


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_packing_what_was_unpacked_gives_the_same(name: str):
    parameters, optimizer = make(name)
    train(parameters, optimizer, range(3))
    tensors, meta = pack_state(optimizer)
    _, fresh = make(name)
    unpack_state(fresh, tensors, meta)
    tensors_again, meta_again = pack_state(fresh)
    assert meta_again == meta
    assert {key: (value.dtype, value.tolist()) for key, value in tensors_again.items()} == {
        key: (value.dtype, value.tolist()) for key, value in tensors.items()
    }


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_learning_rates_are_resumed(name: str):
    _, optimizer = make(name)
    optimizer.param_groups[1]["lr"] = 0.125
    _, fresh = make(name)
    unpack_state(fresh, *pack_state(optimizer))
    assert [group["lr"] for group in fresh.param_groups] == [1e-2, 0.125]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_unpacked_state_is_a_copy(name: str):
    parameters, optimizer = make(name)
    train(parameters, optimizer, range(2))
    tensors, meta = pack_state(optimizer)
    kept = {key: value.clone() for key, value in tensors.items()}
    others, fresh = make(name)
    unpack_state(fresh, tensors, meta)
    train(others, fresh, range(2, 4))
    assert all(torch.equal(kept[key], tensors[key]) for key in kept)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_state_of_other_parameters_is_refused(name: str):
    parameters, optimizer = make(name)
    train(parameters, optimizer, range(1))
    _, other = make(name, shapes=SHAPES[:2])
    with pytest.raises(UserError, match=r"3 parameters in 2 groups \(got 2"):
        unpack_state(other, *pack_state(optimizer))


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_optimizers_find_the_minimum(name: str):
    wanted = torch.linspace(-1, 1, 5000)
    parameter = torch.nn.Parameter(torch.zeros(5000))
    optimizer = make_optimizer(
        name, [{"params": [parameter], "lr": 0.05}], weight_decay=0.0, betas=(0.9, 0.99), epsilon=1e-8
    )
    for _ in range(120):
        optimizer.zero_grad()
        ((parameter - wanted) ** 2).sum().backward()
        optimizer.step()
    assert (parameter - wanted).abs().max() < 0.05


def test_adamw_is_the_published_algorithm():
    """Loshchilov and Hutter 2019, algorithm 2, written out in fp64."""
    parameter = torch.nn.Parameter(torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64))
    optimizer = make_optimizer("adamw", [{"params": [parameter], "lr": 0.1}], **SETTINGS)
    value, first, second = parameter.detach().clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(1, 6):
        gradient = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64) * step
        parameter.grad = gradient.clone()
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-8)
        value = value - 0.1 * update - 0.1 * 0.01 * value
        assert_close(parameter.detach(), value, rtol=1e-12, atol=1e-12)


def test_adamw_8bit_needs_a_quarter_of_the_memory():
    parameters, optimizer = make("adamw_8bit", shapes=[(512, 512), (512, 512)])
    train(parameters, optimizer, range(1))
    tensors, _ = pack_state(optimizer)
    stored_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert stored_bytes < 0.28 * sum(2 * 4 * parameter.numel() for parameter in parameters)


def test_adamw_8bit_stays_close_to_adamw():
    exact, optimizer = make("adamw")
    train(exact, optimizer, range(20))
    rounded, optimizer = make("adamw_8bit")
    train(rounded, optimizer, range(20))
    start, _ = make("adamw")
    moved = (exact[0] - start[0]).norm()
    assert (exact[0] - rounded[0]).norm() < 0.1 * moved


def test_a_missing_bitsandbytes_is_a_sentence(monkeypatch):
    real_import = builtins.__import__

    def broken_import(name: str, *rest, **kwargs):
        if name == "bitsandbytes":
            raise RuntimeError("libcudart.so.12: cannot open shared object file\nmore lines")
        return real_import(name, *rest, **kwargs)

    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.setattr(builtins, "__import__", broken_import)
    with pytest.raises(MissingPackage, match=r"bitsandbytes.*libcudart.*Use adamw") as caught:
        make("adamw_8bit")
    assert "more lines" not in str(caught.value)
