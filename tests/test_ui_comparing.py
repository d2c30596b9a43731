"""The tab "Compare": its form and estimate, starting and going on, and what a comparison's folder shows."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drawing_models import SMALL, lora_file
from PIL import Image

from engine import queue as queues
from engine.compare import COMPARISONS
from engine.compare.layout import layout_of_plot
from engine.compare.pick import FORMAT
from engine.drawing.settings import DrawingPreset
from engine.errors import Problem
from engine.event_log import EventLog
from engine.events import Finished, Stage, Started, Stopped
from engine.preset import build
from engine.run import RunFolder
from engine.tools import jobs
from engine.tools.jobs import Done, JobFolder, table_line
from engine.tools.tool import Row
from tests.micro_model import micro_model
from ui import comparing_answers, comparing_form, comparing_scores, run_list, sample_form, served, tool_jobs
from ui import form as forms
from ui.language import speaking

HOSTILE = "<img src=x onerror=alert(1)> {x}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("ATELIER_HOME", str(folder))
    monkeypatch.setattr(run_list, "_known_folders", [folder / "runs"])
    monkeypatch.setattr(served, "folders", [])
    monkeypatch.setattr(tool_jobs, "_views", {})
    monkeypatch.setattr(tool_jobs, "_launched", {})
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Process starts are counted instead of made."""
    calls: list[list[str]] = []
    monkeypatch.setattr(tool_jobs.launchers.local, "start", lambda folder, command: calls.append(command) or 1)
    monkeypatch.setattr(tool_jobs, "start_worker", lambda: calls.append(["worker"]))
    return calls


@pytest.fixture
def run(home: Path) -> Path:
    """A run of two checkpoints with a trigger word in its prompt."""
    folder = home / "runs" / "mine"
    (folder / "checkpoints").mkdir(parents=True)
    sample = {"prompts": "a sks thing\na wall", "steps": 2, "width_px": 64, "height_px": 64, "seed": 7}
    build({
        "model": {"base": str(micro_model())}, "captions": {"trigger": "sks"},
        "memory": {"precision": "fp32", "device": "cpu"}, "sample": sample,
    }).save(folder / "preset.json")  # fmt: skip
    for name in ("x-000002", "x-000004"):
        (folder / "checkpoints" / f"{name}.safetensors").write_bytes(lora_file().read_bytes())
    return folder


def ask(what: str, **more: Any) -> dict[str, Any]:
    return comparing_answers.answer({"ask": what, **more})


def filled(**changes: Any) -> dict[str, Any]:
    """A form of small pictures; `compare__x__kind="seed"` fills a field."""
    small = {**SMALL, "sampling.steps": 2, "model.base": str(micro_model())}
    small.pop("preview.every_steps")
    return {**small, **{name.replace("__", "."): value for name, value in changes.items()}}


SEEDS = filled(compare__x__kind="seed", compare__x__values="1-3", compare__y__kind="steps", compare__y__values="1, 2")


def test_what_the_fields_show_is_what_was_kept(home: Path) -> None:
    for value in ("default", "another"):
        shown = {
            name: forms.show(item, item.default if value == "default" else item.another(item.default))
            for name, item in comparing_form.FIELDS.items()
        }
        comparing_form.remember("pick", shown)
        assert comparing_form.recall() == ("pick", shown)


@pytest.mark.parametrize("kept", ["{", "[]", '{"tool": 1, "shown": {"compare.x.kind": "nothing", "a": 3}}'])
def test_a_damaged_kept_form_is_no_fault(home: Path, kept: str) -> None:
    (home / "comparing").mkdir()
    (home / "comparing" / "form.json").write_text(kept)
    tool, shown = comparing_form.recall()
    assert tool == "compare" and set(shown) == set(comparing_form.FIELDS)


def test_the_first_form_compares_the_newest_runs_checkpoints(home: Path, run: Path) -> None:
    told = ask("arrive")
    assert told["shown"]["compare.x.values"] == told["shown"]["pick.run"] == str(run)
    assert told["shown"]["picture.prompt"] == "a sks thing" and told["shown"]["sampling.steps"] == 2
    assert told["runs"] == [{"title": "mine", "path": str(run)}]
    assert ask("edited", tool="compare", form=told["shown"])["axes"][0]["labels"] == ["step 2", "step 4"]


