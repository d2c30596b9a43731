"""The event log: whole lines only, whatever kills the writer."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import event_log, events
from engine.event_log import EventLog, read
from engine.events import KINDS, Failed, Progress, Sampled, Stage, Step, Stopped, Warned


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def test_the_kinds_are_a_closed_set():
    assert set(KINDS) == {
        *("started", "stage", "progress", "step", "validated", "sampled", "saved"),
        *("warned", "failed", "stopped", "finished"),
        *("paused", "continued", "changed", "hardware", "previewed", "drawn", "answered"),
    }  # fmt: skip


@given(st.text(), st.integers(0, 10**9), st.floats(0, 1e6))
def test_events_read_back_as_they_were_written(tmp_path_factory, text, number, seconds):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    written = [Warned(text, text), Sampled(number, 0, text, number, "samples/x.png", seconds), Stopped(number)]
    log = EventLog(path)
    for event in written:
        log.emit(event)
    entries, offset = read(path)
    assert [entry.event for entry in entries] == written
    assert offset == path.stat().st_size


def test_each_line_carries_format_kind_and_utc_time(path):
    EventLog(path).emit(Stage("Training"))
    content = json.loads(path.read_text())
    assert content["v"] == 1 and content["kind"] == "stage"
    assert datetime.fromisoformat(content["time"]).utcoffset() == timedelta(0)


def test_a_reader_goes_on_where_it_was(path):
    log = EventLog(path)
    log.emit(Stage("one"))
    first, offset = read(path)
    log.emit(Stage("two"))
    second, _ = read(path, offset)
    assert [entry.event for entry in first + second] == [Stage("one"), Stage("two")]


def test_a_line_being_written_is_left_for_the_next_read(path):
    EventLog(path).emit(Stage("one"))
    with path.open("ab") as file:
        file.write(b'{"v": 1, "kind": "sta')
    entries, offset = read(path)
    assert len(entries) == 1
    with path.open("ab") as file:
        file.write(b'ge", "time": "t", "name": "two"}\n')
    (entry,), _ = read(path, offset)
    assert entry.event == Stage("two")


def test_after_a_torn_line_the_next_writer_begins_a_new_one(path):
    path.write_bytes(b'{"v": 1, "kind": "sta')
    EventLog(path).emit(Stage("after"))
    entries, _ = read(path)
    assert [entry.event for entry in entries] == [Stage("after")]


@pytest.mark.parametrize(
    "line", [b"[]", b"1", b"null", b'{"kind": "unknown", "time": ""}', b'{"kind": "step"}', b"\xff"]
)
def test_foreign_lines_are_passed_over(path, line):
    path.write_bytes(line + b"\n")
    EventLog(path).emit(Progress("Encoding", 1, 2))
    entries, _ = read(path)
    assert [entry.event for entry in entries] == [Progress("Encoding", 1, 2)]


STEP: dict[str, Any] = {
    "v": 1,
    "kind": "step",
    "time": "t",
    "step": 2,
    "epoch": 1,
    "loss": 0.5,
    "lr": {"unet": 1e-4},
    "gradient_norm": 1.0,
    "seconds_per_step": 0.5,
    "images": 4,
    "memory_bytes": 9,
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 5}, {"lr": None}, {"lr": {"unet": "x"}}, {"lr": [1]}, {"loss": "abc"}, {"step": "x"}, {"step": 1.5},
        {"step": True}, {"seconds_per_step": None}, {"memory_bytes": "1"}, {"mean_norm": []}, {"time": 5},
        {"time": None}, {"kind": ["step"]}, {"kind": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_step_with_fields_of_other_types_is_passed_over_and_those_beside_it_are_not(path: Path, wrong) -> None:
    beside = Step(1, 1, 0.5, {"unet": 1e-4}, 1.0, 0.5, 4, 10**9)
    EventLog(path).emit(beside)
    with path.open("a") as file:
        file.write(json.dumps(STEP | wrong) + "\n" + json.dumps(STEP | {"step": 3, "loss": None}) + "\n")
    expected = [beside, Step(3, 1, None, {"unet": 1e-4}, 1.0, 0.5, 4, 9)]
    assert [entry.event for entry in read(path)[0]] == expected
    told = event_log.entries_and_steps(event_log.read_lines(path)[0])
    assert [step["step"] for part in told if isinstance(part, event_log.Steps) for step in part.fields] == [1, 3]


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "validated", "step": 1, "loss": 0.5, "bands": [0.1, "x"]},
        {"kind": "validated", "step": 1, "loss": 0.5, "bands": {"a": 0.1}},
        {"kind": "failed", "message": 5, "exit_code": 2},
        {"kind": "failed", "message": "m", "exit_code": 2, "problems": [{"message": 5}]},
        {"kind": "failed", "message": "m", "exit_code": 2, "problems": ["x"]},
        {"kind": "changed", "step": 1, "what": "steps", "value": [5], "before": 4},
    ],
    ids=str,
)
def test_other_kinds_with_fields_of_other_types_are_passed_over(path: Path, line) -> None:
    path.write_text(json.dumps({"v": 1, "time": "t"} | line) + "\n")
    EventLog(path).emit(Stopped(1))
    assert [entry.event for entry in read(path)[0]] == [Stopped(1)]


def test_numbers_that_are_not_finite_become_null(path):
    EventLog(path).emit(Step(1, 1, float("nan"), {"unet": float("inf")}, float("-inf"), 1.0, 1, 0))
    event = read(path)[0][0].event
    assert isinstance(event, Step)
    assert (event.loss, event.lr, event.gradient_norm) == (None, {"unet": None}, None)


def test_fields_of_a_newer_writer_are_passed_over(path):
    path.write_text('{"v": 2, "kind": "failed", "time": "t", "message": "m", "exit_code": 2, "mood": "sad"}\n')
    assert read(path)[0][0].event == Failed("m", 2)


def test_no_log_is_an_empty_log(path):
    assert read(path) == ([], 0)


def test_a_log_that_cannot_be_written_is_told_once_and_does_no_harm(tmp_path, capsys):
    log = EventLog(tmp_path / "missing" / "events.jsonl")
    log.emit(Stage("one"))
    log.emit(Stage("two"))
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_lines_that_are_none_are_passed_over_among_whole_ones_and_all_others_are_read(tmp_path: Path) -> None:
    log = event_log.EventLog(tmp_path / "events.jsonl")
    count = event_log._LINES_AT_ONCE + 3
    for number in range(count):
        log.emit(events.Stopped(number))
        if number % 200 == 7:
            with log.path.open("ab") as file:
                file.write(b'{"kind": "stopped"}\nnone,\n[1]\n{"kind": "stopped", "time": "", "step"\n')
    assert [entry.event for entry in event_log.read(log.path)[0]] == [events.Stopped(number) for number in range(count)]


def test_steps_that_follow_each_other_are_told_together(path: Path) -> None:
    log = EventLog(path)
    one, two, three = (Step(number, 1, 0.5, {"unet": 1e-4}, 1.0, 0.5, 4, 10**9) for number in (1, 2, 3))
    told = (Stage("Training"), one, two, Warned("x", "memory"), three)
    for event in told:
        log.emit(event)
    with path.open("a") as file:
        file.write('{"v": 1, "kind": "step", "time": "t", "step": 4}\n{"torn\n7\n')
    lines = event_log.read_lines(path)[0]
    parts = list(event_log.entries_and_steps(lines))
    assert [type(part).__name__ for part in parts] == ["Entry", "Steps", "Entry", "Steps"]
    both, last = [part for part in parts if isinstance(part, event_log.Steps)]
    assert ([step["step"] for step in both.fields], both.last, last.last) == ([1, 2], two, three)
    alone = list(event_log.entries(lines))
    assert [entry.event for entry in alone] == list(told)
    assert (both.time, last.time) == (alone[2].time, alone[4].time)


def test_each_steps_curve_is_the_same_however_they_were_told(path: Path) -> None:
    """At once or one after the other, with groups of parameters that come and go, and a loss that was not finite."""
    from ui.run_view import Curves

    rates: list[dict[str, float]] = [{"unet": 1e-4}, {"unet": 2e-4, "text": 1e-5}, {"text": 3e-5}, {"unet": 4e-4}]
    log = EventLog(path)
    for number, (rate, loss) in enumerate(zip(rates, (0.5, None, 0.25, 1.0), strict=True), start=1):
        log.emit(Step(number, 1, loss, rate, 1.0, 0.5, 4, 10**9))
    (told,) = [
        part for part in event_log.entries_and_steps(event_log.read_lines(path)[0]) if isinstance(part, event_log.Steps)
    ]
    together, alone = Curves(), Curves()
    together.add(told.fields, 10)
    for step in told.fields:
        alone.add([step], 10)
    assert together == alone
    assert together.rates == {"unet": [1e-4, 2e-4, None, 4e-4], "text": [None, 1e-5, 3e-5, None]}
    assert together.smoothed[0] == together.smoothed[1] == pytest.approx(0.5)
