"""What is changed in a run: kept by step, read back the same, refused in sentences, recorded before it holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine import event_log, events, run
from engine.changes import Change, Changes, read_changes
from engine.control import Control
from engine.errors import UserError
from engine.extend import Extension, extension, factors_around
from engine.hardware import HardwareWatch, Reading, read_answer
from engine.plan import make_plan
from engine.preset import Preset
from engine.processes import ALONE
from engine.prompts import SamplePrompt
from engine.report import Reporter
from engine.run import RunFolder
from engine.steplog import StepLog
from engine.stopping import Stopping
from tests.training import events_of, small_preset


@pytest.fixture
def made(tmp_path: Path) -> RunFolder:
    return run.create(Preset(), tmp_path / "r")


class Quiet:
    """A step log without steps."""

    def read(self) -> None: ...

    def restart_clock(self) -> None: ...


def control_of(made: RunFolder, tmp_path: Path, refuse: str = "") -> Control:
    """The control of a run of 4 steps, 4 an epoch; `refuse`: why new prompts cannot be encoded."""
    preset = small_preset(tmp_path)

    def encode(prompts: Sequence[SamplePrompt]) -> None:
        if refuse:
            raise UserError(refuse, "sample.prompts")

    plan, report = make_plan(preset), Reporter(made)
    log: StepLog = Quiet()  # pyright: ignore[reportAssignmentType]
    return Control(Changes.of(made, preset, plan.prompts), plan, log, report, (Stopping(), ALONE), encode)


def test_a_change_holds_from_its_step_on_and_is_read_back(made):
    changes = Changes.of(made, Preset())
    changes.record(Change(3, "rate_factor", 0.5, 1.0))
    changes.record(Change(6, "rate_factor", 2.0, 0.5))
    again = Changes.of(made, Preset())
    assert [again.rate_factor(step) for step in (0, 2, 3, 5, 6, 99)] == [1.0, 1.0, 0.5, 0.5, 2.0, 2.0]
    assert [entry["step"] for entry in again.told(5)] == [3]


def test_a_change_made_after_a_resume_replaces_those_whose_steps_were_lost(made):
    changes = Changes.of(made, Preset())
    changes.record(Change(6, "rate_factor", 2.0, 1.0))
    changes.record(Change(5, "prompts", "a cat", ""))
    changes.record(Change(4, "rate_factor", 0.5, 1.0))
    assert changes.rate_factor(9) == 0.5
    assert [prompt.prompt for prompt in changes.prompts_at(5)] == ["a cat"]


def test_a_lost_list_is_taken_from_the_state_and_a_damaged_one_is_refused(made):
    entry = {"step": 2, "what": "rate_factor", "value": 0.1, "before": 1.0}
    assert read_changes(made.changes, [entry]) == (Change(2, "rate_factor", 0.1, 1.0),)
    for content in ("{", "[]", '{"changes": [{"step": 1}]}', json.dumps({"changes": [{**entry, "value": "much"}]})):
        made.changes.write_text(content)
        with pytest.raises(UserError, match="cannot be read, so it would not go on as before"):
            read_changes(made.changes)


@pytest.mark.parametrize(
    ("what", "content", "told"),
    [
        ("rate_factor", "", "cannot be read"),
        ("rate_factor", '{"value": "half"}', "from 0.001 to 100 (got 'half')"),
        ("rate_factor", '{"value": true}', "from 0.001 to 100"),
        ("rate_factor", '{"value": NaN}', "from 0.001 to 100"),
        ("rate_factor", '{"value": 0}', "from 0.001 to 100 (got 0)"),
        ("rate_factor", '{"value": 50}', "optimizer.unet_rate"),
        ("prompts", '{"value": 3}', "must be text"),
        ("prompts", '{"value": "a cat --q 3"}', "line 1: --q is not known"),
    ],
)
def test_a_request_that_cannot_be_done_is_a_warning_and_changes_nothing(made, tmp_path, what, content, told):
    control = control_of(made, tmp_path)
    control.changes.preset = control.changes.preset.changed({"optimizer.unet_rate": 1.0})
    (made.requests / what).write_text(content)
    assert control.look(2, False) == (False, False, False, False)
    (warned,) = events_of(made, events.Warned)
    assert told in warned.message and "nothing was changed" in warned.message
    assert control.changes.entries == () and not made.changes.exists()
    assert list(made.requests.iterdir()) == []


def test_a_change_is_recorded_told_and_used_up(made, tmp_path):
    control = control_of(made, tmp_path)
    made.request_change("rate_factor", 0.25)
    made.request_change("prompts", "a cat --d 7\n# not this\na dog")
    control.look(2, False)
    told = [(event.step, event.what, event.value) for event in events_of(made, events.Changed)]
    assert told == [(2, "rate_factor", 0.25), (2, "prompts", "a cat --d 7\n# not this\na dog")]
    assert control.changes.rate_factor(2) == 0.25 and control.changes.rate_factor(1) == 1.0
    first = control.changes.prompts_at(2)[0]
    assert (first.prompt, first.seed) == ("a cat", 7)
    assert len(control.changes.prompts_at(2)) == 2 and list(made.requests.iterdir()) == []


def test_prompts_that_cannot_be_encoded_leave_the_old_ones(made, tmp_path):
    control = control_of(made, tmp_path, refuse="out of memory.")
    made.request_change("prompts", "a cat")
    control.look(1, False)
    assert "out of memory" in events_of(made, events.Warned)[0].message
    assert control.changes.prompts_at(1) == ()


def test_stop_after_the_epoch_waits_for_its_end_and_can_be_withdrawn(made, tmp_path):
    control = control_of(made, tmp_path)
    per_epoch = control.plan.steps_per_epoch
    assert per_epoch > 1
    made.request("stop_after_epoch")
    assert not control.look(per_epoch - 1, False)[0]
    assert made.is_requested("stop_after_epoch")
    assert control.look(per_epoch, False)[0]
    assert not control.look(2 * per_epoch, False)[0]


def test_a_paused_run_holds_until_it_is_continued_or_stopped(made, tmp_path, monkeypatch):
    control = control_of(made, tmp_path)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            made.request("continue")
        if len(looks) == 6:
            made.request("stop")

    monkeypatch.setattr("engine.control.time.sleep", sleep)
    made.request("continue")  # of before the pause: it does not end it
    made.request("pause")
    assert control.look(2, False)[0] is False and len(looks) == 3
    made.request("pause")
    assert control.look(3, False)[0] is True and len(looks) == 6
    kinds = [entry.event.kind for entry in event_log.read(made.events)[0]]
    assert kinds == ["paused", "continued", "paused", "continued"]


def test_a_longer_run_tells_what_becomes_of_its_rates(tmp_path):
    cosine, constant = (small_preset(tmp_path, optimizer__schedule=name) for name in ("cosine", "constant"))
    assert factors_around(constant, 4, 4, 8) == (1.0, 1.0, 1.0)
    ended, begins, ends = factors_around(cosine, 4, 4, 8)
    assert (round(ended, 3), begins, round(ends, 4)) == (0.146, pytest.approx(0.5), 0.0381)
    words = Extension(RunFolder(tmp_path), cosine, 4, 4, 8, (ended, begins, ends)).sentence
    assert "gets 4 steps more: 8 instead of 4." in words
    assert "ended at 0.146 of those set, go on at 0.5 and end at 0.0381." in words
    kept = Extension(RunFolder(tmp_path), constant, 4, 4, 8, (1.0, 1.0, 1.0)).sentence
    assert kept.endswith("The learning rates go on as they ended, at 1 of those set.")


def test_only_what_can_go_on_gets_longer(tmp_path):
    made = run.create(small_preset(tmp_path), tmp_path / "run")
    with pytest.raises(UserError, match="at least 1 epoch more \\(got 0\\)"):
        extension(made.path, 0)
    with pytest.raises(UserError, match="no saved state"):
        extension(made.path, 1)
    (made.state / "step-00000004.safetensors").write_bytes(b"")
    longer = extension(made.path, 2)
    assert longer.steps == 4 + 2 * make_plan(longer.preset).steps_per_epoch
    with run.held(made), pytest.raises(UserError, match="still running"):
        extension(made.path, 1)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("11805, 12288, 97, 71\n", Reading(11805 * 1024**2, 12288 * 1024**2, 97.0, 71.0)),
        ("100, 12288, [N/A], [Not Supported]", Reading(100 * 1024**2, 12288 * 1024**2, None, None)),
        ("No devices were found", None),
        ("[N/A], [N/A], [N/A], [N/A]", None),
    ],
)
def test_the_drivers_answer_is_read(told: str, expected: Reading | None) -> None:
    assert read_answer(told) == expected


def test_the_card_is_looked_at_every_few_seconds_beside_the_steps(made, monkeypatch):
    monkeypatch.setattr("engine.hardware.ask_driver", lambda card: Reading(2, 3, 50.0, None))
    watch = HardwareWatch("GPU-1", event_log.EventLog(made.events))
    for number in (1, 2, 3):
        watch(events.Step(number, 1, 0.5, {}, 1.0, 0.5, 4, 9))
        assert watch._thread is not None
        watch._thread.join()
    assert events_of(made, events.Hardware) == [events.Hardware(1, 2, 3, 9, 50.0, None)]