def test_without_a_run_the_first_form_compares_seeds_as_the_tab_sample_draws(home: Path) -> None:
    _, shown = comparing_form.recall()
    assert shown["compare.x.kind"] == "seed"
    assert shown["model.base"] == sample_form.recall()["model"]["base"]


def test_it_can_begin_with_the_sample_form_a_preset_and_a_run(home: Path, run: Path, tmp_path: Path) -> None:
    sample_form.remember({"picture": {"prompt": "a fox"}})
    assert ask("begin", **{"from": "sample"})["shown"]["picture.prompt"] == "a fox"
    preset = tmp_path / "fox.json"
    DrawingPreset().changed({"sampling.steps": 11, "picture.count": 5}).save(preset)
    shown = ask("begin", **{"from": str(preset)})["shown"]
    assert shown["sampling.steps"] == 11 and "compare.x.values" not in shown and "picture.count" not in shown
    assert ask("begin", **{"from": str(run)})["shown"]["compare.x.kind"] == "checkpoint"
    assert "is no drawing preset" in ask("begin", **{"from": str(tmp_path)})["error"]


def test_the_estimate_and_the_empty_grid_are_told_while_it_is_filled_in(home: Path) -> None:
    told = ask("edited", tool="compare", form=SEEDS)
    assert not (home / "comparing").exists()  # nobody has changed it
    ask("edited", tool="compare", form=SEEDS, keep=True)
    assert "Pictures to draw: 6." in told["summary"] and told["problems"] == []
    assert [axis["title"] for axis in told["axes"]] == ["Seed", "Steps", ""]
    assert told["axes"][0]["labels"] == ["seed 1", "seed 2", "seed 3"]
    assert not jobs.jobs_in() and comparing_form.recall()[1]["compare.x.values"] == "1-3"
    with speaking("zh"):
        assert ask("edited", tool="compare", form=SEEDS)["axes"][0]["title"] == "种子"


def test_faults_stand_beside_their_fields_all_at_once(home: Path) -> None:
    shown = {**SEEDS, "compare.x.values": "many", "picture.width_px": 65, "compare.grid.cell_px": 9999}
    told = ask("edited", tool="compare", form=shown)
    assert "comparing.compare.grid.cell_px" in told["marks"]["problems"]  # of one setting alone: told first
    told = ask("edited", tool="compare", form={**shown, "compare.grid.cell_px": 64, "picture.width_px": 64})
    assert set(told["marks"]["problems"]) == {"comparing.compare.x.values"}
    assert [(item["field"], item["label"]) for item in told["problems"]] == [
        ("comparing.compare.x.values", "X: Values")
    ]
    assert told["axes"] == [] and told["summary"] == ""


def test_what_makes_no_sense_now_is_off(home: Path) -> None:
    off = ask("edited", tool="pick", form=SEEDS)["marks"]["off"]
    assert {"comparing.picture.prompt", "comparing.compare.z.values", "comparing.pick.clip.model"} <= set(off)
    assert "comparing.compare.y.values" not in off and "comparing.hires.scale" in off


def test_settings_in_sentences_are_called_by_their_labels() -> None:
    told = comparing_form.plain("pick", "Choose weights in clip.weights to know more.")
    assert told == "Choose weights in “CLIP weights” to know more."
    assert comparing_form.plain("compare", "set image.init, too (a.png)") == "set “Begin with”, too (a.png)"
    [problem] = comparing_form.labelled("compare", [Problem("--set x.kind", "is wrong.")])
    assert str(problem) == "X: What changes: is wrong."


def test_start_names_all_that_is_in_the_way_and_starts_nothing(home: Path, started: list[list[str]]) -> None:
    told = ask("start", tool="pick", form=filled(pick__strengths="0"))
    assert {item["field"] for item in told["problems"]} == {"comparing.pick.strengths", "comparing.pick.run"}
    assert started == [] and not jobs.jobs_in()


