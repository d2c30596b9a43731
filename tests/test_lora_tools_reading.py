"""inspect, verify, convert and merge_checkpoints: what they tell is so, and bad input is a sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from micro_loras import carry_out, micro_models, propose, save_lora
from micro_model import micro_model
from PIL import Image
from safetensors.torch import load_file, save_file

from engine.__main__ import main
from engine.adapter_header import known_adapter
from engine.adapters.attach import Recipe
from engine.errors import UserError
from engine.lora_tools.facts import read_facts
from engine.lora_tools.inspect import told
from engine.lora_tools.settings_table import TARGET, page
from engine.sdxl.safefile import read_header
from engine.tools import journal


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = {
        "ss_tag_frequency": json.dumps({"10_zkt cat": {"zkt": 12, "<b>bold</b>": 3}, "reg": {"zkt": 1}}),
        "ss_num_train_images": "13", "ss_dataset_dirs": json.dumps({"10_zkt cat": {"n_repeats": 10, "img_count": 12}}),
        "ss_optimizer": "AdamW", "modelspec.title": "Cat", "modelspec.prediction_type": "epsilon",
    }  # fmt: skip
    parts = ("unet", "text_encoder_1")
    return save_lora(tmp_path_factory.mktemp("lora") / "cat.safetensors", Recipe(rank=3, alpha=2), parts, **about)


@pytest.mark.slow
def test_facts_are_those_of_the_file(lora: Path) -> None:
    header, facts = read_facts(lora)
    assert facts.families == {"LoRA": len(header.layers)}
    assert {block.ranks for block in facts.blocks} == {"3"} and {block.alphas for block in facts.blocks} == {"2"}
    assert facts.tags[0] == ("zkt", 13) and facts.triggers == ("zkt", "zkt cat")
    hashes = dict(facts.hashes)
    assert hashes["AutoV2"] == hashlib.sha256(lora.read_bytes()).hexdigest()[:10]
    assert hashes["sshs_model_hash"] == hashlib.sha256(_weights(lora)).hexdigest()
    tensors = load_file(lora)
    blocks = {block.name: block for block in facts.blocks}
    names = [name for name in header.layers if name.startswith("lora_te1")]
    products = [tensors[f"{name}.lora_up.weight"] @ tensors[f"{name}.lora_down.weight"] * (2 / 3) for name in names]
    total = sum(float(product.square().sum()) for product in products) ** 0.5
    assert blocks["text encoder 1"].norm == pytest.approx(total, rel=1e-5)


def _weights(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_the_difference_of_two_files_is_told(lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {name: tensor * 2 if name.endswith("up.weight") else tensor for name, tensor in load_file(lora).items()}
    save_file(tensors, tmp_path / "twice.safetensors", {"ss_optimizer": "Lion"})
    assert main(["inspect", str(lora), str(tmp_path / "twice.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {what: (before, after) for what, before, after in found["difference"]["rows"]}
    assert rows["ss_optimizer"] == ("AdamW", "Lion")
    assert rows["what they do to the weights, apart by"][0] == "100.00%"
    assert not propose("inspect", file=lora, other=lora).content.difference.rows
    assert "the same as" in told(propose("inspect", file=lora, other=lora))[0]


def test_a_card_is_written_into_a_new_file(lora: Path, tmp_path: Path) -> None:
    Image.new("RGB", (600, 300), "red").save(tmp_path / "a.png")
    values = {"title": "Tom", "trigger_phrase": "tom", "thumbnail": tmp_path / "a.png", "output": tmp_path}
    code, job = carry_out(tmp_path / "job", "inspect", file=lora, **values)
    made = tmp_path / "cat-card.safetensors"
    assert code == 0
    header = read_header(made)
    assert header.metadata["modelspec.title"] == "Tom" and "jpeg" in header.metadata["modelspec.thumbnail"]
    assert header.metadata["sshs_model_hash"] == read_header(lora).metadata["sshs_model_hash"]
    assert _weights(made) == _weights(lora)
    assert read_facts(made)[1].triggers == ("tom",)
    code, _ = carry_out(tmp_path / "job2", "inspect", file=made, thumbnail="-", output=tmp_path / "b.safetensors")
    assert "modelspec.thumbnail" not in read_header(tmp_path / "b.safetensors").metadata
    journal.undo(job.journal)
    assert not made.exists()
    (tmp_path / "a.png").write_bytes(b"x")
    assert "no picture" in propose("inspect", file=lora, thumbnail=tmp_path / "a.png").problems[0].message


def test_a_sound_file_passes_every_check(lora: Path) -> None:
    found = propose("verify", file=lora, base=micro_model())
    assert found.problems == () and found.warnings == ()
    assert {check.name for check in found.content} >= {
        "complete",
        "finite",
        "not zero",
        "fits the checkpoint",
        "ComfyUI",
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t, name: t | {name: t[name] * torch.nan}, "NaN or infinite"),
        (lambda t, name: {key: tensor for key, tensor in t.items() if key != name}, "missing or unknown"),
        (lambda t, name: t | {name: t[name][:, :1].contiguous()}, "different ranks"),
        (lambda t, name: {k: v * 0 if k.endswith("up.weight") else v for k, v in t.items()}, "would change nothing"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(lora: Path, tmp_path: Path, change, sentence) -> None:
    tensors = load_file(lora)
    name = next(name for name in tensors if name.endswith("lora_up.weight"))
    save_file(change(tensors, name), tmp_path / "a.safetensors")
    assert sentence in " ".join(
        problem.message for problem in propose("verify", file=tmp_path / "a.safetensors").problems
    )


def test_a_converted_file_comes_back_and_says_who_reads_it(lora: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "peft", tmp_path / "back.safetensors"
    code, job = carry_out(tmp_path / "job", "convert", file=lora, naming="peft", output=there)
    assert code == 0
    assert (there / "text_encoder" / "adapter_config.json").is_file()
    assert [warning.where for warning in propose("verify", file=there).warnings] == [
        "AUTOMATIC1111",
        "Forge",
        "ComfyUI",
    ]
    code, _ = carry_out(tmp_path / "job2", "convert", file=there, naming="kohya", output=back)
    assert code == 0
    assert _weights(back) == _weights(lora)
    assert read_header(back).metadata == read_header(lora).metadata
    assert set(journal.undo(job.journal).failed) == set()
    assert not there.exists()
    with pytest.raises(UserError, match="this number format already"):
        propose("convert", file=lora, naming="kohya")


def test_precision_changes_matrices_and_not_alphas(lora: Path, tmp_path: Path) -> None:
    carry_out(tmp_path / "job", "convert", file=lora, naming="same", precision="bf16", output=tmp_path)
    made = next(tmp_path.glob("*.safetensors"))
    tensors, old = load_file(made), load_file(lora)
    assert all(torch.equal(tensors[name], old[name].to(tensors[name].dtype)) for name in old)
    assert {tensor.dtype for name, tensor in tensors.items() if not name.endswith(".alpha")} == {torch.bfloat16}
    assert known_adapter(made).metadata["sshs_model_hash"] == hashlib.sha256(_weights(made)).hexdigest()


def test_a_checkpoint_changes_its_precision(tmp_path: Path) -> None:
    carry_out(tmp_path / "job", "convert", file=micro_model(), precision="fp32", output=tmp_path / "a.safetensors")
    wide, narrow = load_file(tmp_path / "a.safetensors"), load_file(micro_model())
    assert all(torch.equal(wide[name], narrow[name].float()) for name in narrow)
    with pytest.raises(UserError, match="in this number format already"):
        propose("convert", file=micro_model())


def test_a_diffusers_folder_becomes_the_same_file(tmp_path: Path) -> None:
    """Saved by diffusers' own classes, read back as one file: every tensor as it was."""
    models, folder = micro_models(), tmp_path / "folder"
    from engine.sdxl.checkpoint import load_vae
    from engine.sdxl.detect import identify

    models["unet"].save_pretrained(folder / "unet")  # pyright: ignore[reportCallIssue]
    load_vae(identify(micro_model()), torch.float32, "cpu").save_pretrained(folder / "vae")
    for number, name in ((1, "text_encoder"), (2, "text_encoder_2")):
        models[f"text_encoder_{number}"].save_pretrained(folder / name)  # pyright: ignore[reportCallIssue]
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    index = {"_class_name": "StableDiffusionXLPipeline", **{part: ["x", "y"] for part in parts}}
    (folder / "model_index.json").write_text(json.dumps(index))
    code, _ = carry_out(tmp_path / "job", "convert", file=folder, precision="fp16", output=tmp_path / "a.safetensors")
    assert code == 0
    made, old = load_file(tmp_path / "a.safetensors"), load_file(micro_model())
    assert set(made) == set(old)
    assert identify(tmp_path / "a.safetensors").config == identify(micro_model()).config
    assert all(torch.equal(made[name], old[name]) for name in made)


