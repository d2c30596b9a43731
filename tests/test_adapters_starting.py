"""engine/adapters/starting.py, engine/plan_start.py: going on from an adapter that was trained before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_models import small
from safetensors.torch import load_file, save_file
from test_layer_choice import config_of
from torch import nn

from engine.adapters.attach import Adapter, Recipe, attach
from engine.adapters.files import save_adapter
from engine.adapters.starting import Start
from engine.adapters.targets import UNET, all_targets, diffusers_name
from engine.errors import ModelError, PresetError
from engine.plan_sizes import adapter_parameters
from engine.plan_start import start_problems
from engine.preset import Preset
from engine.recipe import recipe_of


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return small()


@pytest.fixture(scope="module")
def file(models: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained adapter of the UNet and the first text encoder, rank 3, alpha 2, with convolutions of rank 2."""
    parts = {name: models[name] for name in ("unet", "text_encoder_1")}
    adapter = attach(parts, Recipe(rank=3, alpha=2, conv_rank=2, conv_alpha=1), device="cpu")
    adapter.load_tensors({name: torch.randn_like(view) * 0.1 for name, view in adapter.tensors().items()})
    adapter.detach()
    path = tmp_path_factory.mktemp("start") / "before.safetensors"
    save_adapter(path, adapter, "fp32", {})
    return path


def preset(file: Path | None, **values: Any) -> Preset:
    given = {"start_from": str(file) if file else "", **values}
    changes = {f"adapter.{name}": value for name, value in given.items()}
    return Preset().changed({**changes, "captions.cache_text": False})


SAME = {"rank": 3, "alpha": 2, "conv_rank": 2, "conv_alpha": 1, "text_encoder_1": True}


def attached(models: dict[str, nn.Module], wanted: Preset) -> Adapter:
    parts = {"unet": models["unet"]}
    if wanted.adapter.text_encoder_1:
        parts["text_encoder_1"] = models["text_encoder_1"]
    adapter = attach(parts, recipe_of(wanted), device="cpu")
    adapter.detach()
    return adapter


