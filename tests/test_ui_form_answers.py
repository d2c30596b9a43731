"""What the form asks the page's program: where it begins, what is sent anew, and what nonsense leads to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.preset import ROOT, Preset, load
from ui import app, form, last, served_functions
from ui.form_answers import answer

DEMO = load(ROOT / "presets" / "demo.json")
FILLED_BY_OTHERS = {"forecast"}  # it tells the disk's room, which tests beside these change


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    return tmp_path


def asked(what: str, shown: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An answer as the browser gets it."""
    return json.loads(json.dumps(answer({"ask": what, "form": shown or {}, **more})))


def digests(told: dict[str, Any]) -> dict[str, str]:
    return {name: part["digest"] for name, part in told["parts"].items()}


def test_a_first_visit_begins_with_the_demo_and_all_that_is_known_of_it() -> None:
    told = asked("arrive")
    assert told["shown"] == form.show_all(DEMO)
    assert (told["level"], told["tab"]) == ("basic", "") and told["preset"].endswith("demo.json")
    assert "rank 16" in told["parts"]["plan"]["content"] and told["parts"]["marks"]["content"]["problems"] == {}
    assert told["parts"]["pages"]["content"]["where"] and "<figure" in told["parts"]["gallery"]["content"]


def test_a_later_visit_begins_with_the_form_as_it_was_left_faults_and_all() -> None:
    shown = form.show_all(DEMO) | {"adapter.rank": 0, "optimizer.unet_rate": "fast", "about": "mine"}
    asked("look", shown, level="expert", preset="mine.json")
    told = asked("arrive")
    assert (told["shown"], told["level"], told["preset"]) == (shown, "expert", "mine.json")
    assert set(told["parts"]["marks"]["content"]["problems"]) == {"adapter.rank", "optimizer.unet_rate"}


def test_only_what_changed_is_sent_and_a_chart_stays_while_the_form_has_a_fault() -> None:
    shown = form.show_all(DEMO)
    seen = digests(asked("look", shown))
    assert asked("look", shown, seen=seen)["parts"].keys() <= FILLED_BY_OTHERS
    changed = asked("look", shown | {"adapter.rank": 17}, seen=seen)["parts"]
    assert {"plan", "marks"} <= set(changed) and not set(changed) & {"gallery", "folders", "buckets", "rates", "layout"}
    faulty = asked("look", shown | {"optimizer.unet_rate": "fast"}, seen=seen)["parts"]
    assert "rates" not in faulty and "rates" in seen


def test_two_windows_each_get_what_they_lack() -> None:
    shown = form.show_all(DEMO)
    one = digests(asked("look", shown))
    other = asked("look", shown | {"adapter.rank": 17}, seen={})
    assert set(other["parts"]) == set(one)
    assert asked("look", shown, seen=one)["parts"].keys() <= FILLED_BY_OTHERS


def test_pictures_are_those_of_the_chosen_folder() -> None:
    shown = form.show_all(DEMO)
    both = asked("look", shown)["parts"]["pages"]["content"]
    names = [name for name, _ in both["names"]]
    assert names[0] == "" and len(names) > 2
    one = asked("look", shown, subset=names[1])["parts"]
    assert one["pages"]["content"]["chosen"] == names[1]
    assert one["gallery"]["content"].count("<figure") < asked("look", shown)["parts"]["gallery"]["content"].count(
        "<figure"
    )
    assert asked("look", shown, subset="gone", first=10_000)["parts"]["pages"]["content"] == both


def test_a_field_that_does_not_come_along_holds_its_default_and_nonsense_is_no_fault_of_the_program() -> None:
    told = asked("look", {"adapter.rank": 7})
    assert last.recall().content["adapter"]["rank"] == 7 and "plan" in told["parts"]
    assert last.recall().content["run"]["epochs"] == Preset().run.epochs
    for nonsense in ({"form": None}, {"form": [1]}, {"form": {}, "seen": 3, "first": "x", "level": 9, "subset": None}):
        assert "parts" in answer({"ask": "look", **nonsense})


def test_a_disk_that_refuses_does_not_disturb_the_work(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refuse(*_: object) -> None:
        raise last.UserError("the disk is full")

    monkeypatch.setattr(last, "remember", refuse)
    monkeypatch.setattr("ui.form_answers._told_once", [])
    assert all("plan" in asked("look", form.show_all(DEMO))["parts"] for _ in range(2))
    assert capsys.readouterr().err.count("the disk is full") == 1


def test_only_the_page_itself_may_ask_and_what_is_not_known_is_told() -> None:
    assert "error" in json.loads(app.form(json.dumps({"key": "guess", "ask": "arrive"})))
    assert "error" in json.loads(app.form(json.dumps({"key": served_functions.KEY, "ask": "no such question"})))


@pytest.mark.parametrize("what", ["edit", "load", "delete", "recipe", "save", "import", "fit_apply"])
def test_a_question_without_what_it_needs_is_answered_in_a_sentence(what: str) -> None:
    told = asked(what, form.show_all(DEMO) | {"adapter.rank": 0})
    assert told["message"] and "shown" not in told and "tab" not in told
