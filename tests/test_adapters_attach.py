"""engine/adapters: which layers, under which names, with which start values; on, off and away again."""

from __future__ import annotations

import json

import pytest
import torch
from adapter_models import full_size, predict, run_text, run_unet, small
from conftest import REFERENCE
from torch import nn

from engine.adapters.algorithm import Context
from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.flat import total_norm
from engine.errors import ModelError

KEYS = json.loads((REFERENCE / "lora_keys.json").read_text())


def shapes_of(adapter: Adapter) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for site in adapter.sites:
        parameters = adapter.parameters_of(site.target.name)
        found[site.target.name] = [list(parameter.shape) for parameter in parameters.values()]
    return found


def randomize(adapter: Adapter, size: float = 0.05) -> None:
    """Give every matrix random numbers, so that the adapter does something."""
    generator = torch.Generator().manual_seed(3)
    values = {name: torch.randn(view.shape, generator=generator) * size for name, view in adapter.tensors().items()}
    adapter.load_tensors(values)


@pytest.fixture(scope="module")
def sdxl() -> dict[str, nn.Module]:
    return full_size()


@pytest.mark.slow
def test_names_and_shapes_on_full_size_sdxl_are_those_of_the_reference(sdxl: dict[str, nn.Module]) -> None:
    adapter = attach(sdxl, Recipe(rank=8, alpha=4), device="cpu")
    assert shapes_of(adapter) == KEYS["linear"]
    assert len(adapter.sites) == 986
    assert adapter.parameter_count == 28_504_064
    adapter.detach()


@pytest.mark.slow
def test_a_conv_rank_adds_the_reference_s_66_layers_and_only_to_its_own_adapter(sdxl: dict[str, nn.Module]) -> None:
    conv = attach(sdxl, Recipe(rank=8, alpha=4, conv_rank=4, conv_alpha=1), device="cpu")
    assert shapes_of(conv) == KEYS["linear"] | KEYS["conv_rank_adds"]
    assert {(site.rank, site.alpha) for site in conv.sites if site.target.is_conv} == {(4, 1)}
    assert {(site.rank, site.alpha) for site in conv.sites if not site.target.is_conv} == {(8, 4)}
    conv.detach()
    plain = attach({"unet": sdxl["unet"]}, Recipe(rank=8, alpha=4), device="cpu")
    assert len(plain.sites) == 722
    plain.detach()


@pytest.mark.slow
def test_start_values_depend_on_seed_and_name_only() -> None:
    models = small()
    whole = attach(models, Recipe(rank=4, seed=1), device="cpu")
    part = attach({"unet": small(seed=9)["unet"]}, Recipe(rank=4, conv_rank=2, seed=1), device="cpu")
    other = attach({"unet": small()["unet"]}, Recipe(rank=4, seed=2), device="cpu")
    name = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.lora_down.weight"
    assert torch.equal(whole.tensors()[name], part.tensors()[name])
    assert not torch.equal(whole.tensors()[name], other.tensors()[name])
    downs = [view for key, view in whole.tensors().items() if key.endswith("down.weight") and view.shape == (4, 64)]
    assert len({tuple(view.flatten().tolist()) for view in downs}) == len(downs)


@pytest.mark.slow
def test_a_new_adapter_changes_nothing_and_a_detached_one_leaves_nothing() -> None:
    models = small()
    before = predict(models)
    names = {part: list(model.state_dict()) for part, model in models.items()}
    adapter = attach(models, Recipe(rank=4, conv_rank=2), device="cpu")
    torch.testing.assert_close(predict(models), before, rtol=0, atol=1e-6)
    randomize(adapter)
    changed = predict(models)
    assert (changed - before).abs().max() > 0.01
    with adapter.disabled():
        assert torch.equal(predict(models), before)
    assert torch.equal(predict(models), changed)
    adapter.multiplier = 0.0
    assert torch.equal(predict(models), before)
    assert {part: list(model.state_dict()) for part, model in models.items()} == names
    adapter.detach()
    adapter.detach()
    assert torch.equal(predict(models), before)
    assert not any("forward" in module.__dict__ for model in models.values() for module in model.modules())


