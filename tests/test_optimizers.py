"""Optimizers on the adapter's flat vectors: what they compute, and that they go on bit for bit."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from optimizer_runs import (
    NAMES,
    gradient_of,
    make,
    make_parts,
    rate_groups,
    rate_of,
    settings,
    train,
    vectors,
)
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from engine.adapters.flat import FlatParameters
from engine.errors import MissingPackage, UserError
from engine.optimizer_arguments import ARGUMENTS, arguments_of
from engine.optimizers import OPTIMIZERS, arguments_in_packages, check_device, make_optimizer, pack_state, unpack_state
from engine.updater import Updater

ON_CPU = [name for name in NAMES if not OPTIMIZERS[name].gpu_only]
ALIKE = [name for name in NAMES if "8bit" not in name]  # 8-bit blocks are those of the vector, not of each matrix


def stored(state: tuple[dict[str, torch.Tensor], dict], folder) -> tuple[dict[str, torch.Tensor], dict]:
    """The state after a way through files, as a resume sees it."""
    tensors, meta = state
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "state.safetensors")
    return load_file(folder / "state.safetensors"), json.loads(json.dumps(meta))


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(name: str, tmp_path):
    whole, updater = make(name)
    train(whole, updater, range(14))

    before, updater = make(name)
    start = vectors(before)
    train(before, updater, range(6))
    state = stored(pack_state(updater.optimizer), tmp_path)
    after, updater = make(name)
    for fresh, old in zip(after.values(), before.values(), strict=True):
        fresh.vector.data.copy_(old.vector.data)
    unpack_state(updater.optimizer, *state)
    train(after, updater, range(6, 14))

    assert all(torch.equal(one, other) for one, other in zip(vectors(whole), vectors(after), strict=True))
    assert all(not torch.equal(one, other) for one, other in zip(vectors(whole), start, strict=True))


@pytest.mark.parametrize("name", ALIKE)
def test_views_of_the_flat_vector_are_stepped_like_parameters_of_their_own(name: str):
    """The same class over plain separate tensors, without anything of ours around it."""
    parts, updater = make(name)
    plain = {part: {key: torch.nn.Parameter(view.clone()) for key, view in flat.views().items()}
             for part, flat in parts.items()}  # fmt: skip
    groups = []
    for group in updater.groups:
        made = {"params": list(plain[group.name].values()), "lr": group.rate, "name": group.name}
        if name == "muon":
            groups += [{**made, "params": [each for each in made["params"] if (each.ndim > 1) is matrices],
                        "use_muon": matrices, "weight_decay": 0.01} for matrices in (True, False)]  # fmt: skip
        else:
            groups.append(made)
    groups = [group for group in groups if group["params"]]
    module, _, attribute = OPTIMIZERS[name].source.partition(":")
    optimizer = getattr(importlib.import_module(module), attribute)(groups, **arguments_of(settings(name)))
    for step in range(7):
        if hasattr(optimizer, "train"):
            optimizer.train()
        for part, parameters in plain.items():
            for key, parameter in parameters.items():
                parameter.grad = gradient_of(step, part, key, tuple(parameter.shape))
        optimizer.step()
        if hasattr(optimizer, "eval"):
            optimizer.eval()
    train(parts, updater, range(7))
    for part, flat in parts.items():
        for key, view in flat.views().items():
            assert_close(view, plain[part][key].detach(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ALIKE)  # 8-bit blocks round zero to a tiny number; nobody reads the gaps
def test_gaps_between_matrices_stay_zero(name: str):
    parts, updater = make(name)
    train(parts, updater, range(4))
    for flat in parts.values():
        used = torch.zeros_like(flat.vector, dtype=torch.bool)
        for slot in flat.slots.values():
            slot.of(used).fill_(True)
        assert not flat.vector.detach()[~used].any()


@pytest.mark.parametrize("name", ON_CPU)
def test_the_memory_told_is_the_memory_taken(name: str):
    shapes = {
        f"{number}.{side}": (16, 640) if side == "down" else (640, 16) for number in range(8) for side in ("down", "up")
    }
    flat = FlatParameters(shapes, torch.float32)
    groups = rate_groups({"unet": flat}, {"unet": rate_of(name)}, OPTIMIZERS[name].shaped)
    updater = Updater(
        make_optimizer(name, groups, arguments_of(settings(name))), groups, 0.0, False, torch.device("cpu")
    )
    for step in range(2):
        updater.begin_step(1.0)
        flat.vector.grad = torch.randn(flat.vector.shape, generator=torch.Generator().manual_seed(step))
        updater.update(0)
    tensors, _ = pack_state(updater.optimizer)
    stored_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert stored_bytes / flat.vector.numel() == pytest.approx(OPTIMIZERS[name].memory_bytes, rel=0.15)


def test_the_frozen_arguments_are_those_of_the_packages():
    found = json.loads(json.dumps(arguments_in_packages()))
    frozen = {name: {argument: list(about) for argument, about in known.items()} for name, known in ARGUMENTS.items()}
    assert frozen == found, "run: python -m engine.optimizers"


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "prodigy", "soap"])
def test_packing_what_was_unpacked_gives_the_same(name: str):
    parts, updater = make(name)
    train(parts, updater, range(3))
    tensors, meta = pack_state(updater.optimizer)
    _, fresh = make(name)
    unpack_state(fresh.optimizer, tensors, meta)
    tensors_again, meta_again = pack_state(fresh.optimizer)
    assert meta_again == meta
    assert {key: (value.dtype, value.tolist()) for key, value in tensors_again.items()} == {
        key: (value.dtype, value.tolist()) for key, value in tensors.items()
    }


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "prodigy"])
def test_unpacked_state_is_a_copy(name: str):
    parts, updater = make(name)
    train(parts, updater, range(2))
    tensors, meta = pack_state(updater.optimizer)
    kept = {key: value.clone() for key, value in tensors.items()}
    others, fresh = make(name)
    unpack_state(fresh.optimizer, tensors, meta)
    train(others, fresh, range(2, 4))
    assert all(torch.equal(kept[key], tensors[key]) for key in kept)


@pytest.mark.parametrize("name", ["adamw", "came"])
def test_a_state_of_other_parameters_is_refused(name: str):
    parts, updater = make(name)
    train(parts, updater, range(1))
    flat = FlatParameters({"a.down": (4, 96)}, torch.float32)
    groups = rate_groups({"unet": flat}, {"unet": 1e-3}, OPTIMIZERS[name].shaped)
    other = make_optimizer(name, groups, arguments_of(settings(name)))
    with pytest.raises(UserError, match=r"in 2 groups \(got 1"):
        unpack_state(other, *pack_state(updater.optimizer))


def test_adamw_is_the_published_algorithm():
    """Loshchilov and Hutter 2019, algorithm 2, written out in fp64."""
    flat = FlatParameters({"a": (3,)}, torch.float64)
    flat.vector.data = flat.vector.data.double()
    flat.views()["a"].copy_(torch.tensor([0.5, -2.0, 3.0]))
    groups = rate_groups({"unet": flat}, {"unet": 0.1}, shaped=False)
    numbers = arguments_of(settings("adamw", beta1=0.9, beta2=0.99, epsilon=1e-8, weight_decay=0.01))
    optimizer = make_optimizer("adamw", groups, numbers)
    value, first, second = flat.views()["a"].clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(1, 6):
        gradient = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64) * step
        flat.vector.grad = torch.zeros_like(flat.vector)
        flat.vector.grad[:3] = gradient
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        update = (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-8)
        value = value - 0.1 * update - 0.1 * 0.01 * value
        assert_close(flat.views()["a"], value, rtol=1e-12, atol=1e-12)


def test_adamw_8bit_stays_close_to_adamw():
    exact, updater = make("adamw")
    train(exact, updater, range(20))
    rounded, updater = make("adamw_8bit")
    train(rounded, updater, range(20))
    start = vectors(make_parts())[0]
    moved = (vectors(exact)[0] - start).norm()
    assert (vectors(exact)[0] - vectors(rounded)[0]).norm() < 0.1 * moved


def test_a_missing_package_is_a_sentence(monkeypatch):
    real_import = importlib.import_module

    def broken_import(name: str, *rest):
        if name.startswith("bitsandbytes"):
            raise RuntimeError("libcudart.so.12: cannot open shared object file\nmore lines")
        return real_import(name, *rest)

    monkeypatch.setattr(importlib, "import_module", broken_import)
    with pytest.raises(MissingPackage, match=r"bitsandbytes.*libcudart.*Use adamw") as caught:
        make("adamw_8bit")
    assert "more lines" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in NAMES if OPTIMIZERS[name].gpu_only])
def test_paged_optimizers_are_refused_without_a_gpu(name: str):
    with pytest.raises(UserError, match=f"Use {name.removeprefix('paged_')}"):
        check_device(name, torch.device("cpu"))
    check_device(name, torch.device("cuda"))


def test_numbers_that_an_optimizer_refuses_are_a_sentence():
    with pytest.raises(UserError, match="prodigy refuses these numbers"):
        make("prodigy", extra="beta3=7")


def test_groups_with_different_rates_are_refused_where_there_is_one_rate():
    flats = make_parts()
    groups = rate_groups(flats, {"unet": 1.0, "text_encoder_1": 0.5}, shaped=False)
    with pytest.raises(UserError, match=r"one learning rate \(got 0.5, 1\)"):
        make_optimizer("prodigy", groups, arguments_of(settings("prodigy")))


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adam", "prodigy_plus_schedule_free"])
def test_a_rate_that_was_found_is_the_one_that_is_told(name: str):
    parts, updater = make(name)
    assert updater.rates()["unet"] == pytest.approx(1e-6)
    for flat in parts.values():
        flat.vector.data.zero_()
    for _ in range(8):
        updater.begin_step(0.5)
        for flat in parts.values():
            flat.vector.grad = flat.vector.detach() - 1
        updater.update(0)
    found = updater.optimizer.param_groups[0]["d"]
    assert found > 1e-6
    assert updater.rates()["unet"] == pytest.approx(0.5 * found)


@pytest.mark.parametrize("name", [name for name in NAMES if OPTIMIZERS[name].schedule_free])
def test_between_steps_the_adapter_holds_the_averaged_weights(name: str):
    parts, updater = make(name)
    train(parts, updater, range(8))
    assert not any(group["train_mode"] for group in updater.optimizer.param_groups)
    averaged = vectors(parts)
    updater.begin_step(1.0)
    assert not torch.equal(averaged[0], vectors(parts)[0])


def test_muon_turns_matrices_only():
    shapes = {
        "a.lora_down.weight": (4, 8, 3, 3), "a.lora_up.weight": (30, 4, 1, 1), "b.hada_w1_a": (6, 4),
        "b.lokr_w1": (2, 3), "c.diff": (9, 7),
    }  # fmt: skip
    others = {
        "d.dora_scale": (20, 1), "e.dora_scale": (1, 20), "f.oft_blocks": (4, 8, 8), "g.oft_blocks": (2, 4, 8, 8),
        "h.rescale": (20, 1), "i.weight": (1, 20, 1, 1), "j.diff_b": (20,), "k.lora_down.weight": (1, 20),
    }  # fmt: skip
    flat = FlatParameters({**shapes, **others}, torch.float32)
    groups = rate_groups({"unet": flat}, {"unet": 1e-3}, OPTIMIZERS["muon"].shaped)
    made = make_optimizer("muon", groups, arguments_of(settings("muon")))
    turned = {group["use_muon"]: [tuple(each.shape) for each in group["params"]] for group in made.param_groups}
    assert turned == {True: [*shapes.values()], False: [*others.values()]}
