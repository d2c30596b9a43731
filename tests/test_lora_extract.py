"""The tool `extract`: what was merged comes out again; layers that are alike are left out; faults in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.adapter_header import Merge
from engine.adapters.merging import merge_into
from engine.errors import ModelError
from engine.lora_tools.low_rank import nearest_kronecker
from engine.sdxl.checkpoint import load_text_encoders, load_unet, load_vae, write_single_file
from engine.sdxl.detect import identify
from engine.sdxl.layers import TEXT_2, UNET, LayerShape, part_layers
from tests.lora_files import changes_of, history_of, made, metadata_of, propose, run, sentences, tensors_of
from tests.micro_model import micro_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro model in fp32, so that no difference is rounded."""
    return write_model(tmp_path_factory.mktemp("models") / "base.safetensors", None)


@pytest.fixture(scope="module")
def lora(base: Path) -> Path:
    """A LoRA of rank 3 for an attention layer, a convolution and a text encoder's stacked query."""
    tensors: dict[str, Tensor] = {}
    for seed, layer in enumerate(layers_of(base)):
        generator = torch.Generator().manual_seed(seed)
        shape, ones = layer.weight_shape, (1,) * len(layer.weight_shape[2:])
        tensors[f"{layer.name}.lora_down.weight"] = torch.randn(3, *shape[1:], generator=generator) * 0.1
        tensors[f"{layer.name}.lora_up.weight"] = torch.randn(shape[0], 3, *ones, generator=generator) * 0.1
        tensors[f"{layer.name}.alpha"] = torch.tensor(1.5)
    path = base.with_name("lora.safetensors")
    save_file(tensors, path, {"ss_base_model_version": "sdxl_base_v1-0"})
    return path


@pytest.fixture(scope="module")
def tuned(base: Path, lora: Path) -> Path:
    return write_model(base.with_name("tuned.safetensors"), lora)


def layers_of(model: Path) -> list[LayerShape]:
    config = identify(model).config
    unet, text = part_layers(UNET, config.unet), part_layers(TEXT_2, config.text_2 or {})
    found = [next(layer for layer in unet if layer.name.endswith(end)) for end in ("attn2_to_k", "in_layers_2")]
    return [*found, next(layer for layer in text if layer.name.endswith("q_proj"))]


def write_model(path: Path, lora: Path | None) -> Path:
    facts = identify(micro_model())
    unet, text = load_unet(facts, torch.float32, CPU), load_text_encoders(facts, torch.float32, CPU)
    if lora is not None:
        models = {"unet": unet, "text_encoder_1": text.one, "text_encoder_2": text.two}
        merge_into(models, [Merge(lora, 1.0)])
    write_single_file(path, unet, load_vae(facts, torch.float32, CPU), (text.one, text.two), torch.float32)
    return path


def extracted(folder: Path, tuned: Path, base: Path, **values: object) -> Path:
    output = folder / "extracted.safetensors"
    return made("extract", folder, tuned_model=tuned, base_model=base, output=output, **values)


@pytest.mark.parametrize("values", [{"rank": 3}, {"rank": 64, "rule": "error", "error": 0.001}, {"exact": True}])
def test_what_was_merged_comes_out_again(
    tmp_path: Path, tuned: Path, base: Path, lora: Path, values: dict[str, object]
) -> None:
    result = extracted(tmp_path, tuned, base, **values)
    expected, found = changes_of(lora), changes_of(result)
    assert found.keys() == expected.keys()  # layers that are alike are left out
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=1e-4, atol=1e-5)
    if "rule" in values:
        ranks = [len(tensor) for key, tensor in tensors_of(result).items() if key.endswith("lora_down.weight")]
        assert ranks == [3, 3, 3]


def test_a_lower_rank_is_the_best_of_it(tmp_path: Path, tuned: Path, base: Path, lora: Path) -> None:
    found = changes_of(extracted(tmp_path, tuned, base, rank=2, conv_rank=1))
    for layer in layers_of(base):
        change = changes_of(lora)[layer.name]
        best = torch.linalg.svdvals(change)[1 if layer.kernel > 1 else 2 :].norm()
        torch.testing.assert_close((found[layer.name] - change).norm(), best, rtol=1e-3, atol=1e-5)


def test_a_lokr_is_the_nearest_kronecker_product(tmp_path: Path, tuned: Path, base: Path, lora: Path) -> None:
    result = extracted(tmp_path, tuned, base, family="lokr", factor=4, rank=512)
    found = changes_of(result)
    for layer in layers_of(base):
        change, kernel = changes_of(lora)[layer.name], layer.kernel**2
        best = torch.kron(*nearest_kronecker(change, kernel, (4, 4), seed=1))
        torch.testing.assert_close((found[layer.name] - change).norm(), (best - change).norm(), rtol=1e-3, atol=1e-5)
    assert metadata_of(result)["ss_network_module"] == "lycoris.kohya"


def test_parts_and_convolutions_can_be_left_out(tmp_path: Path, tuned: Path, base: Path) -> None:
    attention, convolution, text = (layer.name for layer in layers_of(base))
    found = changes_of(extracted(tmp_path, tuned, base, rank=3, convolutions=False))
    assert found.keys() == {attention, text}
    only = made("extract", tmp_path, tuned_model=tuned, base_model=base, output=tmp_path, text_encoders=False, rank=3)
    assert changes_of(only).keys() == {attention, convolution}


def test_the_file_says_what_it_is_and_the_same_seed_gives_the_same_bytes(
    tmp_path: Path, tuned: Path, base: Path
) -> None:
    files = [
        made("extract", tmp_path, tuned_model=tuned, base_model=base, output=tmp_path / f"{name}" / "a.safetensors")
        for name in ("one", "two")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    found = metadata_of(files[0])
    assert (found["ss_network_dim"], found["ss_base_model_version"]) == ("32", "sdxl_base_v1-0")
    assert history_of(files[0])[0]["tool"] == "extract"


def test_models_that_are_alike_or_do_not_fit_are_told(tmp_path: Path, tuned: Path, base: Path, lora: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(base.read_bytes())
    code, rows = run("extract", tmp_path, tuned_model=copy, base_model=base)
    assert code == 2 and "nothing to extract" in rows[0].row.note
    assert "is the same file" in sentences(propose("extract", tuned_model=base, base_model=base))
    off = propose("extract", tuned_model=tuned, base_model=base, unet=False, text_encoders=False)
    assert "Switch one of them on" in sentences(off)
    other = tmp_path / "other.safetensors"
    with pytest.raises(ModelError):
        propose("extract", tuned_model=lora, base_model=base)
    missing = {name: tensor for name, tensor in load_file(base).items() if "attn2.to_v" not in name}
    save_file(missing, other, metadata_of(base))
    with pytest.raises(ModelError, match="lacks"):
        propose("extract", tuned_model=tuned, base_model=other)


def test_a_broken_model_fails_and_leaves_no_file(tmp_path: Path, tuned: Path, base: Path) -> None:
    tensors = load_file(tuned)
    name = next(name for name in tensors if name.endswith("attn1.to_q.weight"))
    tensors[name][0, 0] = float("nan")
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken, metadata_of(tuned))
    code, rows = run("extract", tmp_path, tuned_model=broken, base_model=base)
    assert code == 2 and "not finite" in rows[0].row.note
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["broken.safetensors"]
