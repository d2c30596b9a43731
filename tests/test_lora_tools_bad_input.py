"""Each tool, each way in which a file can be bad: a sentence before or while it works, and nothing is left behind."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import METADATA, write_file
from micro_loras import carry_out, propose, save_lora
from micro_model import micro_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.adapters.attach import Recipe

SD1 = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
FLUX = "lora_unet_double_blocks_0_img_attn_qkv"


def pair(layer: str) -> dict[str, Tensor]:
    return {f"{layer}.lora_down.weight": torch.ones(2, 8), f"{layer}.lora_up.weight": torch.ones(8, 2)}


def changed(change: Callable[[dict[str, Tensor], str], dict[str, Tensor]]) -> Callable[[Path, Path], None]:
    def make(good: Path, path: Path) -> None:
        tensors = load_file(good)
        save_file(change(tensors, next(name for name in tensors if name.endswith("lora_up.weight"))), path, METADATA)

    return make


BAD: dict[str, Callable[[Path, Path], object]] = {
    "cut off": lambda good, path: path.write_bytes(good.read_bytes()[:-8]),
    "its header cut off": lambda good, path: path.write_bytes(good.read_bytes()[:40]),
    "a web page": lambda good, path: path.write_bytes(b"<html>not found</html>"),
    "missing": lambda good, path: None,
    "NaN": changed(lambda tensors, name: tensors | {name: tensors[name] * torch.nan}),
    "an alpha of NaN": changed(lambda t, name: t | {name.replace("lora_up.weight", "alpha"): torch.tensor(torch.nan)}),
    "mixed ranks": changed(lambda tensors, name: tensors | {name: tensors[name][:, :1].contiguous()}),
    "half of a pair": changed(lambda tensors, name: {key: one for key, one in tensors.items() if key != name}),
    "another family": lambda good, path: save_file(pair(SD1), path),
    "yet another family": lambda good, path: save_file(pair(FLUX), path),
}  # fmt: skip
MORE = ("its header cut off", "a web page", "missing", "yet another family")
TOOLS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "inspect": lambda good, bad: {"file": bad},
    "verify": lambda good, bad: {"file": bad},
    "merge": lambda good, bad: {"base": micro_model(), "loras": f"{good}\n{bad}"},
    "combine": lambda good, bad: {"files": f"{good}\n{bad}"},
    "resize": lambda good, bad: {"files": str(bad), "rank": 1},
    "extract": lambda good, bad: {"tuned_model": bad, "base_model": micro_model()},
    "convert": lambda good, bad: {"file": bad, "naming": "diffusers"},
    "merge_checkpoints": lambda good, bad: {"base": micro_model(), "others": str(bad)},
    "prune": lambda good, bad: {"files": str(bad), "blocks": "attention"},
    "dylora": lambda good, bad: {"files": str(bad), "rank": 1},
    "cut": lambda good, bad: {"files": str(bad), "away": "unet"},
    "caches": lambda good, bad: {"preset": bad, "action": "make"},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = ("unet", "text_encoder_1")
    return save_lora(tmp_path_factory.mktemp("lora") / "good.safetensors", Recipe(rank=2), parts)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in MORE else kind for kind in BAD])
def test_a_bad_file_is_a_sentence_and_leaves_nothing(good: Path, tmp_path: Path, tool: str, kind: str) -> None:
    bad, out = tmp_path / "bad.safetensors", tmp_path / "out"
    out.mkdir()
    BAD[kind](good, bad)
    about = TOOLS[tool](good, bad) | ({} if tool in ("inspect", "verify", "caches") else {"output": out})
    code, job = carry_out(tmp_path / "job", tool, **about)
    lines = [json.loads(line) for line in job.events.read_text(encoding="utf-8").splitlines()]
    said = [line["message"] for line in lines if line["kind"] in ("failed", "warned")]
    notes = [done.row.note for done in job.read_table()[0] if done.outcome == "failed"]
    assert any(text.rstrip().endswith(".") for text in [*said, *notes])
    assert code == (0 if tool == "inspect" and kind in ("NaN", "half of a pair") else 2)
    assert not list(out.iterdir())


def test_a_lora_of_another_kind_for_another_base_is_told_before_the_work(tmp_path: Path) -> None:
    layer = "lora_unet_input_blocks_3_1_transformer_blocks_0_attn2_to_k"
    for family in ("loha", "lokr", "oft", "glora", "full", "dora"):
        tensors = load_file(write_file(tmp_path / "a.safetensors", family, rank=4))
        own = {f"{layer}.{name.partition('.')[2]}": one for name, one in tensors.items() if "attn2_to_k" in name}
        save_file(own, tmp_path / f"{family}.safetensors", METADATA)
        found = propose("merge", base=micro_model(), loras=str(tmp_path / f"{family}.safetensors"))
        assert "does not fit the model" in " ".join(problem.message for problem in found.problems), family
        checks = propose("verify", file=tmp_path / f"{family}.safetensors", base=micro_model()).content
        assert [check.is_good for check in checks if check.name == "fits the checkpoint"] == [False], family


@pytest.fixture
def full_disk():
    """Files end at 20,000 bytes, as on a disk that fills up while something is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITING: dict[str, dict[str, Any]] = {
    "inspect": {"title": "a"},
    "merge": {},
    "combine": {},
    "resize": {"rank": 1},
    "convert": {"naming": "diffusers"},
    "merge_checkpoints": {},
    "prune": {"blocks": "attention"},
    "cut": {"away": "text_encoders"},
}


@pytest.mark.parametrize("tool", WRITING)
def test_a_disk_that_fills_up_is_a_sentence(good: Path, tmp_path: Path, tool: str, full_disk) -> None:
    out = tmp_path / "out"
    out.mkdir()
    about = TOOLS[tool](good, micro_model() if tool == "merge_checkpoints" else good) | WRITING[tool] | {"output": out}
    code, job = carry_out(tmp_path / "job", tool, **about)
    lines = [json.loads(line) for line in job.events.read_text(encoding="utf-8").splitlines()]
    said = [line["message"] for line in lines if line["kind"] == "failed"]
    notes = [done.row.note for done in job.read_table()[0] if done.outcome == "failed"]
    assert any("could not be saved" in text for text in [*said, *notes])
    assert code == 2
    assert not list(out.iterdir())
