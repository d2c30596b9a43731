"""Trackers record what events tell, go on at the right step, and never end a run or show a key."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import math
import sys
import types

import pytest

from engine import event_log, events
from engine.plan import make_plan
from engine.preset import Preset
from engine.run import create
from engine.secrets import redacted
from engine.trackers import PACKAGES, TRACKERS, Tracking, tracker_problems, tracking, values_of
from tests.training import losses_of, resume_here, small_preset, train_here

KEY = "0123456789abcdef0123456789abcdef01234567"


def step(number: int, loss: float | None = 0.5) -> events.Step:
    return events.Step(number, 2, loss, {"unet": 1e-4}, math.inf, 0.25, 4, 2 * 10**9)


def validated(number: int) -> events.Validated:
    return events.Validated(number, 0.3, [0.1, 0.5], [0, 500, 1000], number, 0.3, 4, 1.0)


class Notebook:
    """A tracker that remembers, and fails when told to."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple] = []
        self.fails = fails

    def _note(self, *call) -> None:
        self.calls.append(call)
        if call[0] == self.fails:
            raise ConnectionError(f"no network for {KEY}")

    def start(self) -> None:
        self._note("start")

    def store_init_configuration(self, values) -> None:
        self._note("settings", values)

    def log(self, values, step=None) -> None:
        self._note("log", step, values)

    def finish(self) -> None:
        self._note("finish")


def test_values_of_a_step_and_a_validation():
    found = values_of(step(7))
    assert found == (
        7,
        {"loss/current": 0.5, "seconds_per_step": 0.25, "memory_gb": 2.0, "epoch": 2, "lr/unet": 1e-4},
    )  # a norm that is not finite is left out
    assert values_of(validated(9)) == (
        9,
        {"validation/loss": 0.3, "validation/timesteps 0-499": 0.1, "validation/timesteps 500-999": 0.5},
    )
    assert values_of(events.Stage("x")) is None
    limited = values_of(dataclasses.replace(step(7), shrunk_layers=3, mean_norm=0.5))
    assert limited is not None and limited[1]["norm_limit/shrunk_layers"] == 3
    assert "loss/current" not in (values_of(step(1, None)) or (0, {}))[1]


@pytest.mark.parametrize("end", [events.Finished(2, "x", 1.0), events.Stopped(2), events.Failed("x", 1)])
def test_a_tracker_is_closed_with_the_run(end):
    book, warned = Notebook(), []
    listen = Tracking({"book": book}, {"run.seed": 42}, warned.append)
    for event in (step(1), events.Stage("x"), validated(1), end, end):
        listen(event)
    assert [call[0] for call in book.calls] == ["start", "settings", "log", "log", "finish"]
    assert warned == []


@pytest.mark.parametrize("fails", ["start", "settings", "log"])
def test_a_fault_is_told_once_without_the_key_and_the_others_go_on(monkeypatch, fails):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    bad, good, warned = Notebook(fails), Notebook(), []
    listen = Tracking({"bad": bad, "good": good}, {"run.seed": 42}, warned.append)
    for event in (step(1), step(2)):
        listen(event)
    (text,) = warned
    assert text.startswith("bad does not record") and "***" in text and KEY not in text
    assert [call[0] for call in good.calls].count("log") == 2
    assert [call[0] for call in bad.calls].count(fails) == 1


def test_settings_are_given_only_when_asked_for(tmp_path, monkeypatch):
    books = []
    monkeypatch.setitem(TRACKERS, "tensorboard", (lambda *_: books.append(Notebook()) or books[-1],))
    for settings in (False, True):
        preset = small_preset(tmp_path, logging__tracker="tensorboard", logging__settings=settings)
        assert tracking(preset, create(preset), 0, print) is not None
    assert [[call[0] for call in book.calls] for book in books] == [["start"], ["start", "settings"]]


def test_no_tracker_by_default(tmp_path):
    preset = small_preset(tmp_path)
    assert tracking(preset, create(preset), 0, print) is None


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_told_before_the_start_with_the_line_to_install_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr("engine.trackers._is_installed", lambda asked: asked != name)
    (problem,) = tracker_problems(Preset().changed({"logging.tracker": "all"}))
    assert problem.where == "logging.tracker" and f"pip install {PACKAGES[name]}" in problem.message
    plan = make_plan(small_preset(tmp_path, logging__tracker=name))
    assert [problem.where for problem in plan.problems] == ["logging.tracker"]


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@pytest.mark.slow
def test_tensorboard_has_every_step_once_also_after_a_resume_and_no_key_is_in_any_file(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "HF_TOKEN", "MY_SECRET"):
        monkeypatch.setenv(name, KEY)
    changes = {
        "logging__tracker": "tensorboard", "logging__settings": True, "run__save_every_steps": 2,
        "validation__share": 0.25, "validation__bands": 2,
    }  # fmt: skip
    made = train_here(small_preset(tmp_path, **changes))
    (made.state / "step-00000004.safetensors").unlink()
    resume_here(made)
    found = scalars(made.path / "trackers" / "tiny")
    assert [number for number, _ in found["loss/current"]] == [1, 2, 3, 4]
    assert [value for _, value in found["loss/current"]] == pytest.approx(losses_of(made), rel=1e-6)
    assert [number for number, _ in found["validation/loss"]] == [0, 4]
    assert {"lr/unet", "validation/timesteps 0-499", "gradient_norm"} <= found.keys()
    assert not [path for path in made.path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package: what it was called with."""
    told = types.ModuleType("wandb")
    told.inits, told.books = [], []  # type: ignore[attr-defined]

    def init(**about):
        told.inits.append(about)  # type: ignore[attr-defined]
        told.books.append(Notebook())  # type: ignore[attr-defined]
        return told.books[-1]  # type: ignore[attr-defined]

    told.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    told.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", told)
    monkeypatch.setenv("HOME", "/nonexistent")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return told


def test_wandb_goes_on_with_its_run_and_asks_nobody_for_a_key(tmp_path, monkeypatch, wandb):
    preset = small_preset(tmp_path, logging__tracker="wandb", logging__project="cats")
    first, second = create(preset), create(preset)
    for run in (first, second):
        event_log.EventLog(run.events).emit(events.Stage("Looking at the images"))
    warned = []
    listen = tracking(preset, first, 0, warned.append)
    assert listen is not None
    listen(step(1))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracking(preset, first, 100, warned.append)
    tracking(preset, second, 0, warned.append)
    assert warned == []
    assert wandb.books[0].calls == [("log", 1, values_of(step(1))[1])]  # pyright: ignore[reportOptionalSubscript]
    one, again, other = wandb.inits
    assert (one["project"], one["name"], one["resume"]) == ("cats", "tiny", "allow")
    assert one["id"] == again["id"] != other["id"]
    assert (one["mode"], again["mode"]) == ("offline", "online")
    assert KEY not in str(wandb.inits)


def test_redaction_leaves_short_words_alone(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "none")
    monkeypatch.setenv("B_KEY", "longer-secret")
    assert redacted("none of longer-secret") == "none of ***"
