"""The run folder: names, requests, status, and who may work in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine import event_log, events, run
from engine.errors import UserError
from engine.preset import ROOT, Preset
from engine.run import RunFolder


@pytest.fixture
def made(tmp_path):
    return run.create(Preset(), tmp_path / "r")


def test_runs_of_one_name_get_numbers(tmp_path):
    preset = Preset().changed({"run.folder": str(tmp_path), "run.name": "cat"})
    assert [run.create(preset).name for _ in range(3)] == ["cat", "cat-2", "cat-3"]


def test_a_folder_that_holds_a_run_is_not_overwritten(made):
    before = made.preset.read_bytes()
    with pytest.raises(UserError, match="already holds a run"):
        run.create(Preset().changed({"adapter.rank": 3}), made.path)
    assert made.preset.read_bytes() == before


def test_a_file_in_the_way_is_a_sentence(tmp_path):
    (tmp_path / "r").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        run.create(Preset(), tmp_path / "r")


def test_a_request_is_used_up_when_taken(made):
    assert not made.take_request("stop")
    made.request("stop")
    assert made.take_request("stop")
    assert not made.take_request("stop")


@pytest.mark.slow
def test_only_one_holder_at_a_time(made):
    assert not made.is_running()
    with run.held(made):
        assert made.is_running()
        with pytest.raises(UserError, match="another process"), run.held(made):
            pass
    assert not made.is_running()


def test_the_hold_of_a_killed_process_ends_with_it(made):
    program = (
        "import sys, time; from pathlib import Path; from engine import run\n"
        "with run.held(run.RunFolder(Path(sys.argv[1]))): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(made.path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    assert made.is_running()
    process.kill()
    process.wait()
    assert not made.is_running()


STARTED = events.Started("n", 10, 1, 10, 0, 1, "CPU")


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ([], "new"),
        ([STARTED], "killed"),
        ([STARTED, events.Stopped(3)], "stopped"),
        ([STARTED, events.Stopped(3), STARTED], "killed"),
        ([STARTED, events.Failed("m", 2)], "failed"),
        ([STARTED, events.Finished(10, "c", 1.0), events.Warned("late")], "finished"),
    ],
)
def test_the_status_is_read_from_the_last_events(made, told, status):
    log = event_log.EventLog(made.events)
    for event in told:
        log.emit(event)
    assert made.status() == status


def test_runs_are_listed_the_last_changed_first(tmp_path):
    preset = Preset().changed({"run.folder": str(tmp_path)})
    first, second = run.create(preset), run.create(preset)
    (tmp_path / "no-run").mkdir()
    event_log.EventLog(first.events).emit(events.Stage("x"))
    assert [each.path for each in run.runs_in(tmp_path)] == [first.path, second.path]
    assert run.runs_in(tmp_path / "missing") == []


def test_a_folder_without_a_preset_is_no_run(tmp_path):
    with pytest.raises(UserError, match="no run in this folder"):
        run.open_run(tmp_path)


def test_checkpoint_names_tell_their_step():
    assert run.checkpoint_name("cat", 60) == "cat-000060.safetensors"
    assert run.epoch_checkpoint_name("cat", 3) == "cat-epoch0003.safetensors"
    assert run.step_of_checkpoint(RunFolder(ROOT).path / "cat-000060.safetensors") == 60
    assert run.step_of_checkpoint(RunFolder(ROOT).path / "cat-2.safetensors") is None
