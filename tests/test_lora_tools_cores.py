"""LoRAs with a core between the matrices of a convolution (Tucker): what tools make of them does what they did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lora_files import CONVOLUTION, LINEAR, METADATA, changes_of, layer_tensors, made, propose, sentences, tensors_of
from safetensors.torch import save_file

from engine.adapter_header import read_adapter
from engine.adapters.loading import load_adapter_file
from engine.adapters.merging import merged_weight
from engine.errors import ModelError
from engine.lora_tools.facts import compare
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


def turned(path: Path, seed: int = 0) -> Path:
    """A LoHa and a LoKr on a 3×3 convolution, with cores as LyCORIS writes them: the upper matrices are [rank, out]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"hada_w1_a": (3, 24), "hada_w1_b": (3, 16), "hada_t1": (3, 3, 3, 3)}
    shapes |= {name.replace("1", "2"): shape for name, shape in shapes.items()}
    tensors = {f"{CONVOLUTION}.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    shapes = {"lokr_w1": (4, 2), "lokr_w2_a": (3, 6), "lokr_w2_b": (3, 8), "lokr_t2": (3, 3, 3, 3)}
    tensors |= {f"{SECOND}.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tensors |= {f"{layer}.alpha": torch.tensor(1.5) for layer in (CONVOLUTION, SECOND)}
    save_file(tensors, path, METADATA)
    return path


SECOND = CONVOLUTION.replace("in_layers_2", "out_layers_3")


def expected_turned(path: Path) -> dict[str, torch.Tensor]:
    tensors = tensors_of(path)

    def product(layer: str, upper: str, core: str, lower: str) -> torch.Tensor:
        up, middle, down = (tensors[f"{layer}.{name}"] for name in (upper, core, lower))
        return torch.einsum("ij...,ip,jr->pr...", middle, up, down)

    loha = product(CONVOLUTION, "hada_w1_a", "hada_t1", "hada_w1_b")
    loha = loha * product(CONVOLUTION, "hada_w2_a", "hada_t2", "hada_w2_b")
    large, small = product(SECOND, "lokr_w2_a", "lokr_t2", "lokr_w2_b"), tensors[f"{SECOND}.lokr_w1"]
    return {CONVOLUTION: 0.5 * loha, SECOND: 0.5 * torch.kron(small[:, :, None, None], large.contiguous())}


def test_cores_of_lycoris_loha_and_lokr_do_what_lycoris_does(tmp_path: Path) -> None:
    """Told, merged, drawn with, combined and resized."""
    path = turned(tmp_path / "a.safetensors")
    wanted, header, changes = expected_turned(path), read_adapter(path), changes_of(path)
    for layer, change in wanted.items():
        torch.testing.assert_close(changes[layer], change.flatten(1), rtol=1e-4, atol=1e-5)
        assert change_norm(header, layer) == pytest.approx(float(change.norm()), rel=1e-4)
        merged = merged_weight([step_of(header, layer, (24, 16, 3, 3), 1.0)], torch.zeros(24, 16, 3, 3))
        torch.testing.assert_close(merged, change, rtol=1e-4, atol=1e-5)
    assert [layer.algorithm for layer in load_adapter_file(path).layers.values()] == ["loha", "lokr"]
    twice = changes_of(made("combine", tmp_path, files=f"{path}\n{path}"))
    torch.testing.assert_close(twice[SECOND], 2 * wanted[SECOND].flatten(1), rtol=1e-4, atol=1e-4)
    lower = changes_of(made("resize", tmp_path, files=path, rank=2))[CONVOLUTION]
    best = torch.linalg.svdvals(wanted[CONVOLUTION].flatten(1))[2:].norm()
    torch.testing.assert_close((lower - wanted[CONVOLUTION].flatten(1)).norm(), best, rtol=1e-4, atol=1e-4)


def test_a_lora_with_a_core_is_loaded_as_its_product(tmp_path: Path) -> None:
    path = with_core(tmp_path / "a.safetensors")
    layer = load_adapter_file(path).layers[CONVOLUTION]
    assert (layer.algorithm, layer.rank, layer.alpha) == ("lora", 5, 4.0)
    found = 0.8 * layer.tensors["lora_up.weight"].flatten(1) @ layer.tensors["lora_down.weight"].flatten(1)
    torch.testing.assert_close(found, expected(path).flatten(1), rtol=1e-4, atol=1e-5)


def test_a_core_that_does_not_fit_is_a_sentence(tmp_path: Path) -> None:
    tensors = tensors_of(turned(tmp_path / "a.safetensors"))
    save_file(tensors | {f"{CONVOLUTION}.hada_t1": torch.ones(3, 2, 3, 3)}, tmp_path / "b.safetensors", METADATA)
    with pytest.raises(ModelError, match="do not fit each other"):
        load_adapter_file(tmp_path / "b.safetensors")
    assert "do not fit each other" in sentences(propose("resize", files=tmp_path / "b.safetensors"))


def test_what_two_files_with_cores_differ_in_is_told(tmp_path: Path) -> None:
    one, two = (turned(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    same = compare(read_adapter(one), read_adapter(one))
    assert same.rows == ()
    found = {row[0]: row[1] for row in compare(read_adapter(one), read_adapter(two)).rows}
    assert found == {"tensors of other kinds than LoRA": "2 layers differ"}
    one, two = (with_core(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2))
    apart, whole = float((expected(one) - expected(two)).norm() ** 2), float(expected(one).norm() ** 2)
    linear = [changes_of(path)[LINEAR] for path in (one, two)]
    apart, whole = apart + float((linear[0] - linear[1]).norm() ** 2), whole + float(linear[0].norm() ** 2)
    rows = {row[0]: row[1] for row in compare(read_adapter(one), read_adapter(two)).rows}
    assert rows["what they do to the weights, apart by"] == f"{(apart / whole) ** 0.5:.2%}"


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
