"""convert, one file and diffusers folders: every tensor comes back to the bit, and diffusers loads the folder."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_loras import carry_out, micro_models, propose, run_unet, save_lora
from micro_model import micro_model
from safetensors.torch import load_file, save_file

from engine.adapters.attach import Recipe
from engine.errors import UserError
from engine.lora_tools.checkpoint_checks import parameters, vae_names
from engine.lora_tools.foldering import single_metadata
from engine.sdxl import keys
from engine.sdxl.detect import identify
from engine.sdxl.folder_files import folder_texts
from engine.sdxl.parts import Part, part_config
from engine.sdxl.safefile import read_header
from engine.tools import journal
from ui.language import speaking
from ui.told import retold


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro model with all that single files carry beside their weights."""
    path = tmp_path_factory.mktemp("model") / "all.safetensors"
    tensors = load_file(micro_model())
    tensors["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    tensors["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.25)
    tensors |= {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    save_file(tensors, path, read_header(micro_model()).metadata | {"modelspec.title": "All", "note": "kept"})
    return path


@pytest.fixture(scope="module")
def folder(source: Path) -> Path:
    made = source.parent / "folder"
    code, _ = carry_out(source.parent / "job", "convert", file=source, layout="folder", output=made)
    assert code == 0
    return made


@pytest.mark.slow
def test_a_file_comes_back_from_a_folder_to_the_bit(source: Path, folder: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.safetensors"
    code, _ = carry_out(tmp_path / "job", "convert", file=folder, output=back)
    assert code == 0
    made, old = read_header(back), read_header(source)
    assert made.metadata == old.metadata
    assert _bytes(back) == _bytes(source)
    facts = identify(folder)
    assert (facts.prediction, facts.zero_terminal_snr) == ("v_prediction", True)


def _bytes(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    content = path.read_bytes()
    tensors = read_header(path).tensors
    return {name: (info.dtype, info.shape, content[info.start : info.end]) for name, info in tensors.items()}


@pytest.mark.slow
def test_diffusers_loads_the_folder(folder: Path) -> None:
    """Their own loading, from our index, configurations and tokenizers; and the UNet computes what ours does.

    The checks of a checkpoint ask for the very parameters that these models have.
    """
    from diffusers import StableDiffusionXLPipeline

    pipeline: Any = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    torch.testing.assert_close(run_unet(pipeline.unet), run_unet(micro_models()["unet"]))
    for number, name in ((1, "text_encoder"), (2, "text_encoder_2")):
        theirs, ours = getattr(pipeline, name).state_dict(), micro_models()[f"text_encoder_{number}"].state_dict()
        assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in ours)
    facts, vae = identify(folder), pipeline.vae.state_dict()
    stored = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    assert vae.keys() == stored.keys() == set(vae_names(part_config(facts, "vae")))
    assert all(torch.equal(vae[key], stored[key].float()) for key in vae)
    modules: tuple[tuple[Part, Any], ...] = (("unet", pipeline.unet), ("text_2", pipeline.text_encoder_2))
    for part, module in modules:
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        asked = parameters(part, part_config(facts, part))
        assert asked == {key: shape[:2] if shape[2:] == (1, 1) else shape for key, shape in shapes.items()}
    assert pipeline.tokenizer("a cat!").input_ids == [49406, 320, 2368, 256, 49407]
    padded = pipeline.tokenizer_2("a", padding="max_length", max_length=5).input_ids
    assert padded == [49406, 320, 49407, 0, 0]


def test_a_folder_whose_scheduler_was_changed_says_so_in_the_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "folder")
    path = tmp_path / "folder" / "scheduler" / "scheduler_config.json"
    said = json.loads(path.read_text()) | {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    path.write_text(json.dumps(said))
    code, _ = carry_out(tmp_path / "job", "convert", file=tmp_path / "folder", output=tmp_path / "a.safetensors")
    facts = identify(tmp_path / "a.safetensors")
    assert (code, facts.prediction, facts.zero_terminal_snr) == (0, "epsilon", False)
    assert facts.config.unet["attention_head_dim"] == identify(micro_model()).config.unet["attention_head_dim"]
    metadata = read_header(tmp_path / "a.safetensors").metadata
    assert (metadata["modelspec.title"], metadata["note"]) == ("All", "kept")


@pytest.mark.slow
def test_a_folder_changes_its_precision_and_keeps_its_texts(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "narrow"
    assert carry_out(tmp_path / "first", "convert", file=source, layout="folder", output=folder)[0] == 0
    (folder / "LICENSE.md").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="already"):
        propose("convert", file=folder, layout="folder")
    values = {"layout": "folder", "precision": "fp32", "output": tmp_path / "wide"}
    code, job = carry_out(tmp_path / "job", "convert", file=folder, **values)
    assert code == 0
    name = "unet/diffusion_pytorch_model.safetensors"
    wide, narrow = load_file(tmp_path / "wide" / name), load_file(folder / name)
    assert all(torch.equal(wide[key], narrow[key].float()) for key in narrow)
    for text in ("model_index.json", "tokenizer/merges.txt", "LICENSE.md"):
        assert (tmp_path / "wide" / text).read_text() == (folder / text).read_text()
    assert set(journal.undo(job.journal).failed) == set()
    assert not (tmp_path / "wide").exists()


@pytest.mark.slow
def test_no_folder_is_written_over_and_strange_tensors_are_a_sentence(source: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="ever written over"):
        propose("convert", file=source, layout="folder", output=tmp_path / "there")
    with pytest.raises(UserError, match="folder's name"):
        propose("convert", file=source, layout="folder", output=tmp_path / "a.safetensors")
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    with pytest.raises(UserError, match="choose the naming peft"):
        propose("convert", file=lora, layout="folder")
    odd = load_file(source) | {"model.diffusion_model.extra.weight": torch.ones(2)}
    save_file(odd, tmp_path / "odd.safetensors", read_header(source).metadata)
    with pytest.raises(UserError, match="SDXL does not have"):
        propose("convert", file=tmp_path / "odd.safetensors", layout="folder")


def test_a_fault_on_the_way_leaves_no_folder(source: Path, tmp_path: Path) -> None:
    tensors = load_file(source)
    tensors["model.diffusion_model.out.2.weight"] = torch.full((4, 32, 3, 3), torch.nan).half()
    save_file(tensors, tmp_path / "a.safetensors", read_header(source).metadata)
    values = {"layout": "folder", "precision": "fp32", "output": tmp_path / "made"}
    code, _ = carry_out(tmp_path / "job", "convert", file=tmp_path / "a.safetensors", **values)
    assert code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "job"]


def test_names_of_the_second_encoder_go_there_and_back() -> None:
    names = [name.removeprefix(keys.TEXT_2_PREFIX) for name in read_header(micro_model()).tensors
             if name.startswith(keys.TEXT_2_PREFIX) and not name.endswith("logit_scale")]  # fmt: skip
    for name in names:
        for parameter, found in keys.text_2_parameters(name).items():
            assert keys.text_2_source(parameter) == found
    with pytest.raises(KeyError):
        keys.text_2_parameters("transformer.resblocks.0.attn.nothing")


@pytest.mark.slow
def test_the_refiner_gets_an_index_of_its_own(folder: Path) -> None:
    facts = identify(folder)
    refiner = replace(facts, kind="refiner", config=replace(facts.config, text_1=None))
    index = json.loads(folder_texts(refiner)["model_index.json"])
    assert index["text_encoder"] == [None, None] and index["requires_aesthetics_score"] is True
    assert "refiner" in single_metadata(replace(refiner, path=folder / "none"))["modelspec.architecture"]


@pytest.mark.slow
def test_folders_are_mixed_and_merged_into_as_files_are(source: Path, folder: Path, tmp_path: Path) -> None:
    """The same bytes come out, whether A or B is a file or the folder made of it."""
    other = tmp_path / "b.safetensors"
    halves = {name: tensor / 2 if tensor.is_floating_point() else tensor for name, tensor in load_file(source).items()}
    save_file(halves, other, read_header(source).metadata)
    made: dict[str, Path] = {}
    for name, base, rest in (("one", source, other), ("two", folder, other), ("three", other, folder)):
        made[name] = tmp_path / f"{name}.safetensors"
        values = {"base": base, "others": f"{rest}: 0.5", "output": made[name]}
        assert carry_out(tmp_path / f"job-{name}", "merge_checkpoints", **values)[0] == 0
    assert _bytes(made["one"]) == _bytes(made["two"])
    one, three = load_file(made["one"]), load_file(made["three"])
    name = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    torch.testing.assert_close(three[name], one[name])
    assert not torch.equal(three[name], halves[name])
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2), ("unet", "text_encoder_1", "text_encoder_2"))
    merged = [tmp_path / "merged-file.safetensors", tmp_path / "merged-folder.safetensors"]
    for base, made_file in zip((source, folder), merged, strict=True):
        values = {"base": base, "loras": lora, "output": made_file}
        assert carry_out(tmp_path / f"job-{made_file.stem}", "merge", **values)[0] == 0
    assert _bytes(merged[0]) == _bytes(merged[1])
    assert not torch.equal(load_file(merged[1])[name], load_file(source)[name])


