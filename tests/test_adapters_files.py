"""engine/adapters/files.py, loading.py, tensorfile.py: kohya's format, whole files only, and back again."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from adapter_models import predict, run_unet, small
from conftest import REFERENCE
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import nn

from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.files import Precision, file_tensors, save_adapter, verify_file
from engine.adapters.loading import apply_file, load_adapter_file
from engine.adapters.targets import diffusers_name
from engine.adapters.tensorfile import kohya_hashes, write_tensors
from engine.errors import ModelError, UserError

Q = "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"


def trained(models: dict[str, nn.Module], **recipe: float) -> Adapter:
    """An adapter with random numbers in all its matrices."""
    adapter = attach(models, Recipe(**recipe), device="cpu")  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(3)
    for vector in adapter.vectors.values():
        vector.data.copy_(torch.randn(vector.shape, generator=generator) * 0.1)
    return adapter


@pytest.fixture
def adapter() -> Adapter:
    return trained({"unet": small()["unet"]}, rank=4, alpha=2)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16")])
def test_keys_shapes_and_dtypes_are_kohya_s(tmp_path: Path, precision: Precision, dtype: str) -> None:
    models = small()
    adapter = trained(models, rank=4, alpha=2, conv_rank=3, conv_alpha=1)
    saved = save_adapter(tmp_path / "a.safetensors", adapter, precision, {"ss_x": "1"})
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 -- not a dict
        got = {key: (found.get_dtype(), found.get_shape()) for key, found in slices.items()}
    expected: dict[str, tuple[str, list[int]]] = {}
    for site in adapter.sites:
        expected[f"{site.target.name}.alpha"] = ("F32", [])
        for suffix, parameter in adapter.parameters_of(site.target.name).items():
            expected[f"{site.target.name}.{suffix}"] = (dtype, list(parameter.shape))
    assert got == expected
    assert saved.tensors == 3 * len(adapter.sites)
    assert saved.size_bytes == (tmp_path / "a.safetensors").stat().st_size
    assert set(json.loads((REFERENCE / "lora_keys.json").read_text())["linear"]) > {Q}


def test_what_was_saved_comes_back(tmp_path: Path, adapter: Adapter) -> None:
    save_adapter(tmp_path / "a.safetensors", adapter, "fp32", {"ss_output_name": "zkt é"})
    file = load_adapter_file(tmp_path / "a.safetensors")
    assert {name: layer.alpha for name, layer in file.layers.items()} == {
        site.target.name: 2.0 for site in adapter.sites
    }
    for site in adapter.sites:
        for suffix, parameter in adapter.parameters_of(site.target.name).items():
            assert torch.equal(file.layers[site.target.name].tensors[suffix], parameter)
    assert file.metadata["ss_output_name"] == "zkt é"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_bytes_and_hashes_are_those_of_the_safetensors_library(precision: Precision, adapter: Adapter) -> None:
    """sshs_model_hash and sshs_legacy_hash are taken from the file as that library writes it with ss_ entries only."""
    adapter = trained(small(), rank=16, alpha=2)  # more than 1 MiB, where the old hash begins
    tensors = {name: tensor.clone() for name, tensor in file_tensors(adapter, precision).items()}
    metadata = {"ss_a": 'é " \\ \n\x01', "ss_b": "{}", "modelspec.title": "not in the hash"}
    reference = save(tensors, {"ss_a": metadata["ss_a"], "ss_b": "{}"})
    start = 8 + int.from_bytes(reference[:8], "little")
    hashes = kohya_hashes(tensors, metadata)
    assert len(reference) > 0x110000
    assert hashes["sshs_model_hash"] == hashlib.sha256(reference[start:]).hexdigest()
    assert hashes["sshs_legacy_hash"] == hashlib.sha256(reference[0x100000:0x110000]).hexdigest()[:8]


def test_the_file_is_one_that_the_safetensors_library_would_write(tmp_path: Path, adapter: Adapter) -> None:
    tensors = {name: tensor.clone() for name, tensor in file_tensors(adapter, "fp16").items()}
    write_tensors(tmp_path / "a", tensors, {"one": "entry"})
    assert (tmp_path / "a").read_bytes() == save(tensors, {"one": "entry"})


def test_the_hashes_are_in_the_file(tmp_path: Path, adapter: Adapter) -> None:
    saved = save_adapter(tmp_path / "a.safetensors", adapter, "fp16", {"ss_x": "1"})
    data = (tmp_path / "a.safetensors").read_bytes()
    metadata = load_adapter_file(tmp_path / "a.safetensors").metadata
    assert saved.sha256 == hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert metadata["sshs_model_hash"] == saved.sha256
    assert metadata["modelspec.hash_sha256"] == "0x" + saved.sha256
    assert len(metadata["sshs_legacy_hash"]) == 8


# ------------------------------------------------- refusals: the old file stays, nothing else is left


def check_refused(folder: Path, save_again: Callable[[Path], object], sentence: str) -> None:
    target = folder / "a.safetensors"
    target.write_bytes(b"old")
    with pytest.raises(UserError, match=sentence) as caught:
        save_again(target)
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert [path.name for path in folder.iterdir()] == ["a.safetensors"]


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, adapter: Adapter) -> None:
    adapter.parameters_of(Q)["lora_up.weight"][3, 1] = float("nan")
    check_refused(tmp_path, lambda path: save_adapter(path, adapter, "fp32", {}), rf"1 tensors \({Q}.*diverged")
    check_refused(tmp_path, lambda path: save_adapter(path, adapter, "fp16", {}), "diverged")


def test_numbers_too_large_for_fp16_are_refused_with_the_way_out(tmp_path: Path, adapter: Adapter) -> None:
    adapter.parameters_of(Q)["lora_up.weight"][3, 1] = 1e5
    check_refused(tmp_path, lambda path: save_adapter(path, adapter, "fp16", {}), "too large for float16.*bf16 or fp32")
    save_adapter(tmp_path / "b.safetensors", adapter, "bf16", {})


def test_an_adapter_that_learned_nothing_is_refused_unless_that_is_expected(tmp_path: Path) -> None:
    fresh = attach(small(), Recipe(rank=4), device="cpu")
    check_refused(tmp_path, lambda path: save_adapter(path, fresh, "fp32", {}), "'unet' is still as it started")
    save_adapter(tmp_path / "b.safetensors", fresh, "fp32", {}, trained=False)


def test_an_adapter_whose_weights_were_wiped_is_refused(tmp_path: Path, adapter: Adapter) -> None:
    adapter.parameters_of(Q)["lora_down.weight"].zero_()
    check_refused(tmp_path, lambda path: save_adapter(path, adapter, "fp32", {}), "only zeros")


def test_a_disk_that_takes_no_more_is_a_sentence(tmp_path: Path, adapter: Adapter) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        check_refused(tmp_path, lambda path: save_adapter(path, adapter, "fp32", {}), "does not take a file this large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda data: data[:-100], "cannot be read back"),
        (lambda data: data[:-3] + b"\xff\xff\xff", "came back from the disk changed"),
        (lambda data: b"", "cannot be read back"),
    ],
)
def test_a_disk_that_gives_back_something_else_is_noticed(
    tmp_path: Path, adapter: Adapter, spoil: Callable[[bytes], bytes], sentence: str
) -> None:
    tensors = file_tensors(adapter, "fp32")
    write_tensors(tmp_path / "a", tensors, {})
    verify_file(tmp_path / "a", tensors, {})
    (tmp_path / "a").write_bytes(spoil((tmp_path / "a").read_bytes()))
    with pytest.raises(UserError, match=sentence):
        verify_file(tmp_path / "a", tensors, {})


def test_missing_and_extra_tensors_and_other_metadata_are_noticed(tmp_path: Path, adapter: Adapter) -> None:
    tensors = file_tensors(adapter, "fp32")
    less = {name: tensor for name, tensor in tensors.items() if not name.startswith(Q)}
    write_tensors(tmp_path / "a", less, {})
    with pytest.raises(UserError, match=rf"lacks 3 tensors \({Q}"):
        verify_file(tmp_path / "a", tensors, {})
    write_tensors(tmp_path / "a", tensors, {})
    with pytest.raises(UserError, match=r"3 tensors .* too many"):
        verify_file(tmp_path / "a", less, {})
    with pytest.raises(UserError, match="metadata"):
        verify_file(tmp_path / "a", tensors, {"a": "b"})


# ------------------------------------------------- loading


@pytest.mark.slow
def test_a_finished_file_does_what_the_adapter_did(tmp_path: Path) -> None:
    models = small(dtype=torch.float64)
    plain = predict(models)
    adapter = trained(models, rank=4, alpha=2, conv_rank=3, conv_alpha=1)
    expected = predict(models)
    save_adapter(tmp_path / "a.safetensors", adapter, "fp32", {})
    adapter.detach()
    applied = apply_file(models, tmp_path / "a.safetensors")
    assert torch.equal(predict(models), expected)
    assert not any(vector.requires_grad for vector in applied.vectors.values())
    applied.multiplier = 0.5
    assert not torch.equal(predict(models), expected)
    applied.detach()
    assert torch.equal(predict(models), plain)
    half = apply_file(models, tmp_path / "a.safetensors", multiplier=0.5)
    adapter.multiplier = 0.5
    assert {(site.rank, site.alpha) for site in half.sites} == {(4, 2.0), (3, 1.0)}


def test_diffusers_names_1x1_shapes_and_a_missing_alpha_are_read_too(tmp_path: Path) -> None:
    models = {"unet": small(dtype=torch.float64)["unet"]}
    adapter = trained(models, rank=4, alpha=4)
    text, pooled = torch.randn(2, 77, 96).double(), torch.randn(2, 64).double()
    expected = run_unet(models["unet"], text, pooled)
    other = {}
    for site in adapter.sites:
        for suffix, parameter in adapter.parameters_of(site.target.name).items():
            other[f"{diffusers_name('unet', site.target.path)}.{suffix}"] = parameter[:, :, None, None].clone()
    adapter.detach()
    save_file(other, tmp_path / "a.safetensors")
    apply_file(models, tmp_path / "a.safetensors")
    assert torch.equal(run_unet(models["unet"], text, pooled), expected)


@pytest.mark.slow
def test_only_the_parts_that_are_given_take_part(tmp_path: Path) -> None:
    models = small()
    save_adapter(tmp_path / "a.safetensors", trained(models, rank=2), "fp32", {})
    applied = apply_file({"unet": small()["unet"]}, tmp_path / "a.safetensors")
    assert {site.target.part for site in applied.sites} == {"unet"}


def spoiled(tmp_path: Path, adapter: Adapter, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    tensors = {name: tensor.clone() for name, tensor in file_tensors(adapter, "fp32").items()}
    change(tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda found: found.pop(f"{Q}.lora_up.weight"), f"lacks tensors of the layer {Q}"),
        (lambda found: found.update({f"{Q}.lora_odd.weight": torch.ones(3)}), "kind that is not known.*lora_odd"),
        (lambda found: found.update({"model.diffusion_model.x": torch.ones(3)}), "not an SDXL adapter.*'model'"),
        (lambda found: found.clear(), "holds no tensors"),
        (
            lambda found: found.update({f"{Q}.lora_up.weight": torch.ones(5, 4)}),
            "does not fit the model.*another base model",
        ),
        (
            lambda found: found.update(
                {f"{Q}_else.lora_up.weight": torch.ones(5, 4), f"{Q}_else.lora_down.weight": torch.ones(4, 5)}
            ),
            f"1 layers that this model does not have .first: {Q}_else",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_a_sentence(
    tmp_path: Path, adapter: Adapter, change: Callable[[dict[str, torch.Tensor]], None], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        apply_file({"unet": small()["unet"]}, spoiled(tmp_path, adapter, change))


def test_files_that_are_no_safetensors_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match="pickle"):
        load_adapter_file(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="no such file"):
        load_adapter_file(tmp_path / "none.safetensors")


def test_a_bf16_file_of_the_reference_names_loads_without_loss(tmp_path: Path, adapter: Adapter) -> None:
    save_adapter(tmp_path / "a.safetensors", adapter, "bf16", {})
    loaded = load_file(tmp_path / "a.safetensors")
    assert loaded[f"{Q}.lora_up.weight"].dtype == torch.bfloat16
    applied = apply_file({"unet": small()["unet"]}, tmp_path / "a.safetensors")
    assert torch.equal(applied.parameters_of(Q)["lora_up.weight"], loaded[f"{Q}.lora_up.weight"].float())
