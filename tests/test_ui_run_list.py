"""Starting and resuming: one run at a time, refused in words, never twice."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import event_log, events
from engine.errors import UserError
from engine.in_use import measuring
from engine.preset import Preset
from engine.run import RunFolder, create, held
from ui import run_answers, run_list
from ui.run_view import view_of


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """What would have been started; the "engine" is this very process, so it looks alive."""
    paths: list[Path] = []

    def start(path: Path) -> int:
        paths.append(path)
        return os.getpid()

    monkeypatch.setattr("launchers.local.start", start)
    monkeypatch.setattr(run_list, "_known_folders", [tmp_path / "runs"])
    monkeypatch.setattr(run_list, "_launched", {})
    return paths


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    return Preset().changed({"run.folder": str(tmp_path / "runs"), "run.name": "a"})


def test_start_puts_the_form_into_a_new_folder_and_starts_the_engine_on_it(launched, preset: Preset) -> None:
    path = run_list.start(preset)
    assert launched == [path]
    assert RunFolder(path).preset.is_file()


def test_a_second_start_is_refused_while_the_engine_is_still_loading(launched, preset: Preset) -> None:
    run_list.start(preset)
    with pytest.raises(UserError, match="still running"):
        run_list.start(preset)
    assert len(launched) == 1


def test_a_start_is_refused_while_any_run_is_held_or_measured(launched, preset: Preset, tmp_path: Path) -> None:
    other = create(Preset(), tmp_path / "runs" / "other")
    with held(other), pytest.raises(UserError, match="other: is still running"):
        run_list.start(preset)
    with measuring([]), pytest.raises(UserError, match="being measured"):
        run_list.start(preset)
    assert launched == []


def test_a_stopped_run_is_resumed_and_an_old_stop_request_does_not_stop_it(launched, preset: Preset) -> None:
    run = create(preset)
    event_log.EventLog(run.events).emit(events.Stopped(3))
    run.request("stop")
    run_list.resume(run.path)
    assert launched == [run.path]
    assert not run.take_request("stop")


def test_a_run_whose_engine_died_at_once_is_not_running(launched, preset: Preset, monkeypatch) -> None:
    path = run_list.start(preset)
    assert run_list.status(view_of(path)) == "running"
    monkeypatch.setattr("psutil.pid_exists", lambda process_id: False)
    assert run_list.status(view_of(path)) == "new"


def test_the_page_never_touches_a_folder_that_is_not_listed(launched, tmp_path: Path) -> None:
    foreign = create(Preset(), tmp_path / "elsewhere")
    with held(foreign):
        answer = run_answers.request("stop", str(foreign.path))
    assert "No training is running here" in answer
    assert not foreign.take_request("stop")


def test_many_who_look_at_once_do_not_take_each_other_for_an_engine(tmp_path: Path) -> None:
    run = create(Preset(), tmp_path / "runs" / "idle")
    with held(run):
        pass

    def look(_: int) -> bool:
        return any(run.is_running() for _ in range(200))

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(look, range(8)))
    with held(run):
        assert run.is_running()
