"""engine/adapters/limits.py: norms of ΔW without building it, and layers that are shrunk to the limit."""

from __future__ import annotations

import pytest
import torch
from adapter_models import small
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from training import small_preset, steps_of, train_here

from engine.adapter_shapes import LIMITED
from engine.adapters.algorithm import Context
from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.limits import NORMS, NormLimit, hadamard_norm, kronecker_norm, product_norm
from engine.errors import PresetError
from engine.preset import Preset


def deltas(adapter: Adapter) -> dict[str, Tensor]:
    """ΔW of each layer, built."""
    return {
        site.target.name: site.how.delta_weight(
            adapter.parameters_of(site.target.name),
            site.target.module.weight,
            Context(site.scale, options=site.options),
        )
        for site in adapter.sites
    }


def adapted(algorithm: str = "lora") -> Adapter:
    models: dict[str, nn.Module] = small()
    adapter = attach(
        {"unet": models["unet"]}, Recipe(algorithm, rank=4, alpha=3, conv_rank=2, conv_alpha=1), device="cpu"
    )
    generator = torch.Generator().manual_seed(1)
    for number, site in enumerate(adapter.sites):
        for view in adapter.parameters_of(site.target.name).values():
            view.copy_(torch.randn(view.shape, generator=generator) * (0.02 + 0.1 * (number % 3)))
    adapter.changed()
    return adapter


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", sorted(LIMITED))
def test_layers_above_the_limit_come_down_to_it_and_the_others_stay(algorithm: str) -> None:
    adapter = adapted(algorithm)
    before = deltas(adapter)
    norms = {name: float(delta.norm()) for name, delta in before.items()}
    limit = 1.01 * sorted(norms.values())[len(norms) // 2]
    bound = NormLimit(adapter, limit)
    bound.apply()
    for name, delta in deltas(adapter).items():
        expected = before[name] * min(1, limit / norms[name])
        torch.testing.assert_close(delta, expected, rtol=1e-4, atol=1e-6)
    told = bound.read()
    assert told is not None
    assert told[0] == sum(norm > limit for norm in norms.values())
    assert told[1] == pytest.approx(sum(min(norm, limit) for norm in norms.values()) / len(norms), rel=1e-4)


@pytest.mark.slow
def test_a_frozen_matrix_is_not_shrunk() -> None:
    adapter = adapted("lora_fa")
    downs = {name: view.clone() for name, view in adapter.tensors().items() if "lora_down" in name}
    NormLimit(adapter, 0.01).apply()
    assert all(torch.equal(adapter.tensors()[name], view) for name, view in downs.items())


def test_the_norms_of_products_are_those_of_the_matrices() -> None:
    left, right = torch.randn(3, 20, 4), torch.randn(3, 4, 30)
    torch.testing.assert_close(product_norm(left, right), (left @ right).flatten(1).norm(dim=1))
    w1, w2_a, w2_b = torch.randn(3, 2, 5), torch.randn(3, 6, 2), torch.randn(3, 2, 7)
    found = kronecker_norm({"lokr_w1": w1, "lokr_w2_a": w2_a, "lokr_w2_b": w2_b})
    expected = torch.stack([torch.kron(w1[at], w2_a[at] @ w2_b[at]).norm() for at in range(3)])
    torch.testing.assert_close(found, expected)
    pair = {f"hada_w{number}_{letter}": part for number in (1, 2) for letter, part in (("a", left), ("b", right))}
    torch.testing.assert_close(hadamard_norm(pair), (left @ right).pow(2).flatten(1).norm(dim=1))


def test_without_a_limit_nothing_is_done_or_told() -> None:
    adapter = adapted()
    before = {name: view.clone() for name, view in adapter.tensors().items()}
    bound = NormLimit(adapter, 0)
    bound.apply()
    assert bound.read() is None
    assert all(torch.equal(view, before[name]) for name, view in adapter.tensors().items())


@pytest.mark.slow
def test_the_limit_never_waits_for_the_device() -> None:
    bound = NormLimit(adapted(), 0.1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        bound._told = torch.zeros(2)
        for layers in bound._sets:
            layers.views = {
                suffix: [torch.empty(view.shape) for view in views] for suffix, views in layers.views.items()
            }
        bound.apply()


@pytest.mark.slow
def test_a_run_keeps_the_limit_and_tells_it(tmp_path) -> None:
    made = train_here(small_preset(tmp_path, run__steps=2, adapter__norm_limit=0.001, optimizer__unet_rate=0.05))
    last = steps_of(made)[-1]
    assert last.shrunk_layers
    assert last.mean_norm is not None
    assert 0 < last.mean_norm <= 0.001 * 1.001


def test_a_limit_for_an_algorithm_without_products_is_refused() -> None:
    assert set(NORMS) == set(LIMITED)
    with pytest.raises(PresetError, match="norms can be limited with lora"):
        Preset().changed({"adapter.algorithm": "full", "adapter.norm_limit": 1})
