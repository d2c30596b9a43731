"""What a run saves when, what it keeps, and a full disk at the end."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from engine import events, saving
from engine.atomic import whole_file
from engine.errors import UserError
from engine.plan import make_plan
from engine.plan_sizes import estimate_disk
from engine.run import RunFolder
from engine.validation import Course
from tests.training import events_of, losses_of, resume_here, small_preset, train_here


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def thinned(tmp_path_factory):
    """Nine steps, few an epoch, saved by epochs and every second step, of which two checkpoints and one state stay."""
    folder = tmp_path_factory.mktemp("thinned")
    changes = {
        "run__steps": 9, "run__save_every_steps": 2, "run__save_every_epochs": 1, "run__file_names": "epoch",
        "run__keep_last": 2, "run__keep_states": 1, "run__batch_size": 4,
    }  # fmt: skip
    return train_here(small_preset(folder, **changes))


@pytest.mark.slow
def test_the_last_and_the_newest_on_the_way_stay(thinned):
    saved = [event.path for event in events_of(thinned, events.Saved) if event.what == "checkpoint"]
    assert len(saved) > 4
    *_, before, newest, last = saved
    assert last == "checkpoints/tiny.safetensors"
    assert files(thinned.checkpoints) == sorted(path.split("/")[1] for path in (before, newest, last))
    assert files(thinned.state) == ["step-00000009.safetensors"]


@pytest.mark.slow
def test_names_carry_the_epoch_where_one_ends(thinned):
    started = events_of(thinned, events.Started)[0]
    saved = {event.step: event.path for event in events_of(thinned, events.Saved) if event.what == "checkpoint"}
    per_epoch = started.steps_per_epoch
    assert saved[per_epoch] == "checkpoints/tiny-epoch0001.safetensors"
    others = [step for step in saved if step % per_epoch and step != 9]
    assert others and all(saved[step] == f"checkpoints/tiny-{step:06d}.safetensors" for step in others)


@pytest.mark.slow
def test_states_at_the_end_only_or_more_often_than_checkpoints(tmp_path):
    at_end = train_here(small_preset(tmp_path, run__save_every_steps=2, run__state_saves="at_end"), tmp_path / "a")
    assert files(at_end.state) == ["step-00000004.safetensors"]
    assert len(files(at_end.checkpoints)) == 2
    often = train_here(small_preset(tmp_path, run__state_every_steps=1, run__keep_states=9), tmp_path / "b")
    assert len(files(often.state)) == 4 and files(often.checkpoints) == ["tiny.safetensors"]
    (often.state / "step-00000004.safetensors").unlink()
    resume_here(often)
    assert events_of(often, events.Started)[-1].from_step == 3
    assert losses_of(often) == losses_of(at_end)


@pytest.mark.slow
def test_a_state_that_is_due_with_a_checkpoint_is_written_whatever_the_others_do(tmp_path):
    changes = {"run__save_every_steps": 1, "run__state_every_steps": 2, "run__keep_states": 9}
    made = train_here(small_preset(tmp_path, run__state_saves="at_end", **changes))
    assert files(made.state) == ["step-00000002.safetensors", "step-00000004.safetensors"]


def test_a_checkpoint_by_the_clock_that_the_disk_refuses_waits_for_its_time(tmp_path, monkeypatch):
    now = iter(range(0, 10**4, 30))
    monkeypatch.setattr(saving.time, "monotonic", lambda: float(next(now)))
    saver = object.__new__(saving.Saver)
    saver.preset = small_preset(tmp_path, run__save_every_minutes=1)
    told: list[str] = []
    saver.report = SimpleNamespace(run=RunFolder(tmp_path), warn=told.append)  # pyright: ignore[reportAttributeAccessIssue]
    saver.plan = SimpleNamespace(steps_per_epoch=9)  # pyright: ignore[reportAttributeAccessIssue]
    saver.saved_at_seconds = -60.0

    def refused(*_: object) -> None:
        raise UserError("is full.", "disk")

    monkeypatch.setattr(saver, "_write", refused)
    assert saver.is_time
    saver.save(3, Course(), last=False, asked=False)
    assert "step 3 could not be saved" in told[0] and not saver.is_time and saver.is_time


def test_a_resume_is_told_of_another_average_but_not_of_other_saves(tmp_path):
    preset = small_preset(tmp_path, run__ema_decay=0.9)
    marks = [
        saving._fingerprint(changed, make_plan(changed))
        for changed in (preset, preset.changed({"run.ema_decay": 0.5}), preset.changed({"run.keep_states": 7}))
    ]
    assert marks[0] != marks[1] and marks[0] == marks[2]


@pytest.mark.slow
def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 40))  # every look at the clock is 40 s later
    monkeypatch.setattr(saving.time, "monotonic", lambda: float(next(clock)))
    made = train_here(small_preset(tmp_path, run__steps=3, run__save_every_minutes=1))
    assert len(files(made.checkpoints)) > 1


def fill_disk(monkeypatch, times: int) -> None:
    """The next `times` checkpoints meet a full disk."""
    plain, left = saving.save_adapter, iter(range(times))

    def save(path, *words, **named):
        if next(left, None) is None:
            return plain(path, *words, **named)
        with whole_file(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(saving, "save_adapter", save)
    monkeypatch.setattr(saving, "WAIT_SECONDS", 0.01)


def test_a_full_disk_at_the_end_is_waited_for(tmp_path, monkeypatch):
    fill_disk(monkeypatch, 3)
    made = train_here(small_preset(tmp_path, run__steps=1))
    assert made.status() == "finished" and files(made.checkpoints) == ["tiny.safetensors"]
    assert sum("tried again" in event.message for event in events_of(made, events.Warned)) == 3


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_the_run_with_a_sentence(tmp_path, monkeypatch):
    fill_disk(monkeypatch, 10**6)
    monkeypatch.setattr(saving, "WAITS_FOR_SPACE", 2)
    with pytest.raises(saving.UserError, match="the disk is full"):
        train_here(small_preset(tmp_path, run__steps=1))


@pytest.mark.slow
def test_stop_ends_the_waiting(tmp_path, monkeypatch):
    fill_disk(monkeypatch, 10**6)
    full = saving.save_adapter

    def save(path, *words, **named):
        RunFolder(path.parent.parent).request("stop")
        full(path, *words, **named)

    monkeypatch.setattr(saving, "save_adapter", save)
    monkeypatch.setattr(saving, "WAIT_SECONDS", 600.0)
    with pytest.raises(saving.UserError, match="the disk is full"):
        train_here(small_preset(tmp_path, run__steps=1))


@pytest.mark.parametrize(
    ("changes", "checkpoints", "states"),
    [
        ({}, 50, 2),
        ({"run.keep_last": 3}, 5, 2),
        ({"run.keep_states": 10}, 50, 10),
        ({"validation.share": 0.1}, 51, 2),
        ({"validation.share": 0.1, "validation.keep_best": False}, 50, 2),
    ],
)
def test_the_disk_estimate_follows_what_is_kept(tmp_path, changes, checkpoints, states):
    preset = small_preset(tmp_path, run__save_every_epochs=1, captions__cache_text=False).changed(
        {"data.cache_latents": False, **changes}
    )
    assert estimate_disk(preset, 1000, (), 0, 50).total_bytes == 1000 * (2 * checkpoints + 12 * states)