def test_start_begins_a_job_and_a_second_one_waits_its_turn(
    home: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_jobs.psutil, "pid_exists", lambda number: True)
    path = ask("start", tool="compare", form=SEEDS)["job"]
    assert JobFolder(Path(path)).load().values["x.values"] == "1-3"
    assert started[0][1:] == ["-m", "engine", "run", path]
    assert "is still running" in ask("start", tool="compare", form=SEEDS)["error"]
    queued = ask("add", tool="compare", form=SEEDS)["job"]
    assert [entry.folder for entry in queues.queue().entries()] == [queued] and started[1] == ["worker"]
    told = ask("look", job=queued)
    assert told["busy"] and told["parts"]["job"]["content"]["waits"]
    assert not told["parts"]["job"]["content"]["go_on"]


def test_beside_a_training_it_is_not_started(
    home: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, run: Path
) -> None:
    monkeypatch.setattr(run_list, "running", lambda _: SimpleNamespace(run=RunFolder(run)))
    assert "Add this to the queue" in ask("start", tool="compare", form={**SEEDS, "model.device": "auto"})["error"]
    assert started == []


# ---------------------------------------------------------------- jobs


def drawn(home: Path, outcomes: dict[str, str], folder: str = "one") -> JobFolder:
    """A job over seeds and steps, with some of its cells reached."""
    settings = comparing_form.settings_of("compare", SEEDS)
    job = jobs.create("compare", settings, home / "jobs" / folder)
    layout_of_plot(COMPARISONS["compare"].propose(settings).content).write(job.path)
    log = EventLog(job.events)
    log.emit(Stage("Looking"))
    log.emit(Started(job.name, 6, 0, 0, 0, 1, ""))
    (job.path / "pictures").mkdir()
    lines = b""
    for label, outcome in outcomes.items():
        path = job.path / "pictures" / f"{len(lines)}.png"
        Image.new("RGB", (16, 16), "red").save(path)
        is_failed = outcome == "failed"
        row = Row(label, "draw", "" if is_failed else str(path), HOSTILE if is_failed else "")
        lines += table_line(Done(row, "failed" if is_failed else "done"))
    job.table.write_bytes(lines)
    return job


def test_cells_are_shown_as_they_finish_where_they_stand(home: Path) -> None:
    job = drawn(home, {"seed 1 · steps 1": "done", "seed 3 · steps 2": "failed"})
    told = ask("look", job="", z=5)
    parts = {name: part["content"] for name, part in told["parts"].items()}
    assert told["job"] == str(job.path) and parts["job"]["z"] == 0 and parts["job"]["go_on"]
    assert parts["axes"][1]["labels"] == ["steps 1", "steps 2"]
    [first], [second] = parts["row 0"], parts["row 1"]
    assert first["place"] == [0, 0, 0] and served.may_serve(first["path"]) and first["small"]
    assert second["place"] == [2, 1, 0] and second["note"] == HOSTILE and second["path"] == ""
    assert "interrupted" in parts["job"]["html"]
    seen = {name: part["digest"] for name, part in told["parts"].items()}
    assert ask("look", job=str(job.path), z=0, seen=seen)["parts"] == {}


