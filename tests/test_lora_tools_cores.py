"""LoRAs with a core between the matrices of a convolution (Tucker): what tools make of them does what they did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_files import CONVOLUTION, LINEAR, METADATA, changes_of, layer_tensors, made, propose, sentences, tensors_of
from safetensors.torch import save_file

from engine.adapter_header import read_adapter
from engine.adapters.merging import merged_weight
from engine.errors import ModelError
from engine.lora_tools.merging import step_of
from engine.lora_tools.numbers import change_norm


def with_core(path: Path, seed: int = 0, alpha: float = 4.0) -> Path:
    """A linear, and a 3×3 convolution [24, 16] of rank 5 as LyCORIS writes it with use_tucker."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"lora_up.weight": (24, 5, 1, 1), "lora_mid.weight": (5, 5, 3, 3), "lora_down.weight": (5, 16, 1, 1)}
    tensors = {f"{CONVOLUTION}.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors |= {f"{CONVOLUTION}.alpha": torch.tensor(alpha)} | layer_tensors(LINEAR, "lora", 5, alpha, seed)
    save_file(tensors, path, METADATA)
    return path


def expected(path: Path, alpha: float = 4.0) -> torch.Tensor:
    tensors = tensors_of(path)
    up, core, down = (tensors[f"{CONVOLUTION}.lora_{name}.weight"] for name in ("up", "mid", "down"))
    return alpha / 5 * torch.einsum("oa,abkl,bi->oikl", up[..., 0, 0], core, down[..., 0, 0])


def test_its_change_and_norm_are_those_of_the_product(tmp_path: Path) -> None:
    path = with_core(tmp_path / "a.safetensors")
    change = expected(path)
    torch.testing.assert_close(changes_of(path)[CONVOLUTION], change.flatten(1), rtol=1e-4, atol=1e-5)
    assert change_norm(read_adapter(path), CONVOLUTION) == pytest.approx(float(change.norm()), rel=1e-5)


def test_it_is_combined_exactly_and_resized_to_the_best(tmp_path: Path) -> None:
    one, two = (with_core(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    found = changes_of(made("combine", tmp_path, files=f"{one}\n{two}: 0.5"))[CONVOLUTION]
    torch.testing.assert_close(found, (expected(one) + 0.5 * expected(two)).flatten(1), rtol=1e-4, atol=1e-4)
    lower = changes_of(made("resize", tmp_path, files=one, rank=2))[CONVOLUTION]
    best = torch.linalg.svdvals(expected(one).flatten(1))[2:].norm()
    torch.testing.assert_close((lower - expected(one).flatten(1)).norm(), best, rtol=1e-4, atol=1e-4)


def test_where_nothing_is_lowered_the_core_stays_to_the_bit(tmp_path: Path) -> None:
    path = with_core(tmp_path / "a.safetensors")
    same = tensors_of(made("resize", tmp_path, files=path, rank=8))
    assert same.keys() == tensors_of(path).keys()
    assert all(torch.equal(tensor, tensors_of(path)[name]) for name, tensor in same.items())


def test_it_merges_as_its_product_and_is_no_dylora(tmp_path: Path) -> None:
    path = with_core(tmp_path / "a.safetensors")
    step = step_of(read_adapter(path), CONVOLUTION, (24, 16, 3, 3), 1.0)
    merged = merged_weight([step], torch.zeros(24, 16, 3, 3))
    torch.testing.assert_close(merged, expected(path), rtol=1e-4, atol=1e-5)
    assert "not a DyLoRA" in sentences(propose("dylora", files=path, rank=2))


def test_a_core_of_two_ranks_is_sound_and_diffusers_does_not_load_it(tmp_path: Path) -> None:
    tensors = tensors_of(with_core(tmp_path / "a.safetensors"))
    core = f"{CONVOLUTION}.lora_mid.weight"
    two = tensors | {core: torch.ones(4, 5, 3, 3), f"{CONVOLUTION}.lora_up.weight": torch.ones(24, 4, 1, 1)}
    save_file(two, tmp_path / "b.safetensors", METADATA)
    found = {check.name: check for check in propose("verify", file=tmp_path / "b.safetensors").content}
    assert found["complete"].is_good and found["ComfyUI"].is_good
    assert "Tucker" in found["diffusers"].note and not found["diffusers"].is_good
    save_file(tensors | {core: torch.ones(4, 5, 3, 3)}, tmp_path / "c.safetensors", METADATA)
    assert "different ranks" in sentences(propose("verify", file=tmp_path / "c.safetensors"))
    with pytest.raises(ModelError, match="do not fit each other"):
        change_norm(read_adapter(tmp_path / "c.safetensors"), CONVOLUTION)