def test_checkpoints_are_mixed_by_share_and_by_block(tmp_path: Path) -> None:
    base = load_file(micro_model())
    other = {name: tensor + 0.5 if tensor.dim() else tensor for name, tensor in base.items()}
    header = read_header(micro_model())
    save_file(other, tmp_path / "b.safetensors", header.metadata)
    weights = ",".join("1" if block == 5 else "0" for block in range(23))
    line = f"{tmp_path / 'b.safetensors'}: 0.5: 0.25: {weights}"
    values = {"base": micro_model(), "precision": "fp32"}
    code, _ = carry_out(tmp_path / "job", "merge_checkpoints", others=line, output=tmp_path / "m.safetensors", **values)
    assert code == 0
    made = load_file(tmp_path / "m.safetensors")
    moved = {name: float((made[name] - base[name].float()).abs().max()) for name in base if base[name].dim()}
    inside = [name for name in moved if name.startswith("model.diffusion_model.input_blocks.4.")]
    assert inside and all(moved[name] == pytest.approx(0.25, abs=1e-3) for name in inside)
    assert all(moved[n] == pytest.approx(0.125, abs=1e-3) for n in moved if n.startswith("conditioner."))
    assert all(moved[name] == 0 for name in moved if name.startswith("first_stage_model."))
    assert not any(moved[name] for name in moved if name.startswith("model.") and name not in inside)


