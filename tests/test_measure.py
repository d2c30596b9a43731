"""Measure now: the very loop, on no picture of the user's, and nothing is left but a row of the table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from engine import event_log, events, run
from engine.__main__ import main
from engine.errors import UserError
from engine.forecast import forecast_here
from engine.in_use import is_measuring, measuring
from engine.measure import LEAST_STEPS, MeasuringReporter, measuring_preset, runs_folders
from engine.measured import read_table
from engine.pace import conditions_of
from engine.plan import make_plan
from engine.preset import ROOT, load
from engine.queue import Queue, of_preset
from engine.run import RunFolder
from engine.stopping import StopAsked
from tests.training import small_preset

SHIPPED = ("demo", "6-GB-card", "product", "Prodigy", "LoKr")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_three_steps_are_measured_and_nothing_else_is_left(tmp_path, home):
    preset = small_preset(tmp_path, run__batch_size=2, validation__share=0.25, sample__prompts="a")
    preset.save(tmp_path / "preset.json")
    before = files_below(tmp_path)
    assert main(["measure", str(tmp_path / "preset.json")]) == 0
    locks = {"home/measured.json.lock", "home/measuring.lock"}
    assert files_below(tmp_path) - before - locks == {"home/measured.json"}
    (row,) = read_table().rows
    plan = make_plan(preset)
    assert row.steps == LEAST_STEPS and row.planned_bytes == plan.memory.total_bytes
    assert plan.model and row.conditions == conditions_of(preset, plan.model, row.conditions.device, False)
    assert forecast_here(preset, plan).time.basis == row


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_can_be_measured(tmp_path, name):
    """What takes no part in a step is left out, so that no rule stands in the way."""
    images = small_preset(tmp_path).data.folder
    places = {"model.base": str(ROOT / "demo" / "model.safetensors"), "data.folder": images}
    preset = load(ROOT / "presets" / f"{name}.json").changed({**places, "data.regularization_folder": ""})
    preset = preset.changed({"loss.image_weights": "2_sks thing = 0.5", "run.keep_last": 1, "run.epochs": 20})
    plan = make_plan(preset)
    small = measuring_preset(preset, plan, tmp_path / "work")
    found = make_plan(small)
    assert found.problems == ()
    assert [bucket.images for bucket in found.buckets] == [preset.run.batch_size * preset.run.accumulation]
    assert found.buckets[0].size_px == max(
        (bucket.size_px for bucket in plan.buckets), key=lambda size: size[0] * size[1]
    )
    assert found.memory.total_bytes == plan.memory.total_bytes


def test_a_stop_is_looked_for_whenever_something_is_told(tmp_path):
    folder = run.create(small_preset(tmp_path), tmp_path / "work")
    report = MeasuringReporter(folder)
    report.stage("Loading")
    folder.request("stop")
    with pytest.raises(StopAsked):
        report.progress(1, 2)
    folder.request("save")
    assert not report.is_asked_for("save")


@pytest.mark.slow
def test_it_is_refused_beside_a_run_the_queues_work_and_another_measurement(tmp_path, home):
    preset = small_preset(tmp_path)
    made, folders, here = run.create(preset), runs_folders(preset), Queue(home / "queue")
    with measuring(folders):
        assert is_measuring()
        with pytest.raises(UserError, match="measured already"), measuring(folders):
            pass
    assert not is_measuring()
    with run.held(made), pytest.raises(UserError, match="is training now"), measuring(folders):
        pass
    assert not is_measuring()
    entry = here.add(of_preset(preset))
    with measuring(folders):  # what only waits is no hindrance
        pass
    with here.changing():
        here.write(dataclasses.replace(entry, state="running"))
    with pytest.raises(UserError, match="at work in the queue"), measuring(folders):
        pass


def test_a_preset_with_problems_is_refused_with_all_of_them(tmp_path, home, capsys):
    small_preset(tmp_path, model__base="nowhere.safetensors", data__folder="nothing").save(tmp_path / "preset.json")
    assert main(["measure", str(tmp_path / "preset.json")]) == 2
    told = capsys.readouterr().err
    assert "model.base" in told and "data.folder" in told and not home.exists()


@pytest.mark.slow
def test_a_measurement_that_fails_is_an_event_with_the_cause(tmp_path, home):
    preset = small_preset(tmp_path, memory__device="cuda")
    preset.save(tmp_path / "preset.json")
    assert main(["measure", str(tmp_path / "preset.json"), "--run", str(tmp_path / "work")]) == 2
    last = event_log.read(RunFolder(tmp_path / "work").events)[0][-1].event
    assert isinstance(last, events.Failed) and json.loads(json.dumps(last.problems))[0]["where"] == "memory.device"
