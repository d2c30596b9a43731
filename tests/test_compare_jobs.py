"""Comparisons as jobs, from the command line: drawn, stopped, begun again, failed cells; timeline and pick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from drawing_models import SMALL, lora_file
from PIL import Image

from engine.__main__ import PROGRAM, main
from engine.compare import COMPARISONS, answers, drawing
from engine.compare.estimate import Speed, effort, estimate, note_speed, room_problems, speeds
from engine.compare.layout import FILE_NAME, read_layout
from engine.compare.settings import CompareSettings
from engine.drawing.picture_text import read_settings
from engine.drawing.settings import DrawingPreset
from engine.errors import UserError
from engine.preset import build
from engine.tools import jobs
from engine.tools.jobs import JobFolder
from engine.tools.tool import make_settings
from engine.tools.working import work
from launchers.worker import ENGINE_TOOLS_ON_GPU
from tests.micro_model import micro_model
from tests.painted import Painted
from tests.tiny_clip import tiny_clip


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def values(**changes: Any) -> dict[str, Any]:
    """Two steps with the micro model; `x__kind="seed"` sets x.kind."""
    small = {**SMALL, "sampling.steps": 2, "model.base": str(micro_model())}
    del small["preview.every_steps"]
    return {**small, **{name.replace("__", "."): value for name, value in changes.items()}}


def begun(folder: Path, **changes: Any) -> JobFolder:
    return jobs.create("compare", make_settings("compare", CompareSettings, values(**changes)), folder)


def outcomes(job: JobFolder) -> list[str]:
    return [cell.outcome for cell in answers.cells_so_far(job)]


def run_folder(folder: Path) -> Path:
    """A run of two checkpoints that told a validation loss."""
    painted = folder / "images" / "1_thing"
    painted.mkdir(parents=True)
    for number in range(2):
        path = Painted(painted).disc(number, f"{number}")
        path.with_suffix(".txt").write_text("a sks thing")
    preset = build({
        "model": {"base": str(micro_model())}, "data": {"folder": str(folder / "images")},
        "captions": {"trigger": "sks"}, "memory": {"precision": "fp32", "device": "cpu"},
        "sample": {"prompts": "a sks thing\na wall", "steps": 2, "width_px": 64, "height_px": 64, "seed": 7},
    })  # fmt: skip
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    preset.save(run / "preset.json")
    (run / "checkpoints" / "x-000002.safetensors").write_bytes(lora_file().read_bytes())
    (run / "checkpoints" / "x.safetensors").write_bytes(lora_file(seed=1).read_bytes())
    told: list[dict[str, Any]] = [
        {"kind": "validated", "step": 2, "loss": 0.5},
        {"kind": "validated", "step": 4, "loss": 0.4},
        {"kind": "saved", "step": 4, "what": "checkpoint", "path": "checkpoints/x.safetensors", "size_bytes": 1},
    ]
    lines = [json.dumps({"v": 1, "time": "2026-01-01T00:00:00Z", **event}) for event in told]
    (run / "events.jsonl").write_text("\n".join(lines) + "\n")
    return run


@pytest.mark.slow
def test_a_plot_is_drawn_with_each_pictures_settings_and_begun_again_without_drawing(tmp_path: Path, monkeypatch: Any):
    lines = f"none\n{lora_file()}"
    axes = {"x__kind": "checkpoint", "x__values": lines, "y__kind": "strength", "y__values": "0, 1"}
    job = begun(tmp_path / "job", **axes)
    assert work(job, PROGRAM) == 0
    assert sorted(outcomes(job)) == ["done", "done", "kept", "kept"]  # three cells show the base model alone
    assert {cell.place for cell in answers.cells_so_far(job)} == {(x, y, 0) for x in (0, 1) for y in (0, 1)}
    layout = read_layout(job.path)
    assert layout is not None
    assert [axis.title for axis in layout.axes] == ["checkpoint", "strength", ""]
    assert layout.axes[1].labels == ("strength 0", "strength 1")
    cells = {cell.label: Path(cell.picture) for cell in answers.cells_so_far(job)}
    assert len(set(cells.values())) == 2
    drawn = next(path for label, path in cells.items() if label.endswith("strength 1") and "no LoRA" not in label)
    assert read_settings(drawn, []).values["picture.seed"] == 7
    assert [path.name for path in answers.made_of(job)] == ["grid.png"]
    with Image.open(job.path / "grid.png") as grid:
        assert grid.width > 128
    assert list(speeds()) == ["cpu fp32 same base"]
    job.request_stop()  # an old request does not end the next try
    monkeypatch.setattr(drawing, "draw_batch", None)
    (job.path / "grid.png").unlink()
    assert work(job, PROGRAM) == 0
    assert outcomes(job) == ["kept"] * 4
    assert answers.made_of(job)


@pytest.mark.slow
def test_a_cell_that_fails_is_told_and_a_stop_keeps_what_is_done(tmp_path: Path, monkeypatch: Any):
    job = begun(tmp_path / "job", x__kind="seed", x__values="1-4", picture__seed=-1)
    real, asked = drawing.draw_batch, []

    def draw(plan: Any, *others: Any) -> Any:
        asked.append(plan.pictures[0].seed)
        if len(asked) == 1:
            raise RuntimeError("a defect")
        if len(asked) == 3:
            job.request_stop()
        return real(plan, *others)

    monkeypatch.setattr(drawing, "draw_batch", draw)
    assert work(job, PROGRAM) == 1
    assert outcomes(job) == ["failed", "done"]
    assert "RuntimeError: a defect" in answers.cells_so_far(job)[0].note
    assert job.status() == "stopped"
    assert answers.made_of(job)
    assert work(job, PROGRAM) == 0
    assert asked == [1, 2, 3, 1, 3, 4]
    assert sorted(outcomes(job)) == ["done", "done", "done", "kept"]


@pytest.mark.slow
def test_without_a_seed_all_cells_have_the_one_that_was_drawn_once(tmp_path: Path):
    job = begun(tmp_path / "job", x__kind="steps", x__values="1, 2", picture__seed=-1)
    assert work(job, PROGRAM) == 0
    seeds = {read_settings(Path(cell.picture), []).values["picture.seed"] for cell in answers.cells_so_far(job)}
    assert seeds == {int((job.path / "seed").read_text())}


def test_the_command_line_begins_with_a_preset_and_tells_before_it_draws(tmp_path: Path, capsys: Any):
    preset = DrawingPreset().changed(values(picture__prompt="a sks thing"))
    preset.save(tmp_path / "drawing.json")
    words = ["compare", str(tmp_path / "drawing.json"), "--set", "x.kind=cfg_scale", "--set", "x.values=1-3"]
    assert main([*words, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["source"] for row in told["rows"]] == ["CFG 1", "CFG 2", "CFG 3"]
    assert told["summary"].startswith("Pictures to draw: 3. Time: not known")
    assert main([*words, "--set", "loras.files=nothing.safetensors", "--dry-run"]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "--dry-run"]) == 2


def test_effort_counts_guidance_and_both_passes():
    one = DrawingPreset().changed({"sampling.steps": 10, "picture.width_px": 1000, "picture.height_px": 1000})
    assert effort(one) == pytest.approx(20)
    assert effort(one.changed({"sampling.cfg_scale": 1})) == pytest.approx(10)
    larger = {"hires.on": True, "hires.scale": 2, "hires.denoising_strength": 0.5}
    assert effort(one.changed(larger)) == pytest.approx(2 * (10 + 5 * 4))


def test_time_and_room_come_from_pictures_that_were_drawn_in_the_same_way(tmp_path: Path):
    one = DrawingPreset().changed({"sampling.steps": 10, "picture.width_px": 1000, "picture.height_px": 1000})
    assert estimate([one, one], 3).seconds is None
    note_speed(one, Speed(seconds_per_effort=0.5, bytes_per_pixel=1.0))
    found = estimate([one, one], 3)
    assert found.seconds == pytest.approx(2 * 20 * 0.5)
    assert found.bytes == 3_000_000
    assert "Cells: 3; equal ones share a picture. Time: about 20" in found.text
    assert estimate([one, one.changed({"model.precision": "fp32"})], 2).seconds is None
    assert room_problems(tmp_path / "not" / "yet", 1) == []
    assert "Free some space" in room_problems(tmp_path, 10**18)[0].message


@pytest.mark.slow
def test_a_runs_way_is_drawn_from_the_base_model_to_its_last_checkpoint(tmp_path: Path):
    run = run_folder(tmp_path)
    assert main(["timeline", str(run), "--job", str(tmp_path / "job"), "--set", "model.threads=1"]) == 0
    job = JobFolder(tmp_path / "job")
    assert [cell.label for cell in answers.cells_so_far(job)] == ["no LoRA", "step 2", "step 4"]
    assert [path.name for path in answers.made_of(job)] == ["timeline-animation.webp", "timeline.png"]


@pytest.mark.slow
def test_a_run_is_judged_and_its_scores_are_written(tmp_path: Path):
    run = run_folder(tmp_path)
    words = ["pick", str(run), "--job", str(tmp_path / "job"), "--set", "strengths=1", "--set", "seeds=2"]
    assert main([*words, "--set", "model.threads=1"]) == 0
    job = JobFolder(tmp_path / "job")
    assert len(answers.cells_so_far(job)) == 3 * 2 * 2
    told = answers.scores_of(job)
    assert told is not None
    assert told["features"] == "rough"
    assert [one["name"] for one in told["candidates"]] == ["step 2 at 1", "step 4 at 1"]
    assert [one["scores"]["validation_loss"] for one in told["candidates"]] == [0.5, 0.4]
    assert all(one["scores"]["fidelity"] is None for one in told["candidates"])
    assert any("No CLIP weights" in note for note in told["notes"])
    assert told["reasons"]
    knows = told["ends"]["own_likeness"] <= told["ends"]["base_likeness"]
    assert any("cannot be told" in note for note in told["notes"]) == knows
    assert [one["step"] for one in told["candidates"]] == [2, 4]
    losses = [(row["at"], row["share"]) for row in answers.share_rows(told) if row["score"] == "validation_loss"]
    assert losses == [(2, pytest.approx(0.8)), (4, 1)]
    assert "fidelity" not in {row["score"] for row in answers.share_rows(told)}
    curve = answers.trade_off_rows(told)
    assert [row["kind"] != "other" for row in curve] == [at in told["front"] for at in range(2)]
    layout = read_layout(job.path)
    assert layout is not None
    assert [len(axis.labels) for axis in layout.axes] == [3, 2, 2]


@pytest.mark.slow
def test_with_clip_pictures_are_held_against_their_prompts_too(tmp_path: Path):
    weights = tmp_path / "clip"
    weights.mkdir()
    sets = {"strengths": "1", "seeds": "2", "model.threads": "1", "clip.weights": str(tiny_clip(weights))}
    words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
    assert main(["pick", str(run_folder(tmp_path)), "--job", str(tmp_path / "job"), *words]) == 0
    told = answers.scores_of(JobFolder(tmp_path / "job"))
    assert told is not None
    assert told["features"] == "clip"
    assert all(one["scores"]["fidelity"] is not None for one in told["candidates"])
    assert not any("No CLIP weights" in note for note in told["notes"])


@pytest.mark.slow
def test_clip_that_cannot_be_read_is_told_before_anything_is_drawn(tmp_path: Path, capsys: Any):
    weights = tmp_path / "other.safetensors"
    weights.write_bytes(b"no weights")
    words = ["pick", str(run_folder(tmp_path)), "--job", str(tmp_path / "job"), "--set", f"clip.weights={weights}"]
    assert main([*words, "--set", "clip.model=ViT-B-32"]) == 2
    assert "cannot be read as a CLIP" in capsys.readouterr().err
    assert outcomes(JobFolder(tmp_path / "job")) == []


@pytest.mark.slow
def test_what_no_cell_can_be_drawn_after_ends_the_job(tmp_path: Path, monkeypatch: Any):
    job = begun(tmp_path / "job", x__kind="seed", x__values="1-3")

    def full(*_: Any) -> None:
        raise UserError("no room left", "pictures")

    monkeypatch.setattr(drawing, "write_picture", full)
    assert work(job, PROGRAM) == 2
    assert job.status() == "failed"
    assert outcomes(job) == []


def test_the_queue_knows_that_comparisons_use_the_gpu():
    assert set(COMPARISONS) < set(ENGINE_TOOLS_ON_GPU)


@pytest.mark.parametrize("written", [None, "no JSON", "[]", '{"axes": [], "cells": []}'])
def test_a_layout_that_cannot_be_read_is_none(tmp_path: Path, written: str | None):
    if written is not None:
        (tmp_path / FILE_NAME).write_text(written)
    assert read_layout(tmp_path) is None


def test_a_colon_in_a_runs_path_is_told(tmp_path: Path, capsys: Any):
    run = run_folder(tmp_path).rename(tmp_path / "a: run")
    assert main(["pick", str(run), "--dry-run"]) == 2
    assert "a colon in a file's name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        (["run="], "run"),
        (["strengths=0"], "strengths"),
        (["pictures=nowhere"], "pictures"),
        (["clip.weights=nowhere"], "clip.weights"),
        (["prompts=a sks thing", "plain_prompts=a sks thing"], "plain_prompts"),
        (["grid.font=nowhere.ttf"], "grid.font"),
    ],
)
def test_what_pick_cannot_do_is_told(tmp_path: Path, capsys: Any, changes: list[str], where: str):
    run = run_folder(tmp_path)
    sets = [word for change in changes for word in ("--set", change)]
    assert main(["pick", str(run), *sets, "--dry-run"]) == 2
    assert f"{where}: " in capsys.readouterr().err
