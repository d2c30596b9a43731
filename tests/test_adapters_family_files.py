"""Each kind of adapter saved and read back does what it did; start values change nothing in a whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_models import run_unet
from optimizer_runs import NothingIsRead
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_unet import CONTEXT_WIDTH, POOLED_WIDTH, tiny_unet
from torch import nn

from engine.adapter_shapes import Options
from engine.adapters import ADAPTERS
from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.files import save_adapter
from engine.adapters.loading import apply_file, load_adapter_file
from engine.errors import ModelError

TEXT, POOLED = torch.randn(2, 7, CONTEXT_WIDTH).double(), torch.randn(2, POOLED_WIDTH).double()
KINDS: dict[str, Recipe] = {
    **{name: Recipe(name, rank=8, alpha=4, conv_rank=8, conv_alpha=2) for name in ADAPTERS},
    "oft": Recipe("oft", rank=4, conv_rank=4),  # at most the square root of the widths, or the blocks get smaller
    "dora by output": Recipe("dora", rank=4, options=Options(dora_norm="output")),
    "lokr decomposed": Recipe("lokr", rank=1, alpha=0.5, options=Options(decompose_both=True)),
    "lokr whole": Recipe("lokr", options=Options(full_matrix=True, factor=4)),
    "oft constrained": Recipe("oft", rank=4, options=Options(constraint=0.002, rescaled=True)),
    "ia3 on inputs": Recipe("ia3", options=Options(on_input=True)),
    "norms beside lora": Recipe(rank=4, norms=True),
    "rank-stabilised": Recipe(rank=4, alpha=4, rank_stabilised=True),
}
READ_AS = {"lora_fa": "lora", "dylora": "lora", "tlora": "lora"}


def unet(dtype: torch.dtype = torch.float64) -> dict[str, nn.Module]:
    made = tiny_unet()
    made.to(dtype)  # pyright: ignore[reportArgumentType]
    return {"unet": made.requires_grad_(False)}


def trained(models: dict[str, nn.Module], recipe: Recipe) -> Adapter:
    """An adapter that has moved away from its start."""
    adapter = attach(models, recipe, device="cpu")
    generator = torch.Generator().manual_seed(3)
    for flat in adapter.flat_of.values():
        for name, view in flat.views().items():
            drawn = torch.randn(view.shape, generator=generator) * 0.2
            view.copy_(view + drawn if name.endswith((".dora_scale", ".rescale")) else drawn)
    adapter.changed()
    return adapter


def run(models: dict[str, nn.Module]) -> torch.Tensor:
    with torch.no_grad():
        return run_unet(models["unet"], TEXT, POOLED)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_does_what_it_did(tmp_path: Path, kind: str) -> None:
    models, recipe = unet(), KINDS[kind]
    plain = run(models)
    fresh = attach(models, recipe, device="cpu")
    torch.testing.assert_close(run(models), plain, rtol=1e-4, atol=1e-5)
    fresh.detach()
    adapter = trained(models, recipe)
    expected = run(models)
    assert (expected - plain).abs().max() > 1e-4
    save_adapter(tmp_path / "a.safetensors", adapter, "fp32", {})
    adapter.detach()
    assert recipe.algorithm in load_adapter_file(tmp_path / "a.safetensors").algorithms or recipe.algorithm in READ_AS
    applied = apply_file(models, tmp_path / "a.safetensors")
    torch.testing.assert_close(run(models), expected, rtol=1e-6, atol=1e-7)
    assert {site.algorithm for site in applied.sites} >= {READ_AS.get(recipe.algorithm, recipe.algorithm)}
    applied.multiplier = 0.0
    assert torch.equal(run(models), plain)
    applied.detach()
    save_adapter(tmp_path / "b.safetensors", applied, "fp32", {}, trained=False)  # what was loaded can be saved again
    assert (tmp_path / "b.safetensors").stat().st_size == (tmp_path / "a.safetensors").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_never_waits_for_the_device(kind: str) -> None:
    """Forward and backward in bf16, where whatever reads a tensor on the host raises."""
    models = unet(torch.bfloat16)
    adapter = attach(models, KINDS[kind], device="cpu")
    with NothingIsRead():
        adapter.begin_batch(0.4, torch.randint(0, 1000, (2,)))
        run_unet(models["unet"], TEXT.bfloat16(), POOLED.bfloat16()).float().pow(2).mean().backward()
        adapter.end_batch()
    assert all(vector.grad is not None and vector.grad.shape == vector.shape for vector in adapter.vectors.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_trained_gets_a_gradient_and_nothing_else(kind: str) -> None:
    models = unet()
    adapter = trained(models, KINDS[kind])
    run_unet(models["unet"], TEXT, POOLED).pow(2).mean().backward()
    for group in adapter.groups:
        assert group.flat.vector.grad is not None
        empty = [name for name, slot in group.flat.slots.items() if not slot.of(group.flat.vector.grad).any()]
        assert empty == []
    assert all(flat.vector.grad is None for flat in adapter.still.values())
    assert bool(adapter.still) == (kind == "lora_fa")


def test_magnitudes_stay_exact_in_half_precision() -> None:
    """bf16 has no number between 1 and 1.0078; a magnitude that moved by less must still do something."""
    models = unet(torch.bfloat16)
    adapter = attach(models, Recipe("dora", rank=4), device="cpu")
    with torch.no_grad():
        before = run_unet(models["unet"], TEXT.bfloat16(), POOLED.bfloat16())
        for flat in adapter.flat_of.values():
            for name, view in flat.views().items():
                if name.endswith(".dora_scale"):
                    view.mul_(1.003)
        adapter.changed()
        after = run_unet(models["unet"], TEXT.bfloat16(), POOLED.bfloat16())
    assert not torch.equal(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dylora", "tlora"])
def test_masks_of_ranks_follow_the_batch_and_end_with_it(name: str) -> None:
    models = unet()
    adapter = trained(models, Recipe(name, rank=8, options=Options(min_rank=2)))
    whole = run(models)
    masked: list[torch.Tensor] = []
    for draw, timestep in ((0.1, 900), (0.6, 400), (0.1, 900)):
        adapter.begin_batch(draw, torch.tensor([timestep, timestep]))
        masked.append(run(models))
        adapter.end_batch()
    assert torch.equal(masked[0], masked[2])
    assert not torch.equal(masked[0], masked[1])
    assert torch.equal(run(models), whole)


def test_an_oft_file_of_kohya_s_trainer_is_read_under_its_own_names(tmp_path: Path) -> None:
    models = unet()
    adapter = trained(models, KINDS["oft"])
    expected = run(models)
    save_adapter(tmp_path / "a.safetensors", adapter, "fp32", {})
    adapter.detach()
    theirs = {
        name.replace("lora_unet_", "oft_unet_"): tensor
        for name, tensor in load_file(tmp_path / "a.safetensors").items()
    }
    save_file(theirs, tmp_path / "b.safetensors")
    apply_file(models, tmp_path / "b.safetensors")
    torch.testing.assert_close(run(models), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_an_oft_file_says_no_constraint_in_a_way_that_all_readers_take_so(tmp_path: Path) -> None:
    """0 would undo the file in A1111 and in kohya's trainer, and a small number be read in two ways."""
    save_adapter(tmp_path / "a.safetensors", trained(unet(), KINDS["oft constrained"]), "fp32", {})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        names = list(file.keys())
        alphas = {float(file.get_tensor(name)) for name in names if name.endswith(".alpha")}
    assert alphas == {10_000.0}


@pytest.mark.slow
def test_a_rank_stabilised_file_tells_readers_the_scale_that_was_trained(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a.safetensors", trained(unet(), KINDS["rank-stabilised"]), "fp32", {})
    layers = load_adapter_file(tmp_path / "a.safetensors").layers.values()
    assert {layer.alpha / layer.rank for layer in layers} == {4 / 4**0.5}


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"lora_up.weight": (4, 2), "lora_down.weight": (2, 4), "hada_w1_a": (4, 2)}, "mixes kinds of adapters"),
        ({"hada_w1_a": (4, 2), "hada_w1_b": (2, 4)}, "lacks tensors of the layer lora_unet_x"),
        ({"lokr_w1": (2, 2)}, "lacks tensors of the layer"),
        ({"hada_t1": (2, 2, 3, 3)}, "kind that is not known"),
    ],
)  # fmt: skip
def test_layers_that_make_no_sense_are_a_sentence(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], sentence: str
) -> None:
    save_file({f"lora_unet_x.{name}": torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=sentence):
        load_adapter_file(tmp_path / "a.safetensors")


def test_boft_that_cannot_split_a_layer_is_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"boft cannot split layers of .* larger rank"):
        attach(unet(), Recipe("boft", rank=1), device="cpu")
