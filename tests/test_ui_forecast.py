"""The panel that looks ahead: the table follows the form, fitting is applied and undone, measuring is followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import event_log, events, run
from engine.errors import UserError
from engine.preset import Preset
from tests.training import DEMO, small_preset
from ui import forecast_panel, form, form_answers, measuring, run_list
from ui.check import check


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preset:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run_list, "_known_folders", [tmp_path / "runs"])
    monkeypatch.setattr(measuring, "_present", [])
    return small_preset(tmp_path, model__base=DEMO, run__batch_size=4, memory__precision="bf16")


def asked(what: str, shown: dict[str, Any], **more: Any) -> dict[str, Any]:
    return form_answers.answer({"ask": what, "form": shown, **more})


def test_the_table_tells_the_forecast_and_nothing_of_an_empty_form(preset: Preset) -> None:
    text = forecast_panel.table(check(form.read_all(form.show_all(preset))))
    assert "4 images × 2 repeats" in text and "No run like it measured on this machine yet" in text
    empty = forecast_panel.table(check(form.read_all(form.show_all(Preset()))))
    assert "Known as soon as" in empty


def test_what_is_ticked_is_applied_and_undone(preset: Preset) -> None:
    shown = form.show_all(preset)
    first = asked("fit", shown, gb="0.688")["changes"][0][1]
    applied = asked("fit_apply", shown, changes=[first])["shown"]
    after = check(form.read_all(applied)).preset
    assert after and {path: after.get(path) for path in json.loads(first)} == json.loads(first)
    assert asked("fit_undo", applied)["shown"] == shown


@pytest.mark.parametrize("gb", ["0", None, "-3", "1e9", "", "many"])
def test_a_card_that_cannot_be_is_a_sentence(preset: Preset, gb: str | None) -> None:
    assert "from 1" in asked("fit", form.show_all(preset), gb=gb)["message"]


def test_a_form_with_faults_gets_no_changes(preset: Preset) -> None:
    told = asked("fit_apply", form.show_all(preset) | {"adapter.rank": 0}, changes=[])
    assert "has faults now" in told["message"] and "shown" not in told


class Started:
    """In the place of the launcher: a folder that no process works in, yet; this test's own process lives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folders: list[Path] = []
        monkeypatch.setattr(measuring.launchers.local, "start", self.start)
        monkeypatch.setattr(measuring.Measuring, "is_alive", property(lambda _: self.alive))
        self.alive = True

    def start(self, folder: Path, command: list[str]) -> int:
        assert command[3:] == ["measure", str(folder / "preset.json"), "--run", str(folder)]
        self.folders.append(folder)
        return 1

    def tell(self, *told: events.Event) -> None:
        log = event_log.EventLog(self.folders[-1] / "events.jsonl")
        for event in told:
            log.emit(event)


STEP = events.Step(1, 1, 0.1, {}, 0.1, 2.0, 4, 10)
ENDS = [
    (events.Finished(3, "", 0.0, "measured"), False, "a step takes 2 s"),
    (events.Failed("memory did not suffice", 3), True, "memory did not suffice"),
    (events.Stopped(0), False, "nothing was measured"),
]


@pytest.mark.parametrize(("end", "is_fault", "said"), ENDS)
def test_a_measurement_is_followed_to_its_end_and_its_folder_goes(preset, monkeypatch, end, is_fault, said) -> None:
    engine = Started(monkeypatch)
    measuring.start(preset)
    assert measuring.goes_on() and "starting" in measuring.look().words
    with pytest.raises(UserError, match="already"):
        measuring.start(preset)
    engine.tell(events.Stage("Loading the base model"))
    assert "loading the base model" in measuring.look().words
    engine.tell(STEP)
    assert "1 steps made" in measuring.look().words
    engine.tell(end)
    engine.alive = False
    seen = measuring.look()
    assert seen.is_fault == is_fault and said in seen.words and not seen.goes_on
    assert not engine.folders[0].exists() and measuring.look() == measuring.Seen()


def test_cancel_asks_the_engine_to_stop(preset, monkeypatch) -> None:
    engine = Started(monkeypatch)
    measuring.start(preset)
    measuring.cancel()
    assert (engine.folders[0] / "requests" / "stop").exists() and "Cancelling" in measuring.look().words


def test_nothing_is_measured_beside_a_run(preset, monkeypatch) -> None:
    engine = Started(monkeypatch)
    with run.held(run.create(preset)), pytest.raises(UserError, match="is training now"):
        measuring.start(preset)
    assert engine.folders == []
