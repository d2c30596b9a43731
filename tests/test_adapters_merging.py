"""engine/adapters/merging.py, engine/merges.py: adapters that become part of the base model before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_models import predict, small
from safetensors.torch import save_file
from torch import nn
from training import events_of, losses_of, small_preset, train_here

from engine import events
from engine.adapter_header import Merge, parts_of_file
from engine.adapters.attach import Recipe, attach
from engine.adapters.files import save_adapter
from engine.adapters.loading import apply_file
from engine.adapters.merging import changes_before_packing, merge_into
from engine.errors import ModelError
from engine.merges import TEXT_PARTS, merge_mark, read_merges
from engine.preset import Preset
from engine.sdxl import checkpoint
from engine.sdxl.narrow import NarrowLinear, make_narrow
from engine.sdxl.safefile import read_header
from engine.sdxl.storage import STORAGES, StoredConv2d, StoredLinear


def saved(path: Path, models: dict[str, nn.Module], seed: int, **recipe: Any) -> Path:
    adapter = attach(models, Recipe(rank=3, alpha=2, **recipe), device="cpu")
    generator = torch.Generator().manual_seed(seed)
    numbers = {name: torch.randn(view.shape, generator=generator) * 0.2 for name, view in adapter.tensors().items()}
    adapter.load_tensors(numbers)
    adapter.detach()
    save_adapter(path, adapter, "fp32", {})
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Merge]:
    models = small()
    whole = saved(tmp_path / "whole.safetensors", models, 1, conv_rank=2)
    part = saved(tmp_path / "part.safetensors", {"unet": models["unet"]}, 2, algorithm="full", norms=True)
    return [Merge(whole, 0.7), Merge(part, -0.3)]


@pytest.mark.slow
def test_the_merged_model_computes_what_the_adapters_on_top_of_it_do(files: list[Merge]) -> None:
    models = small()
    adapters = [
        apply_file({part: models[part] for part in parts_of_file(merge.path)}, merge.path, merge.strength)
        for merge in files
    ]
    expected = predict(models)
    for adapter in reversed(adapters):
        adapter.detach()
    plain = predict(models)
    merge_into(models, files)
    assert (expected - plain).abs().max() > 0.01
    torch.testing.assert_close(predict(models), expected, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for model in models.values() for parameter in model.parameters())


@pytest.mark.slow
def test_an_adapter_can_be_trained_on_the_merged_model(files: list[Merge]) -> None:
    models = small()
    merge_into(models, files)
    merged = predict(models)
    adapter = attach(models, Recipe(rank=2), device="cpu")
    torch.testing.assert_close(predict(models), merged, rtol=1e-4, atol=1e-6)
    predict(models).pow(2).mean().backward()
    assert all(vector.grad is not None for vector in adapter.vectors.values())


@pytest.mark.slow
def test_weights_keep_their_precision_and_widened_ones_stay_wide(files: list[Merge]) -> None:
    half = small(dtype=torch.bfloat16)
    merge_into(half, files)
    assert {parameter.dtype for model in half.values() for parameter in model.parameters()} == {torch.bfloat16}
    models = small(dtype=torch.float32)
    make_narrow(models["unet"], least_numbers=1)
    exact = [module.weight.detach().clone() for module in models["unet"].modules() if isinstance(module, NarrowLinear)]
    merge_into({"unet": models["unet"]}, files[:1])
    merged = [module.weight for module in models["unet"].modules() if isinstance(module, NarrowLinear)]
    assert {weight.dtype for weight in merged} == {torch.float32}
    assert any(not torch.equal(weight, old) for weight, old in zip(merged, exact, strict=True))


@pytest.mark.slow
def test_parts_without_layers_in_a_file_are_passed_over(files: list[Merge]) -> None:
    models = small()
    text = {part: models[part] for part in TEXT_PARTS}
    before = {name: tensor.clone() for model in text.values() for name, tensor in model.state_dict().items()}
    merge_into(text, files[1:])
    after = {name: tensor for model in text.values() for name, tensor in model.state_dict().items()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.slow
def test_a_file_of_another_model_is_refused(files: list[Merge], tmp_path: Path) -> None:
    names = ("lora_down", "lora_up")
    strange = {f"lora_unet_input_blocks_99_1_proj_in.{name}.weight": torch.zeros(2, 2) for name in names}
    save_file(strange, tmp_path / "strange.safetensors")
    with pytest.raises(ModelError, match="made for another kind of model"):
        merge_into(small(), [Merge(tmp_path / "strange.safetensors")])


def preset(text: str, **values: Any) -> Preset:
    return Preset().changed({"model.merged_adapters": text, **values})


@pytest.mark.slow
def test_lines_are_paths_with_strengths_and_faults_get_sentences(files: list[Merge], tmp_path: Path) -> None:
    path = files[0].path
    problems: list[Any] = []
    assert read_merges(preset(f"{path}: 0.7\n\n{path}:-1\n{path}"), problems) == (
        Merge(path, 0.7), Merge(path, -1.0), Merge(path, 1.0),
    )  # fmt: skip
    assert problems == []
    (tmp_path / "empty.safetensors").write_bytes(b"")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    read_merges(preset(f"gone.safetensors: 1\n{tmp_path}/empty.safetensors\n{tmp_path}/other.safetensors"), problems)
    assert [problem.where for problem in problems] == ["model.merged_adapters"] * 3
    assert "there is no file" in problems[0].message
    assert "is not an SDXL adapter" in problems[2].message


@pytest.mark.slow
def test_the_mark_follows_content_strength_and_parts(files: list[Merge]) -> None:
    whole, part = files
    assert merge_mark([], TEXT_PARTS) == merge_mark([part], TEXT_PARTS) == ""
    marks = {merge_mark(merges, TEXT_PARTS) for merges in ([whole], [Merge(whole.path, 0.8)], [whole, whole])}
    assert len(marks) == 3
    assert merge_mark([whole, part], TEXT_PARTS) == merge_mark([whole], TEXT_PARTS)


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "storage"), [("lora", "nf4"), ("dora", "int8"), ("full", "fp8")])
def test_packed_weights_are_those_of_the_merged_model(algorithm: str, storage: str, facts, tmp_path: Path) -> None:
    dense: Any = checkpoint.load_unet(facts, torch.float32, "cpu")
    paths = [saved(tmp_path / f"{seed}.safetensors", {"unet": dense}, seed, algorithm=algorithm) for seed in (1, 2)]
    merges = [Merge(paths[0], 0.7), Merge(paths[1], -0.3)]
    merge_into({"unet": dense}, merges)
    packed = checkpoint.load_unet(facts, torch.float32, "cpu", storage=storage, changes=changes_before_packing(merges))
    merge_into({"unet": packed}, merges)  # biases, norms and what is not packed
    weights = dense.state_dict()
    layers: dict[str, Any] = {
        name: layer for name, layer in packed.named_modules() if isinstance(layer, StoredLinear | StoredConv2d)
    }
    for name, layer in layers.items():
        numbers, scales = STORAGES[storage].pack(weights[f"{name}.weight"], torch.float32)
        assert torch.equal(layer.weight.view(torch.uint8), numbers.view(torch.uint8))
        assert torch.equal(layer.weight_scales, scales)
    rest = {name: tensor for name, tensor in packed.state_dict().items() if name.rpartition(".")[0] not in layers}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in rest.items())
    assert layers and rest


@pytest.mark.slow
def test_a_run_trains_on_the_merged_model_and_says_so(tmp_path: Path) -> None:
    first = train_here(small_preset(tmp_path, run__name="first", run__steps=2, optimizer__unet_rate=0.05))
    [path] = first.checkpoints.glob("*.safetensors")
    plain = train_here(small_preset(tmp_path, run__name="plain", run__steps=1))
    merged = train_here(small_preset(tmp_path, run__name="merged", run__steps=1, model__merged_adapters=f"{path}: 1.5"))
    assert losses_of(plain) != losses_of(merged)
    [checkpoint] = merged.checkpoints.glob("*.safetensors")
    header = read_header(checkpoint).metadata
    assert header["ss_base_weights"] == f"{path.name}: 1.5"
    assert events_of(merged, events.Finished)