def test_files_outside_of_the_job_are_neither_shown_nor_read(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "private.png"
    Image.new("RGB", (8, 8)).save(outside)
    job = drawn(home, {"seed 1 · steps 1": "done"})
    job.table.write_bytes(table_line(Done(Row("seed 1 · steps 1", "draw", str(outside)), "done")))
    [cell] = ask("look", job=str(job.path))["parts"]["row 0"]["content"]
    assert (cell["path"], cell["url"], cell["small"]) == ("", "", "")
    for path in (outside, job.path / "pictures" / ".." / ".." / ".." / "private.png", "\0"):
        assert "no such picture" in ask("about", job=str(job.path), path=str(path))["error"]
    assert "no such comparison" in ask("stop", job=str(tmp_path))["error"]


def test_a_picture_tells_its_settings(home: Path) -> None:
    job = drawn(home, {"seed 1 · steps 1": "done"})
    path = ask("look", job=str(job.path))["parts"]["row 0"]["content"][0]["path"]
    assert "carries no settings" in ask("about", job=str(job.path), path=path)["notes"][0]


def test_a_stopped_job_goes_on_and_one_with_failed_cells_may(
    home: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = drawn(home, {"seed 1 · steps 1": "failed"})
    EventLog(job.events).emit(Finished(1, "", 1.0, ""))
    assert ask("look", job=str(job.path))["parts"]["job"]["content"]["go_on"]
    EventLog(job.events).emit(Stopped(1))
    job.request_stop()
    assert ask("go_on", job=str(job.path)) == {}
    monkeypatch.setattr(tool_jobs.psutil, "pid_exists", lambda number: True)
    assert started[0][1:] == ["-m", "engine", "run", str(job.path)]
    told = ask("look", job=str(job.path))
    assert told["busy"] and told["parts"]["job"]["content"]["stop"]
    assert "Starting" in told["parts"]["job"]["content"]["html"]
    assert ask("stop", job=str(job.path)) == {} and job.stop_request.exists()
    assert "is still running" in ask("go_on", job=str(job.path))["error"]


def test_what_began_again_has_not_ended_before(home: Path) -> None:
    job = drawn(home, {})
    log = EventLog(job.events)
    log.emit(Stopped(1))
    view = tool_jobs.view_of(job)
    assert view is not None and view.status() == "stopped"
    log.emit(Started(job.name, 6, 0, 0, 0, 1, ""))
    assert view.status() == "killed"


# ---------------------------------------------------------------- scores


def candidate(name: str, step: int | None, strength: float, learnt: float, kept: float) -> dict[str, Any]:
    shares = {"likeness": learnt, "fidelity": None, "diversity": kept, "leak": kept, "drift": 1.0}
    about = {"name": name, "checkpoint": f"/c/{step}.safetensors", "strength": strength, "step": step}
    sums = {"learnt": learnt, "kept": kept, "total": learnt * kept}
    return {**about, "shares": {**shares, "validation_loss": None}, "scores": {}, **sums}


def told_scores(**changes: Any) -> dict[str, Any]:
    candidates = [candidate(HOSTILE, 2, 0.6, 0.2, 0.9), candidate("step 4 at 1", 4, 1.0, 0.8, 0.7)]
    notes = ["No CLIP weights are chosen.", "Choose weights in clip.weights to know more."]
    about = {"v": FORMAT, "features": "rough", "notes": notes, "reasons": [HOSTILE], "front": [0, 1], "proposed": 1}
    return {**about, "candidates": candidates, **changes}


def test_scores_are_drawn_with_names_and_the_proposal_with_its_reasons() -> None:
    html = comparing_scores.panel(told_scores())
    assert "<img" not in html and html.count("&lt;img src=x") >= 3
    assert "Take step 4 at 1" in html and "“CLIP weights”" in html
    assert "Not measured: choose CLIP weights" in html and "The run measured none." in html
    assert html.count('role="img" aria-label="') == 6
    assert "Proposed is step 4 at 1: learnt 80%, kept 70%." in html
    assert html.count('class="mark proposed"') == 1 and html.count('class="mark on-the-curve"') == 1


def test_where_nothing_is_proposed_that_is_told_and_a_single_checkpoint_is_drawn_too() -> None:
    html = comparing_scores.panel(told_scores(proposed=None))
    assert "None is proposed" in html and "comparing-use" not in html
    one = candidate("x at 1", None, 1.0, 0.5, 0.5)
    assert "x at 1" in comparing_scores.panel(told_scores(candidates=[one], front=[0], proposed=0))


def test_the_proposal_goes_into_the_form_of_the_tab_sample(home: Path, run: Path) -> None:
    settings = comparing_form.settings_of("pick", filled(pick__run=str(run), pick__strengths="1"))
    job = jobs.create("pick", settings, home / "jobs" / "pick")
    (job.path / "scores.json").write_text(json.dumps(told_scores()))
    assert "Take step 4" in ask("look", job=str(job.path))["parts"]["scores"]["content"]
    values = ask("use", job=str(job.path))["values"]
    assert values["loras.files"] == "/c/4.safetensors: 1" and values["model.base"] == str(micro_model())
    (job.path / "scores.json").write_text(json.dumps({"v": FORMAT, "candidates": [{}], "proposed": 7}))
    assert "cannot be read" in ask("look", job=str(job.path))["parts"]["scores"]["content"]
    assert "no proposal" in ask("use", job=str(job.path))["error"]


def test_unknown_questions_are_answered(home: Path) -> None:
    assert "older than the program" in ask("format the disk")["error"]
    assert "older than the program" in ask("edited", tool="format", form={})["error"]
