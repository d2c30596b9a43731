"""A run is rebuilt from its folder, reading only what is new, whatever happened to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import event_log, events
from engine.preset import Preset
from engine.run import RunFolder, create, held
from ui import gallery_view, run_page
from ui.run_answers import look
from ui.run_list import status
from ui.run_view import RunView


def step(number: int, loss: float | None = 0.5, **more) -> events.Step:
    rates = more.get("lr", {"unet": 1e-4})
    return events.Step(number, 1, loss, rates, 1.0, 0.5, 4, 10**9)


def started(steps: int = 100, from_step: int = 0) -> events.Started:
    return events.Started("a run", steps, 10, 10, from_step, 1, "CPU")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create(Preset(), tmp_path / "runs" / "a run")


@pytest.fixture
def log(run: RunFolder) -> event_log.EventLog:
    return event_log.EventLog(run.events)


def test_each_look_reads_only_what_is_new(run: RunFolder, log: event_log.EventLog, monkeypatch) -> None:
    offsets: list[int] = []
    read = event_log.read_lines
    monkeypatch.setattr(event_log, "read_lines", lambda path, offset=0: (offsets.append(offset), read(path, offset))[1])
    view = RunView(run)
    log.emit(started())
    view.refresh()
    first_size = run.events.stat().st_size
    log.emit(step(1))
    view.refresh()
    view.refresh()
    assert offsets == [0, first_size]
    assert view.curves.steps == [1]


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(run: RunFolder, log: event_log.EventLog) -> None:
    view = RunView(run)
    log.emit(started())
    log.emit(step(1))
    content = run.events.read_bytes()
    run.events.write_bytes(content[:-10])
    view.refresh()
    assert view.curves.steps == []
    run.events.write_bytes(content)
    view.refresh()
    assert view.curves.steps == [1]


def test_a_resumed_run_does_the_steps_after_its_state_again(run: RunFolder, log: event_log.EventLog) -> None:
    log.emit(started())
    for number in range(1, 8):
        log.emit(step(number, loss=float(number)))
    log.emit(started(from_step=4))
    log.emit(step(5, loss=50.0))
    view = RunView(run)
    view.refresh()
    assert view.curves.steps == [1, 2, 3, 4, 5]
    assert view.curves.losses == [1.0, 2.0, 3.0, 4.0, 50.0]
    assert len(view.curves.rates["unet"]) == 5


def test_a_folder_that_was_begun_anew_is_read_anew(run: RunFolder, log: event_log.EventLog) -> None:
    view = RunView(run)
    log.emit(started())
    log.emit(step(1))
    view.refresh()
    run.events.write_bytes(b"")
    view.refresh()
    assert view.curves.steps == []


@pytest.mark.parametrize(
    ("last", "state", "words"),
    [
        (events.Finished(7, "checkpoints/x", 60.0), "finished", "in 1 min"),
        (events.Stopped(7), "stopped", "at step 7. Resume goes on after step 5."),
        (events.Failed("the disk is full. Free some space.", 2), "failed", "the disk is full. Free some space."),
        (step(7), "killed", "Resume goes on after step 5."),
    ],
)
def test_how_a_run_ended_is_said_in_words(
    run: RunFolder, log: event_log.EventLog, last, state: str, words: str
) -> None:
    log.emit(started())
    log.emit(events.Saved(5, "state", "state/5", 10))
    log.emit(step(7))
    log.emit(last)
    view = RunView(run)
    view.refresh()
    assert status(view) == state
    assert words in run_page.progress(view, status(view))


def test_a_held_run_is_running(run: RunFolder, log: event_log.EventLog) -> None:
    log.emit(started())
    log.emit(step(3))
    view = RunView(run)
    view.refresh()
    with held(run):
        assert status(view) == "running"
        assert "step 3 of 100" in run_page.header(view, "running")


def test_a_step_without_finite_loss_leaves_a_gap(run: RunFolder, log: event_log.EventLog) -> None:
    log.emit(started())
    for number, loss in enumerate([0.5, None, 0.7], start=1):
        log.emit(step(number, loss))
    view = RunView(run)
    view.refresh()
    assert view.curves.losses == [0.5, None, 0.7]
    assert "<svg" in run_page.curves(view)


def test_the_log_shows_what_was_last_to_be_seen_of_each_line(run: RunFolder) -> None:
    run.log.write_bytes(b"loading\r\nstep 1\rstep 2\rstep 3\nd\xffne\n")
    assert RunView(run).log_tail() == "loading\nstep 3\nd\ufffdne"


def test_text_from_a_run_cannot_become_html(run: RunFolder, log: event_log.EventLog) -> None:
    attack = "<script>alert(1)</script>"
    (run.samples / "a.png").write_bytes(b"x")
    log.emit(started())
    log.emit(events.Sampled(0, 0, attack, 1, "samples/a.png", 1.0))
    log.emit(events.Warned(attack, attack))
    log.emit(events.Failed(attack, 1, attack))
    view = RunView(run)
    view.refresh()
    page = run_page.progress(view, "failed") + gallery_view.samples(view)[0] + run_page.header(view, "failed")
    assert attack not in page
    assert "&lt;script&gt;" in page


def test_a_look_brings_only_what_changed(run: RunFolder, log: event_log.EventLog, monkeypatch) -> None:
    monkeypatch.setattr("ui.run_list._known_folders", [run.path.parent])
    log.emit(started())
    log.emit(step(1))
    first = look("", "", {})
    assert first["run"] == str(run.path)
    seen = digests(first)
    assert look(first["run"], "", seen)["parts"] == {}
    log.emit(step(2))
    changed = look(first["run"], "", seen)["parts"]
    assert {"progress", "curves"} <= set(changed) <= {"progress", "curves", "runs"}  # in the list stands the minute
    assert "<svg" in changed["curves"]["content"]


def test_a_run_that_begins_is_followed_at_once_and_another_may_be_chosen_then(run: RunFolder, monkeypatch) -> None:
    monkeypatch.setattr("ui.run_list._known_folders", [run.path.parent])
    other = create(Preset(), run.path.parent / "other")
    assert look(str(other.path), "", {})["run"] == str(other.path)
    with held(run):
        begun = look(str(other.path), "", {})
        assert (begun["run"], begun["active"]) == (str(run.path), str(run.path))
        assert look(str(other.path), begun["active"], {})["run"] == str(other.path)


def write_steps(run: RunFolder, log: event_log.EventLog, count: int) -> None:
    """As many steps as events, written at once."""
    log.emit(step(1))
    line = run.events.read_text().splitlines()[-1]
    with run.events.open("a") as file:
        file.writelines(line.replace('"step": 1,', f'"step": {number},', 1) + "\n" for number in range(2, count + 1))


def digests(answer: dict[str, Any]) -> dict[str, str]:
    """What a browser has after an answer."""
    return {name: part["digest"] for name, part in answer["parts"].items()}


def test_a_long_run_is_sent_thinned(run: RunFolder, log: event_log.EventLog, monkeypatch) -> None:
    """What a look at 100,000 steps costs is measured by benchmarks/run_page.py."""
    monkeypatch.setattr("ui.run_list._known_folders", [run.path.parent])
    log.emit(started(steps=8_000))
    write_steps(run, log, 8_000)
    sent = json.dumps(look("", "", {}))
    assert len(sent) < 250_000
    assert "8,000 of 8,000" in sent
