"""Results keep the names of their input, alphas included; diffusers and peft load every naming and compute the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import LINEAR, TEXT, as_diffusers, changes_of, made, metadata_of, tensors_of, write_file
from micro_loras import carry_out, micro_models, run_text, run_unet, save_lora

from engine.adapter_header import read_adapter
from engine.adapters.attach import Recipe
from engine.adapters.loading import apply_file
from engine.lora_tools.numbers import change_norm, tucker_norm


@pytest.mark.parametrize("family", ["lora", "loha", "lokr", "full"])
def test_norms_are_those_of_the_change(tmp_path: Path, family: str) -> None:
    file = write_file(tmp_path / "a.safetensors", family, rank=4, alpha=3.0)
    header = read_adapter(file)
    for layer, change in changes_of(file).items():
        assert change_norm(header, layer) == pytest.approx(float(change.norm()), rel=1e-4)


def test_norms_of_kinds_that_depend_on_the_base_are_not_told(tmp_path: Path) -> None:
    for family in ("dora", "oft", "glora"):
        file = write_file(tmp_path / f"{family}.safetensors", family, rank=4, layers=(LINEAR,))
        assert change_norm(read_adapter(file), LINEAR) is None


def test_the_norm_of_a_core_between_matrices_is_that_of_their_product() -> None:
    generator = torch.Generator().manual_seed(0)
    up, core, down = (torch.randn(s, generator=generator) for s in ((6, 3), (3, 4, 3, 3), (4, 5)))
    dense = torch.einsum("oa,abkl,bi->oikl", up, core, down)
    assert tucker_norm(up.numpy(), core.numpy(), down.numpy()) == pytest.approx(float(dense.norm()), rel=1e-5)


PARTS = ("unet", "text_encoder_1", "text_encoder_2")


def as_naming(source: Path, naming: str, target: Path) -> Path:
    code, _ = carry_out(target.parent / f"job-{target.name}", "convert", file=source, naming=naming, output=target)
    assert code == 0
    return target


@pytest.fixture(scope="module")
def peft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as peft saves it, of a LoRA of rank 4 and alpha 2 in the UNet and a text encoder."""
    place = tmp_path_factory.mktemp("peft")
    source = write_file(place / "a.safetensors", rank=4, alpha=2.0, layers=(LINEAR, TEXT))
    return as_naming(source, "peft", place / "a-peft")


@pytest.mark.parametrize(
    ("tool", "values"),
    [("resize", {"rank": 8}), ("prune", {"exclude": "*te1*"}), ("cut", {"away": "text_encoders"})],
)
def test_a_folder_of_peft_gives_a_folder_of_peft(peft: Path, tmp_path: Path, tool: str, values: Any) -> None:
    result = made(tool, tmp_path, files=peft, output=tmp_path, **values)
    found, old = changes_of(result), changes_of(peft)
    assert result.is_dir() and read_adapter(result).naming == "peft"
    assert found and all(torch.equal(found[name], old[name]) for name in found)
    config = json.loads((result / "unet" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 2, "LORA")


def test_lower_ranks_of_peft_keep_what_alpha_does(peft: Path, tmp_path: Path) -> None:
    result = made("resize", tmp_path, files=peft, rank=2, output=tmp_path)
    config = json.loads((result / "text_encoder" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2, 1)
    old = changes_of(peft)
    for name, change in changes_of(result).items():
        best = torch.linalg.svdvals(old[name])[2:].norm()
        torch.testing.assert_close((old[name] - change).norm(), best, rtol=1e-4, atol=1e-6)


def test_one_file_of_peft_gets_kohyas_names(peft: Path, tmp_path: Path) -> None:
    result = made("resize", tmp_path, files=peft, rank=8, output=tmp_path / "one.safetensors")
    assert f"{LINEAR}.alpha" in tensors_of(result)
    assert all(torch.equal(change, changes_of(peft)[name]) for name, change in changes_of(result).items())


def test_loras_of_diffusers_combine_to_one_of_diffusers(tmp_path: Path) -> None:
    """Of different alphas: 4 of 4 and 8 of 4."""
    sources = [
        as_diffusers(write_file(tmp_path / f"k{n}.safetensors", rank=4, seed=n), tmp_path / f"{n}.safetensors", alpha)
        for n, alpha in ((1, 4.0), (2, 8.0))
    ]
    result = made("combine", tmp_path, files="\n".join(map(str, sources)), output=tmp_path)
    assert read_adapter(result).naming == "diffusers"
    assert all("lora_A" in key or "lora_B" in key for key in tensors_of(result))
    one, two = (changes_of(source) for source in sources)
    for name, change in changes_of(result).items():
        torch.testing.assert_close(change, one[name] + two[name], rtol=1e-4, atol=1e-6)
    again = made("prune", tmp_path, files=sources[1], exclude="*te1*", output=tmp_path)
    assert json.loads(metadata_of(again)["lora_adapter_metadata"])["unet.lora_alpha"] == 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A LoRA with an alpha and convolutions; what UNet and text encoders compute with it on."""
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    lora = save_lora(path, Recipe(rank=3, alpha=2, conv_rank=2, conv_alpha=1), PARTS)
    models = micro_models()
    adapter = apply_file(models, lora, 1.0)
    expected = run_unet(models["unet"]), run_text(models)
    adapter.detach()
    return lora, *expected


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Any]:
    from test_adapters_diffusers import diffusers_pipeline

    yield diffusers_pipeline(micro_models())


@pytest.mark.slow
@pytest.mark.parametrize("naming", ["kohya", "lycoris", "diffusers", "diffusers_old"])
def test_diffusers_computes_the_same_from_every_naming(trained, pipeline: Any, tmp_path: Path, naming: str) -> None:
    lora, expected, rows = trained
    file = lora if naming == "kohya" else as_naming(lora, naming, tmp_path / "a.safetensors")
    models = {part: getattr(pipeline, part.removesuffix("_1")) for part in PARTS}
    pipeline.load_lora_weights(str(file), local_files_only=True)
    try:
        torch.testing.assert_close(run_unet(models["unet"]), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(run_text(models), rows, rtol=1e-4, atol=1e-5)
    finally:
        pipeline.unload_lora_weights()


@pytest.mark.slow
def test_peft_computes_the_same_from_its_folder(trained, tmp_path: Path) -> None:
    from peft import PeftModel

    lora, expected, rows = trained
    folder = as_naming(lora, "peft", tmp_path / "made")
    models: dict[str, Any] = {
        part: PeftModel.from_pretrained(copy.deepcopy(module), folder / part.removesuffix("_1"))  # pyright: ignore
        for part, module in micro_models().items()
    }
    torch.testing.assert_close(run_unet(models["unet"]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run_text(models), rows, rtol=1e-4, atol=1e-5)