def test_a_difference_is_added(tmp_path: Path) -> None:
    base, header = load_file(micro_model()), read_header(micro_model())
    tuned = {name: tensor * 1.5 for name, tensor in base.items()}
    save_file(tuned, tmp_path / "b.safetensors", header.metadata)
    values = {"base": tmp_path / "b.safetensors", "others": f"{tmp_path / 'b.safetensors'}: 1", "minus": micro_model()}
    out = tmp_path / "m.safetensors"
    code, _ = carry_out(
        tmp_path / "job", "merge_checkpoints", method="add_difference", output=out, precision="fp32", **values
    )
    made, name = load_file(out), "model.diffusion_model.input_blocks.0.0.weight"
    assert code == 0
    torch.testing.assert_close(made[name], 2 * tuned[name].float() - base[name].float())


def test_checkpoints_that_do_not_go_together_are_a_sentence(lora: Path, tmp_path: Path) -> None:
    base, header = load_file(micro_model()), read_header(micro_model())
    base["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(32, 9, 3, 3).half()
    save_file(base, tmp_path / "b.safetensors", header.metadata)
    found = propose("merge_checkpoints", base=micro_model(), others=f"{tmp_path / 'b.safetensors'}\n{lora}")
    said = " ".join(str(problem) for problem in found.problems)
    assert "cannot be mixed" in said and "not a base model" in said
    with pytest.raises(UserError, match="trained from"):
        propose("merge_checkpoints", base=micro_model(), others="x", method="add_difference")


def test_a_stop_leaves_no_file(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.tools.working.JobReport.is_stop_asked", lambda self: True)
    carry_out(tmp_path / "job", "merge", base=micro_model(), loras=str(lora), output=tmp_path / "m.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job"]


def test_the_page_of_the_docs_is_as_it_is_made() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m engine.settings_table"