@pytest.mark.slow
def test_a_folder_without_the_rest_gets_clips_constant(folder: Path, tmp_path: Path) -> None:
    """And what was changed in a folder since it was last merged is seen."""
    shutil.copytree(folder, tmp_path / "folder")
    (tmp_path / "folder" / "single_file_rest.safetensors").unlink()
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    made = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for place in made:
        values = {"base": tmp_path / "folder", "loras": lora, "precision": "fp16", "output": place}
        assert carry_out(tmp_path / f"job-{place.stem}", "merge", **values)[0] == 0
        weights = tmp_path / "folder" / "vae" / "diffusion_pytorch_model.safetensors"
        save_file({key: tensor * 0 for key, tensor in load_file(weights).items()}, weights)
    first, second = (load_file(place) for place in made)
    scale = first["conditioner.embedders.1.model.logit_scale"]
    assert scale.dtype == torch.float16 and float(scale) == pytest.approx(4.6055, abs=1e-2)
    name = "first_stage_model.decoder.conv_in.weight"
    assert first[name].any() and not second[name].any()


@pytest.mark.slow
def test_a_checkpoint_is_checked(source: Path, folder: Path, tmp_path: Path) -> None:
    for path in (source, folder):
        found = propose("verify", file=path)
        assert found.problems == () and {check.name for check in found.content} == {"kind", "complete", "finite"}
    tensors, metadata = load_file(source), read_header(source).metadata
    names = ["model.diffusion_model.out.2.bias", "first_stage_model.decoder.mid.attn_1.q.weight"]
    for name in names:
        save_file({key: t for key, t in tensors.items() if key != name}, tmp_path / "a.safetensors", metadata)
        (problem,) = propose("verify", file=tmp_path / "a.safetensors").problems
        assert problem.where == "complete" and problem.message.startswith("lacks 1 tensor in its ")
    faults = {
        "NaN or infinite": {names[0]: torch.full_like(tensors[names[0]], torch.inf)},
        "SDXL does not have": {"model.diffusion_model.out.3.bias": torch.ones(4)},
        "another shape": {names[0]: torch.ones(5)},
    }
    for number, (words, changed) in enumerate(faults.items()):
        save_file(tensors | changed, tmp_path / f"{number}.safetensors", metadata)
        (problem,) = propose("verify", file=tmp_path / f"{number}.safetensors").problems
        assert words in str(problem)
        with speaking("zh"):
            assert re.search(r"[\u4e00-\u9fff]", retold(problem.message)) and words not in retold(problem.message)
