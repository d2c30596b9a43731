"""engine/lora_tools/merge.py: a merged checkpoint computes what the adapters on it do; bad input is a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from micro_loras import carry_out, failure, micro_models, models_of, propose, run_text, run_unet, save_lora
from micro_model import micro_model
from safetensors.torch import load_file, save_file

from engine.adapter_header import known_adapter
from engine.adapter_shapes import Options
from engine.adapters.attach import Recipe
from engine.adapters.loading import apply_file
from engine.errors import UserError
from engine.layer_choice import LayerChoice
from engine.lora_tools.renaming import rename
from engine.lora_tools.stream import write_stream
from engine.sdxl.safefile import read_header
from engine.tools import journal

MIDDLE = LayerChoice(rank=3, alpha=2, conv_rank=2, include=("*middle_block*",))
"""Linears, convolutions and norms: each kind of layer, and a sixth of the time that all of them take."""
RECIPES = {
    "lora": Recipe(rank=3, alpha=2, conv_rank=2),
    "dora": Recipe("dora", options=Options(dora_norm="output"), choice=MIDDLE),
    "loha": Recipe("loha", choice=replace(MIDDLE, alpha=20, conv_alpha=20)),
    "lokr": Recipe("lokr", choice=MIDDLE),
    "oft": Recipe("oft", choice=replace(MIDDLE, rank=4)),
    "ia3": Recipe("ia3", choice=MIDDLE),
    "glora": Recipe("glora", choice=MIDDLE),
    "full": Recipe("full", norms=True, choice=MIDDLE),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", RECIPES)
def test_the_merged_unet_computes_what_the_adapter_does(tmp_path: Path, family: str) -> None:
    lora = save_lora(tmp_path / "lora.safetensors", RECIPES[family])
    unet = {"unet": micro_models()["unet"]}
    plain = run_unet(unet["unet"])
    adapter = apply_file(unet, lora, 0.8)
    expected = run_unet(unet["unet"])
    adapter.detach()
    assert (expected - plain).abs().max() > 1e-3
    code, _ = carry_out(
        tmp_path / "job", "merge", base=micro_model(), loras=f"{lora}: 0.8", output=tmp_path / "m.safetensors",
        precision="fp32",
    )  # fmt: skip
    assert code == 0
    merged = run_unet(models_of(tmp_path / "m.safetensors")["unet"])
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_text_encoders_blocks_and_namings_take_part(tmp_path: Path) -> None:
    """q, k and v of the second encoder are one tensor in the checkpoint; block weights act as when drawing."""
    parts = ("unet", "text_encoder_1", "text_encoder_2")
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2), parts)
    theirs = rename(known_adapter(lora), "diffusers")[""]
    write_stream(tmp_path / "theirs.safetensors", theirs.entries, theirs.metadata)
    models = {part: micro_models()[part] for part in parts}
    adapter = apply_file({part: models[part] for part in parts[1:]}, lora, 0.5)
    expected = run_text(models)
    adapter.detach()
    weights = ",".join(["0"] * 23)
    line = f"{tmp_path / 'theirs.safetensors'}: 1: 0.5: {weights}"
    values = {"base": micro_model(), "output": tmp_path / "m.safetensors", "precision": "fp32"}
    code, job = carry_out(tmp_path / "job", "merge", loras=line, **values)
    assert code == 0
    merged = models_of(tmp_path / "m.safetensors", parts)
    torch.testing.assert_close(run_text(merged), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(run_unet(merged["unet"]), run_unet(models["unet"]), rtol=1e-6, atol=1e-6)
    journal.undo(job.journal)
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.slow
def test_what_no_lora_touches_stays_to_the_bit(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    carry_out(tmp_path / "job", "merge", base=micro_model(), loras=str(lora), output=tmp_path)
    made = next(tmp_path.glob("*-with-lora.safetensors"))
    old, new = load_file(micro_model()), load_file(made)
    assert {name: tensor.dtype for name, tensor in old.items()} == {name: tensor.dtype for name, tensor in new.items()}
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all("attn" in name or ".ff." in name or ".proj_" in name for name in changed)
    assert "lora.safetensors" in read_header(made).metadata["modelspec.merged_from"]


@pytest.mark.slow
def test_bad_input_is_a_sentence_before_anything_is_written(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    tensors = load_file(lora)
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    other = {key.replace("input_blocks_3_1", "input_blocks_7_1"): tensor for key, tensor in tensors.items()}
    save_file(other, tmp_path / "deep.safetensors")
    save_file(tensors | {name: torch.ones(3, 2)}, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(lora.read_bytes()[:-8])
    save_file({"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.ones(1)}, tmp_path / "sd1.safetensors")
    lines = "\n".join(str(tmp_path / f"{name}.safetensors") for name in ("deep", "other", "cut", "sd1", "none"))
    found = propose("merge", base=micro_model(), loras=lines + "\nx: y")
    said = " ".join(problem.message for problem in found.problems)
    for words in (
        "does not have",
        "does not fit the model",
        "cut off",
        "was made for Stable Diffusion 1.x",
        "no such file",
        "strength",
    ):
        assert words in said
    with pytest.raises(UserError, match="ever written over"):
        propose("merge", base=micro_model(), loras=str(lora), output=lora)
    with pytest.raises(UserError, match="not a base model"):
        propose("merge", base=lora, loras=str(lora))


@pytest.mark.slow
def test_numbers_that_are_not_finite_leave_no_file(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    tensors = load_file(lora)
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    tensors[name][0, 0] = torch.nan
    save_file(tensors, lora)
    code, job = carry_out(
        tmp_path / "job", "merge", base=micro_model(), loras=str(lora), output=tmp_path / "m.safetensors"
    )
    assert code == 2
    assert "not finite" in failure(job)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "lora.safetensors"]


def test_no_room_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("engine.lora_tools.place.shutil.disk_usage", lambda path: usage)
    found = propose("merge", base=micro_model(), loras=str(lora))
    assert any("Free some space" in problem.message for problem in found.problems)


@pytest.mark.slow
def test_a_base_with_numbers_that_are_not_finite_is_named(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora.safetensors", Recipe(rank=2))
    tensors = load_file(micro_model())
    name = max((name for name in tensors if "attn1.to_q.weight" in name), key=lambda name: tensors[name].numel())
    tensors[name][-1, -1] = torch.nan
    base = tmp_path / "base.safetensors"
    save_file(tensors, base, read_header(micro_model()).metadata)
    code, job = carry_out(tmp_path / "job", "merge", base=base, loras=str(lora), output=tmp_path / "m.safetensors")
    assert code == 2 and str(base) in job.events.read_text() and not (tmp_path / "m.safetensors").exists()
    assert "not finite" in failure(job)