@pytest.mark.slow
def test_the_model_with_an_adapter_is_the_model_with_the_deltas_in_its_weights() -> None:
    models = small(dtype=torch.float64)
    adapter = attach(models, Recipe(rank=4, alpha=2, conv_rank=3, conv_alpha=1.5), device="cpu")
    randomize(adapter, 0.2)
    adapter.multiplier = 0.7
    expected = predict(models)
    adapter.detach()
    for site in adapter.sites:
        parameters = adapter.parameters_of(site.target.name)
        parameters = {suffix: parameter.double() for suffix, parameter in parameters.items()}
        site.target.module.weight.data += site.how.delta_weight(
            parameters, site.target.module.weight, Context(site.scale, 0.7)
        )
    torch.testing.assert_close(predict(models), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_two_adapters_add_up_and_come_off_in_reverse_order() -> None:
    models = {"unet": small(dtype=torch.float64)["unet"]}
    text, pooled = torch.randn(2, 77, 96).double(), torch.randn(2, 64).double()
    before = run_unet(models["unet"], text, pooled)
    first, second = (attach(models, Recipe(rank=2, seed=seed), device="cpu") for seed in (1, 2))
    randomize(first, 0.1)
    randomize(second, 0.1)
    both = run_unet(models["unet"], text, pooled)
    first.multiplier = 2.0
    with second.disabled():
        torch.testing.assert_close(run_unet(models["unet"], text, pooled), both, rtol=1e-8, atol=1e-9)
    with pytest.raises(ValueError, match="detach that one first"):
        first.detach()
    second.detach()
    first.detach()
    assert torch.equal(run_unet(models["unet"], text, pooled), before)


def gradients(models: dict[str, nn.Module], adapter: Adapter) -> dict[str, torch.Tensor]:
    adapter_gradients = torch.autograd.grad(predict(models).pow(2).mean(), list(adapter.vectors.values()))
    return dict(zip(adapter.vectors, adapter_gradients, strict=True))


@pytest.mark.slow
def test_checkpointing_changes_no_gradient() -> None:
    models = small()
    adapter = attach(models, Recipe(rank=4, conv_rank=2), device="cpu")
    randomize(adapter)
    plain = gradients(models, adapter)
    for model in models.values():
        model.train()
    models["unet"].enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]
    for part in ("text_encoder_1", "text_encoder_2"):
        models[part].activation_checkpointing_enable()  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(gradients(models, adapter), plain, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_flat_gradients_are_those_of_single_matrices() -> None:
    """Against a graph made of plain operations on one leaf per matrix."""
    models = small(dtype=torch.float64)
    adapter = attach(models, Recipe(rank=3, alpha=2, conv_rank=2), device="cpu")
    randomize(adapter, 0.2)
    flat = gradients(models, adapter)
    adapter.detach()
    matrices = {name: view for name, view in adapter.tensors().items() if not name.endswith(".alpha")}
    leaves = {name: view.double().requires_grad_() for name, view in matrices.items()}

    def parametrized(site):
        down, up = (leaves[f"{site.target.name}.{suffix}"] for suffix in site.shapes)
        module, base = site.target.module, site.target.module.forward

        def forward(x: torch.Tensor) -> torch.Tensor:
            if isinstance(module, nn.Linear):
                return base(x) + site.scale * (x @ down.t() @ up.t())
            return base(x) + site.scale * nn.functional.conv2d(
                nn.functional.conv2d(x, down, None, module.stride, module.padding), up
            )

        return forward

    for site in adapter.sites:
        setattr(site.target.module, "forward", parametrized(site))  # noqa: B010 -- nn.Module types it as a method
    found = torch.autograd.grad(predict(models).pow(2).mean(), list(leaves.values()), allow_unused=True)
    for name, gradient in zip(leaves, found, strict=True):
        got = adapter.flat_of[name].slots[name].of(flat[adapter.part_of[name.split(".")[0]]])
        expected = torch.zeros_like(got) if gradient is None else gradient.float()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_adamw_on_the_flat_vector_is_adamw_on_the_matrices() -> None:
    models = {"unet": small()["unet"]}
    adapter = attach(models, Recipe(rank=3), device="cpu")
    randomize(adapter)
    flat = adapter.groups[0].flat
    singles = {name: view.clone().requires_grad_() for name, view in flat.views().items()}
    one, many = (torch.optim.AdamW(leaves, lr=1e-3, weight_decay=0.1) for leaves in ([flat.vector], singles.values()))
    for seed in range(3):
        flat.vector.grad = torch.randn(flat.vector.shape, generator=torch.Generator().manual_seed(seed))
        for name, single in singles.items():
            single.grad = flat.slots[name].of(flat.vector.grad).clone()
        one.step()
        many.step()
    for name, view in flat.views().items():
        assert torch.equal(view, singles[name])


@pytest.mark.slow
def test_the_norm_of_a_long_gradient_is_exact() -> None:
    """As long as SDXL's at rank 8: torch's own norm is off by 0.2 % there on a CPU."""
    first, second = torch.randn(28_504_064, generator=torch.Generator().manual_seed(1)), torch.ones(512)
    expected = torch.sqrt(first.double().pow(2).sum() + 512)
    torch.testing.assert_close(total_norm([first, second]).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_the_padding_of_the_flat_vector_stays_zero() -> None:
    models = {"unet": small()["unet"]}
    adapter = attach(models, Recipe(rank=3), device="cpu")
    vector = adapter.vectors["unet"]
    optimizer = torch.optim.AdamW([vector], lr=0.1)
    run_unet(models["unet"], torch.randn(2, 77, 96), torch.randn(2, 64)).pow(2).mean().backward()
    optimizer.step()
    padding = torch.ones_like(vector, dtype=torch.bool)
    for slot in adapter.groups[0].flat.slots.values():
        slot.of(padding).zero_()
    assert padding.any()
    assert not vector[padding].any()
    assert len(adapter.groups[0].flat.slots) * 3 < vector.count_nonzero()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_train_an_fp32_adapter(dtype: torch.dtype) -> None:
    models = {part: model.to(dtype) for part, model in small().items()}
    adapter = attach(models, Recipe(rank=4), device="cpu")
    before = adapter.tensors()
    kept = {name: view.clone() for name, view in before.items()}
    optimizer = torch.optim.AdamW(adapter.vectors.values(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=False)
        rows, pooled = run_text(models)
        run_unet(models["unet"], rows, pooled).float().pow(2).mean().backward()
        assert {vector.grad.dtype for vector in adapter.vectors.values() if vector.grad is not None} == {torch.float32}
        optimizer.step()
    after = adapter.tensors()
    trained = [name for name in after if name.endswith("up.weight") and not torch.equal(after[name], kept[name])]
    never = "lora_te1_text_model_encoder_layers_2_"  # the last layer's output is not used
    assert set(trained) == {name for name in after if name.endswith("up.weight") and not name.startswith(never)}
    assert all(torch.isfinite(view).all() for view in after.values())


@pytest.mark.slow
def test_no_gradient_and_new_numbers_are_seen_at_once() -> None:
    """Casts that are kept for a forward are not used after the numbers have changed."""
    models = {"unet": small()["unet"].to(torch.bfloat16)}
    adapter = attach(models, Recipe(rank=4), device="cpu")
    text, pooled = torch.randn(2, 77, 96).bfloat16(), torch.randn(2, 64).bfloat16()
    with torch.no_grad():
        before = run_unet(models["unet"], text, pooled)
        randomize(adapter, 0.3)
        assert not torch.equal(run_unet(models["unet"], text, pooled), before)
        adapter.vectors["unet"].zero_()
        assert torch.equal(run_unet(models["unet"], text, pooled), before)


@pytest.mark.slow
def test_gradients_of_accumulated_batches_add_up() -> None:
    models = {"unet": small()["unet"].to(torch.bfloat16)}
    adapter = attach(models, Recipe(rank=4), device="cpu")
    vector = adapter.vectors["unet"]
    single: list[torch.Tensor] = []
    for seed in (1, 2):
        vector.grad = None
        text = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(seed)).bfloat16()
        run_unet(models["unet"], text, torch.zeros(2, 64).bfloat16()).float().pow(2).mean().backward()
        assert vector.grad is not None
        single.append(vector.grad)
    vector.grad = None
    for seed in (1, 2):
        text = torch.randn(2, 77, 96, generator=torch.Generator().manual_seed(seed)).bfloat16()
        run_unet(models["unet"], text, torch.zeros(2, 64).bfloat16()).float().pow(2).mean().backward()
    assert vector.grad is not None
    assert torch.equal(vector.grad, single[0] + single[1])


def test_a_model_that_is_trained_itself_or_has_no_layers_is_refused() -> None:
    models = small()
    with pytest.raises(ModelError, match="text_encoder_1: has no attention"):
        attach({"text_encoder_1": nn.Sequential(nn.Linear(2, 2))}, Recipe())
    models["text_encoder_2"].requires_grad_(True)
    with pytest.raises(ValueError, match="frozen"):
        attach(models, Recipe(rank=2))
    assert not any("forward" in module.__dict__ for model in models.values() for module in model.modules())