@pytest.mark.slow
@pytest.mark.parametrize("values", [SAME, {"rank_from_file": True, "text_encoder_1": True}], ids=["set", "from file"])
def test_without_a_step_the_same_numbers_are_saved(models, file: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    wanted = preset(file, **values)
    assert start_problems(config_of(models), wanted) == []
    adapter = attached(models, wanted)
    save_adapter(tmp_path / "after.safetensors", adapter, "fp32", {})
    before, after = load_file(file), load_file(tmp_path / "after.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert adapter_parameters(config_of(models), wanted) == adapter.parameter_count
    assert adapter.started.endswith(f"{len(adapter.sites)} layers taken over.")


def test_layers_that_one_side_lacks_are_told(models, file: Path) -> None:
    adapter = attached(models, preset(file, rank=3, alpha=2, outer_layers=True))
    assert "4 start anew" in adapter.started  # the embeddings of time and size
    assert "of the file are left out" in adapter.started
    fresh = [site for site in adapter.sites if site.target.kind == "outer"]
    assert all(not adapter.parameters_of(site.target.name)["lora_up.weight"].any() for site in fresh)


def test_choice_and_rates_hold_for_the_layers_of_the_file(models, file: Path) -> None:
    wanted = preset(file, rank_from_file=True, blocks="up_blocks", layer_settings="*attn2*: rate 0.5")
    adapter = attached(models, wanted)
    assert {group.factor for group in adapter.groups} == {0.5, 1.0}
    assert all("output_blocks" in site.target.name for site in adapter.sites)
    assert {site.rank for site in adapter.sites if site.target.is_conv} == {2}
    assert adapter_parameters(config_of(models), wanted) == adapter.parameter_count


@pytest.mark.slow
def test_the_algorithm_may_be_another_one_with_the_same_tensors(models, file: Path) -> None:
    adapter = attached(models, preset(file, rank_from_file=True, algorithm="lora_fa"))
    assert {site.algorithm for site in adapter.sites} == {"lora_fa"}
    assert all(not name.endswith("lora_down.weight") for group in adapter.groups for name in group.flat.slots)
    with pytest.raises(ModelError, match=r"holds lora .* and adapter\.algorithm is full"):
        attached(models, preset(file, rank_from_file=True, algorithm="full"))


@pytest.mark.slow
def test_names_as_diffusers_has_them_are_found(models, file: Path, tmp_path: Path) -> None:
    names = {target.name: diffusers_name(UNET, target.path) for target in all_targets(UNET, models["unet"])}
    tensors = load_file(file)
    renamed = {names.get(name.split(".")[0], name.split(".")[0]) + name[name.index(".") :]: tensor
               for name, tensor in tensors.items()}  # fmt: skip
    save_file(renamed, tmp_path / "diffusers.safetensors")
    adapter = attached(models, preset(tmp_path / "diffusers.safetensors", **SAME))
    assert all(torch.equal(adapter.tensors()[name], tensor) for name, tensor in tensors.items())


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "another rank": ({**SAME, "rank": 4}, "here it must have"),
    "another alpha": ({**SAME, "alpha": 3}, "has alpha 2; here it is 3"),
    "another kind": ({"algorithm": "full", "text_encoder_1": True}, "has the tensors"),
}


@pytest.mark.parametrize(("values", "words"), MISFITS.values(), ids=MISFITS)
def test_a_file_that_does_not_fit_is_refused(models, file: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=r"adapter\.rank_from_file") as caught:
        attached(models, preset(file, **values))
    assert words in str(caught.value)


def test_the_plan_tells_before_the_model_is_loaded(models, file: Path, tmp_path: Path) -> None:
    config = config_of(models)
    [problem] = start_problems(config, preset(file, **{**SAME, "rank": 4}))
    assert problem.where == "adapter.start_from"
    assert "here it must have [4," in problem.message
    [problem] = start_problems(config, preset(tmp_path / "none.safetensors"))
    assert "none.safetensors" in problem.message
    save_file({"other.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    problem = start_problems(config, preset(tmp_path / "other.safetensors"))[0]
    assert "is not an SDXL adapter" in problem.message
    assert adapter_parameters(config, preset(tmp_path / "none.safetensors", rank_from_file=True)) == 0


def test_another_model_s_file_and_one_of_other_parts_are_refused(models, file: Path, tmp_path: Path) -> None:
    tensors = load_file(file)
    more = {"lora_unet_input_blocks_99_1_proj_in.lora_down.weight": torch.zeros(2, 2)}
    more["lora_unet_input_blocks_99_1_proj_in.lora_up.weight"] = torch.zeros(2, 2)
    save_file({**tensors, **more}, tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match="does not have"):
        attached(models, preset(tmp_path / "large.safetensors", rank_from_file=True))
    text = {name: tensor for name, tensor in tensors.items() if "_te1_" in name}
    save_file(text, tmp_path / "text.safetensors")
    for start in (Start.read(tmp_path / "text.safetensors"), Start.read(tmp_path / "text.safetensors", True)):
        with pytest.raises(ModelError, match="no layer that this preset trains"):
            attach({"unet": models["unet"]}, Recipe(rank=3, start=start), device="cpu")


@pytest.mark.parametrize(
    ("values", "where"),
    [({"rank_from_file": True}, "adapter.rank_from_file"),
     ({"start_from": "x", "rank_from_file": True, "block_ranks": "4"}, "adapter.block_ranks")],
)  # fmt: skip
def test_ranks_from_a_file_need_one_and_no_others(values: dict[str, Any], where: str) -> None:
    with pytest.raises(PresetError) as caught:
        preset(None, **values)
    assert [problem.where for problem in caught.value.problems] == [where]
