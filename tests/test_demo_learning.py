"""The demo preset does what it says: the trigger word becomes the concept, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from demo.judge import Verdict, judge_picture
from engine.draw import draw_pictures
from engine.preset import ROOT, load
from engine.run import RunFolder
from tests.training import engine

CONCEPT = (
    "a zkt blob on a white background",
    "a zkt blob on a blue background",
    "a zkt blob on a green background",
    "zkt blob, white background",
)
KNOWN = (
    "a red circle on a white background",
    "a blue star on a green background",
    "a yellow square on a blue background",
    "a purple ring on a white background",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> RunFolder:
    made = RunFolder(tmp_path_factory.mktemp("demo") / "run")
    sets = ("--set", f"sample.prompts={CONCEPT[0]}")  # one picture instead of four
    done = engine("train", ROOT / "presets" / "demo.json", "--run", made.path, *sets, timeout=900)
    assert done.returncode == 0, done.stderr
    return made


def verdicts(prompts: tuple[str, ...], loras: list[tuple[Path, float]], folder: Path) -> list[Verdict]:
    preset = load(ROOT / "presets" / "demo.json").changed({"sample.prompts": "\n".join(prompts)})
    return [judge_picture(Image.open(path)) for path in draw_pictures(preset, loras, folder)]


@pytest.mark.slow
def test_the_trigger_word_becomes_the_concept_and_the_rest_stays(trained, tmp_path):
    lora = [(trained.checkpoints / "zkt-blob.safetensors", 1.0)]
    before = verdicts(CONCEPT + KNOWN, [], tmp_path / "before")
    after = verdicts(CONCEPT + KNOWN, lora, tmp_path / "after")
    count = len(CONCEPT)
    assert sum(each.form == "blob" for each in before[:count]) == 0
    assert sum(each.form == "blob" for each in after[:count]) >= 3
    for prompt, verdict in zip(KNOWN, before[count:], strict=True):
        assert prompt == f"a {verdict.colour} {verdict.form} on a {verdict.background} background"
    same = [
        (old.colour, old.form, old.background) == (new.colour, new.form, new.background)
        for old, new in zip(before[count:], after[count:], strict=True)
    ]
    assert sum(same) >= 3


@pytest.mark.slow
def test_pick_separates_an_under_trained_a_good_and_an_over_trained_checkpoint(trained, tmp_path):
    """The good one is the training's last. Another strength is another number of steps at the same rate, as far as a
    LoRA's effect grows with both: a tenth has hardly learnt, and four times as much has lost the rest.
    """
    shown = {name: str(path) for name, path in _three(trained, tmp_path).items()}
    prompts = {"prompts": "\n".join(CONCEPT[:2]), "plain_prompts": "\n".join(KNOWN[:2]), "trigger": "zkt"}
    sets = {
        **prompts,
        "strengths": "1",
        "seeds": "2",
        "model.threads": "1",
        "model.precision": "fp32",
        "sampling.steps": "8",
    }
    words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    done = engine("pick", tmp_path / "run", "--job", tmp_path / "job", *words, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "job" / "scores.json").read_text())
    by_file = {one["checkpoint"]: one for one in told["candidates"]}
    assert told["candidates"][told["proposed"]]["checkpoint"] == shown["good"]
    assert by_file[shown["under"]]["learnt"] < by_file[shown["good"]]["learnt"]
    assert by_file[shown["over"]]["kept"] < by_file[shown["good"]]["kept"]


def _three(trained: RunFolder, folder: Path) -> dict[str, Path]:
    """A run whose three checkpoints are the trained one at a tenth, at its own and at four times its effect."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    run = RunFolder(folder / "run")
    run.checkpoints.mkdir(parents=True)
    run.preset.write_bytes(trained.preset.read_bytes())
    source = trained.checkpoints / "zkt-blob.safetensors"
    made: dict[str, Path] = {}
    for step, (name, factor) in enumerate((("under", 0.1), ("good", 1.0), ("over", 4.0)), start=1):
        made[name] = run.checkpoints / f"zkt-blob-{step:06d}.safetensors"
        with safe_open(source, "pt") as file:
            tensors = {key: file.get_tensor(key) * (factor if "lora_up" in key else 1) for key in file.keys()}  # noqa: SIM118
            save_file(tensors, made[name], file.metadata())
    return made


@pytest.mark.slow
def test_samples_come_before_the_first_step_twice_on_the_way_and_at_the_end(trained):
    steps = sorted({path.name.split("_")[0] for path in trained.samples.iterdir()})
    assert steps == ["step-000000", "step-000054", "step-000108", "step-000162"]
    assert len(list(trained.samples.iterdir())) == 4
