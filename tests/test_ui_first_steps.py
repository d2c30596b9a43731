"""The walk of the first visit: what it tells is what the form says afterwards, and it comes once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.preset import BY_PATH, ROOT, Preset, build
from ui import first_steps, form, form_answers, last, plan_bar, preset_files
from ui.check import check
from ui.first_steps_answers import BY_CARD, BY_SUBJECT, FIELDS, TRIAL, answer

MODEL = str(ROOT / "demo" / "model.safetensors")
PICTURES = str(ROOT / "demo" / "images")


@pytest.fixture(autouse=True)
def first_visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    yield tmp_path


def picture(path: Path, caption: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64)).save(path)
    if caption:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def filled(before: dict[str, Any], **wanted: str) -> dict[str, Any]:
    return form_answers.answer({"ask": "recipe", "form": before, **wanted})


def test_a_model_is_told_by_name_kind_and_size() -> None:
    found = answer({"ask": "model", "model": MODEL})
    assert found["problems"] == [] and found["found"][0].startswith("model.safetensors is an SDXL base model of ")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "no base model is given"),
        ("nowhere.safetensors", "nowhere.safetensors"),
        (PICTURES, "images"),
        ("a\0b", ""),
        (str(ROOT / "README.md"), "README.md"),
    ],
)
def test_what_is_no_model_is_a_sentence(model: str, said: str) -> None:
    found = answer({"ask": "model", "model": model})
    assert found["found"] == [] and said in " ".join(found["problems"]) and found["problems"]


def test_pictures_and_captions_are_counted(first_visit: Path) -> None:
    picture(first_visit / "training" / "10_cat" / "a.png", "a cat")
    picture(first_visit / "training" / "10_cat" / "b.png")
    found = answer({"ask": "pictures", "folder": str(first_visit / "training")})
    assert found["found"] == ["10_cat: 2 images, 1 with a caption, each shown 10 times an epoch."]
    assert "few" in found["notes"][0] and "1 image without a caption" in found["notes"][1]
    assert (found["problems"], found["deeper"], found["arrange"]) == ([], "", False)


def test_a_folder_that_is_no_training_folder_is_understood(first_visit: Path) -> None:
    picture(first_visit / "flat" / "a.png", "a cat")
    flat = answer({"ask": "pictures", "folder": str(first_visit / "flat")})
    assert flat["arrange"] and flat["notes"] and not flat["problems"] and not flat["found"]
    nothing = answer({"ask": "pictures", "folder": str(first_visit / "nowhere")})
    assert nothing["problems"] and not nothing["arrange"]


def test_every_recipe_is_a_shipped_preset_and_none_of_a_card_is_left_out() -> None:
    shipped = {item.path.stem for item in preset_files.preset_files() if not item.own}
    named = {*BY_SUBJECT, *BY_CARD, *TRIAL}
    assert named <= shipped
    assert {name for name in shipped if name.endswith("-card")} == set(BY_CARD)
    listed = [row["recipe"] for group in answer({"ask": "recipes"})["groups"] for row in group["recipes"]]
    assert len(listed) == len(named) == len(set(listed))


@pytest.mark.parametrize("name", ["character", "demo"])
def test_what_a_recipe_takes_is_what_the_form_says_after_it_was_chosen(name: str) -> None:
    recipe = str(last.SHIPPED / f"{name}.json")
    told = answer({"ask": "takes", "recipe": recipe, "model": MODEL, "folder": PICTURES})
    before = form.show_all(Preset())
    given = filled(before, recipe=recipe, model=MODEL, folder=PICTURES)
    found = check(form.read_all(given["shown"]))
    assert (given["message"], given["preset"], found.problems) == ("", recipe, ())
    assert found.plan and told["steps"] == f"{found.plan.steps:,} steps"
    assert found.sentence.endswith(f", {told['takes']}.")
    assert last.loaded() and last.before()  # marks tell what was changed since, and Undo works


def test_a_recipe_leaves_the_users_own_folder_and_takes_the_demos_where_it_was_wanted() -> None:
    before = form.show_all(Preset().changed({"run.name": "mine"}))
    recipe = str(last.SHIPPED / "style.json")
    demo = answer({"ask": "beginning"})["demo"]
    after = build(form.read_all(filled(before, recipe=recipe, **demo)["shown"]))
    assert (after.model.base, after.data.folder, after.run.name) == (demo["model"], demo["folder"], "mine")


def test_a_recipe_that_is_gone_is_a_sentence_and_changes_nothing() -> None:
    before = form.show_all(Preset())
    told = filled(before, recipe="/etc/passwd")
    assert "no longer there" in told["message"] and "shown" not in told
    assert "error" in answer({"ask": "takes", "recipe": "/etc/passwd"})


def test_the_walk_comes_once_and_proposes_nothing_of_the_demo_as_the_users_own() -> None:
    last.remember(preset_files.load_listed(str(last.FIRST_PRESET)).model_dump(), "basic", "")
    first = answer({"ask": "beginning"})
    assert (first["seen"], first["model"], first["folder"]) == (False, "", "")
    assert answer({"ask": "seen"}) == {}
    assert answer({"ask": "beginning"})["seen"] is True
    assert preset_files.preset_files()[-1].own is False  # what is remembered is no preset


def test_only_the_page_itself_may_ask() -> None:
    assert "error" in json.loads(first_steps.first_steps(json.dumps({"key": "guess", "ask": "beginning"})))
    assert "error" in answer({"ask": "no such question"})


def test_the_last_step_hears_what_the_bar_says() -> None:
    faulty = check(form.read_all(form.show_all(Preset().changed({"model.base": "nowhere.safetensors"}))))
    told = plan_bar.marks(faulty, {})
    assert [item["field"] for item in told["blocking"]] == [problem.where for problem in faulty.problems]
    assert told["sentence"] == "" and all(item["label"] and item["message"] for item in told["blocking"])
    assert set(FIELDS.values()) <= set(BY_PATH)


def test_what_is_chosen_is_only_looked_at(first_visit: Path) -> None:
    picture(first_visit / "training" / "10_cat" / "a.png", "a cat")
    before = sorted(str(path) for path in (first_visit / "training").rglob("*"))
    answer({"ask": "pictures", "folder": str(first_visit / "training")})
    assert sorted(str(path) for path in (first_visit / "training").rglob("*")) == before
