"""The Run tab's new parts: buttons, changes, timeline, hardware, stars; all of them rebuilt from the run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import event_log, events
from engine.errors import UserError
from engine.preset import Preset
from engine.run import RunFolder, create, held
from ui import gallery_view, hardware_view, run_page, stars
from ui.run_answers import answer, look
from ui.run_view import RunView
from ui.timeline_view import timeline

GB = 10**9


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    made = create(Preset(), tmp_path / "runs" / "a run")
    monkeypatch.setattr("ui.run_list._known_folders", [made.path.parent])
    return made


@pytest.fixture
def log(run: RunFolder) -> event_log.EventLog:
    log = event_log.EventLog(run.events)
    log.emit(events.Started("a run", 100, 10, 10, 0, 1, "CPU"))
    return log


def step(number: int, seconds: float = 0.5) -> events.Step:
    return events.Step(number, 1, 0.5, {"unet": 1e-4}, 0.25, seconds, 4, 9 * GB)


def hardware(number: int, used: int, reserved: int = 9 * GB) -> events.Hardware:
    return events.Hardware(number, used, 12 * GB, reserved, 88.0, 71.0)


def view_of(run: RunFolder) -> RunView:
    view = RunView(run)
    view.refresh()
    return view


def ask(run: RunFolder, to: str, **more: Any) -> dict[str, Any]:
    return answer({"ask": to, "run": str(run.path), **more})


def part(run: RunFolder, name: str) -> Any:
    return look(str(run.path), "", {})["parts"][name]["content"]


def test_buttons_ask_for_what_they_say_and_say_what_comes(run, log):
    log.emit(step(3))
    with held(run):
        assert part(run, "can") == {"resume": False, "ask": True, "continue": False, "go_on": False}
        assert ask(run, "pause") == {"message": ""} and run.is_requested("pause")
        assert part(run, "can")["continue"]
        assert "Pausing" in part(run, "progress")
        assert run.take_request("pause")
        log.emit(events.Paused(3))
        assert part(run, "can")["continue"]
        assert "Paused" in part(run, "progress") and "at step 3. Continue goes on" in part(run, "progress")
        log.emit(events.Continued(3, 5.0))
        ask(run, "stop_after_epoch")
        assert part(run, "can") == {"resume": False, "ask": True, "continue": False, "go_on": True}
        assert "stops and saves at the end of this epoch" in part(run, "progress")
        ask(run, "stop_after_epoch")
        assert not run.is_requested("stop_after_epoch")


def test_a_change_is_checked_before_it_is_asked_for(run, log):
    assert "No training is running" in ask(run, "change", what="rate_factor", value="2")["message"]
    with held(run):
        assert "from 0.001 to 100 (got 'much')" in ask(run, "change", what="rate_factor", value="much")["message"]
        assert "--q is not known" in ask(run, "change", what="prompts", value="a cat --q 1")["message"]
        assert list(run.requests.iterdir()) == []
        assert ask(run, "change", what="rate_factor", value="0.5") == {"message": ""}
        assert json.loads((run.requests / "rate_factor").read_text()) == {"value": 0.5}
        assert part(run, "change")["waits"]
    assert part(run, "change")["part"] == ""


def test_the_form_of_changes_shows_what_is_in_force(run, log):
    log.emit(step(4))
    change = {"step": 4, "what": "rate_factor", "value": 0.5, "before": 1.0}
    run.changes.write_text(json.dumps({"changes": [change]}))
    with held(run):
        assert (part(run, "change")["part"], part(run, "change")["rate_factor"]) == ("running", 0.5)
    log.emit(events.Finished(100, "checkpoints/x", 9.0))
    assert part(run, "change")["part"] == "ended"
    assert "whole number (got two)" in ask(run, "longer", epochs="two")["message"]
    assert "no saved state" in ask(run, "longer", epochs="2")["message"]


def test_the_timeline_tells_everything_that_happened_and_escapes_it(run, log):
    attack = "<script>alert(1)</script>"
    for event in (
        *(events.Sampled(0, index, attack, 1, f"samples/{index}.png", 1.0) for index in (0, 1)),
        events.Saved(5, "state", "state/x", 9),
        events.Saved(5, "checkpoint", f"checkpoints/{attack}", 9),
        events.Changed(6, "rate_factor", 0.5, 1.0),
        events.Changed(6, "prompts", attack, ""),
        events.Paused(7),
        events.Continued(7, 90.0),
        events.Validated(8, 0.125),
        events.Warned(attack),
        events.Stopped(9),
        events.Started("a run", 100, 10, 10, 5, 1, "CPU"),
        events.Changed(100, "steps", 200, 100),
        events.Finished(200, "x", 1.0),
    ):
        log.emit(event)
    told = timeline(view_of(run).told)
    words = ["Finished", "200 steps instead of 100", "after step 5, on CPU", "Stopped", "Warning", "0.12500"]
    words += ["after 1 min 30 s", "Paused", "other sample prompts", "× 0.5 (were × 1)", "Saved", "Sampled", "Started"]
    places = [told.index(word) for word in words]
    assert places == sorted(places) and told.count("<li") == 13  # of two pictures one, of the state none
    assert attack not in told and part(run, "timeline") == told


def test_gradient_norm_and_the_card_are_drawn_from_the_events(run, log):
    for number in range(1, 4):
        log.emit(step(number))
        log.emit(hardware(number, 10 * GB))
    view = view_of(run)
    assert view.curves.gradient_norms == [0.25] * 3
    drawn, panel = run_page.curves(view), run_page.progress(view, "running")
    assert all(title in drawn for title in ("Gradient norm", "Graphics card", "temperature, °C"))
    assert all(value in panel for value in ("10.0 GB of 12.0 GB", "88 %", "71 °C"))
    log.emit(events.Started("a run", 100, 10, 10, 1, 1, "CPU"))
    again = view_of(run)
    assert len(again.hardware) == len(again.curves.gradient_norms) == 1


@pytest.mark.parametrize(
    ("last", "seconds", "times"),
    [
        (None, 39.0, None),
        (hardware(9, 11 * GB), 39.0, None),  # slow, but there is room: something else
        (hardware(9, 12 * GB), 1.5, None),  # full and fast: as it should be
        (hardware(9, 12 * GB), 39.0, 39.0),
        (hardware(9, 11 * GB, reserved=14 * GB), 1.5, 1.5),  # more than the card has
    ],
)
def test_spill_into_slow_memory_is_recognised(last, seconds: float, times: float | None) -> None:
    assert hardware_view.spill(last, seconds, 1.0) == times


def test_a_spill_is_explained_with_the_runs_own_numbers(run, log):
    for number in range(1, 20):
        log.emit(step(number, seconds=1.0 if number < 9 else 39.0))
    log.emit(hardware(19, 12 * GB))
    told = run_page.progress(view_of(run), "running")
    assert "memory is full (12.0 GB of 12.0 GB) and a step takes 39 s, 39 times as long" in told


def test_pictures_are_rows_of_one_prompt_and_the_best_are_starred(run, log):
    for number, prompt in ((0, "a cat"), (5, "a cat"), (10, "a dog")):
        (run.samples / f"{number}.png").write_bytes(b"x")
        log.emit(events.Sampled(number, 0, prompt, 7, f"samples/{number}.png", 1.0))
    drawn, before = gallery_view.samples(view_of(run))
    assert drawn.count('scope="row"') == 2 and drawn.count("data-compare") == 1
    assert 'data-copy="a dog"' in drawn and 'data-copy="7"' in drawn
    assert ask(run, "star", path="samples/5.png") == {"message": ""}
    assert "no such picture" in ask(run, "star", path="../../etc/passwd")["message"]
    starred, after = gallery_view.samples(view_of(run))
    assert starred.count("★") == 1 and before != after
    ask(run, "star", path="samples/5.png")
    assert stars.stars(run) == frozenset()


def test_a_damaged_file_of_stars_is_none_and_a_foreign_picture_cannot_be_starred(run):
    (run.path / "stars.json").write_text("{")
    assert stars.stars(run) == frozenset()
    with pytest.raises(UserError, match="no such picture"):
        stars.turn(run, "samples/1.png", [])
