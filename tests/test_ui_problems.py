"""Faulty forms: every fault stands beside its field, in words, all of them at once; Start names the same."""

from __future__ import annotations

from typing import Any

import pytest

from engine.preset import BY_PATH, ROOT, load
from ui import form, form_answers, plan_bar, run_list
from ui.check import check

TABLE: list[tuple[dict[str, Any], list[str]]] = [
    # what is entered → the fields that a sentence stands beside, no other
    ({"adapter.rank": 0}, ["adapter.rank"]),
    ({"adapter.rank": None}, ["adapter.rank"]),
    ({"adapter.rank": 4.5, "run.epochs": 0}, ["adapter.rank", "run.epochs"]),
    ({"optimizer.unet_rate": "fast"}, ["optimizer.unet_rate"]),
    ({"optimizer.unet_rate": ""}, ["optimizer.unet_rate"]),
    ({"model.base": "", "data.folder": ""}, ["model.base", "data.folder"]),
    ({"model.base": "nowhere.safetensors"}, ["model.base"]),
    ({"model.base": "demo/images"}, ["model.base"]),
    ({"model.vae": "nowhere.safetensors"}, ["model.vae"]),
    ({"data.folder": "/nowhere"}, ["data.folder"]),
    ({"data.folder": "a\0b"}, ["data.folder"]),
    ({"data.folder": "demo"}, ["data.regularization_folder"]),
    ({"data.bucket_min_px": 512}, ["data.bucket_min_px"]),
    ({"data.width_px": 130}, ["data.width_px"]),  # not: the longest side is below what we put in its place
    ({"data.width_px": None}, ["data.width_px"]),
    ({"captions.extension": ".png"}, ["captions.extension"]),
    ({"sample.prompts": "a cat --w 7 --zz 5"}, ["sample.prompts"]),
    ({"run.name": "a/b"}, ["run.name"]),
    ({"run.folder": ""}, ["run.folder"]),
    ({"run.folder": "README.md"}, ["run.folder"]),
    ({"data.cache_folder": "README.md"}, ["data.cache_folder"]),
    ({"adapter.unet": False}, ["adapter.unet"]),
    ({"optimizer.warmup_steps": 1_000_000}, ["optimizer.warmup_steps"]),
    ({"validation.folder": "/nowhere"}, ["validation.folder"]),
    ({"adapter.start_from": "nowhere.safetensors"}, ["adapter.start_from"]),
    ({"sharing.thumbnail": "nowhere.png"}, ["sharing.thumbnail"]),
    ({"captions.clip_skip": 9}, ["captions.clip_skip"]),
]


@pytest.fixture(autouse=True)
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(_: object) -> None:
        raise AssertionError("a faulty form was started")

    monkeypatch.setattr(run_list, "start", started)


def faulty(changes: dict[str, Any]) -> dict[str, Any]:
    """The demo's form with some fields entered wrongly."""
    return form.show_all(load(ROOT / "presets" / "demo.json")) | changes


@pytest.mark.parametrize(
    ("changes", "fields"), TABLE, ids=lambda item: ", ".join(item) if isinstance(item, dict) else ""
)
def test_each_fault_stands_beside_its_field_and_in_what_start_says(changes, fields: list[str]) -> None:
    found = check(form.read_all(faulty(changes)))
    beside = plan_bar.marks(found, {})["problems"]
    assert sorted(beside) == sorted(fields)
    for sentences in beside.values():
        assert len(set(sentences)) == len(sentences)
        for text in sentences:
            assert len(text.split()) > 3 and text.rstrip().endswith((".", "…")), text
            assert "Errno" not in text and "Traceback" not in text, text
    told = form_answers.answer({"ask": "start", "form": faulty(changes)})
    assert all(plan_bar.escape(text) in told["message"] for sentences in beside.values() for text in sentences)
    assert "tab" not in told  # the page stays where it is


@pytest.mark.slow
def test_nothing_that_stands_in_for_a_faulty_value_is_told_as_a_fault() -> None:
    for item in BY_PATH.values():
        if item.type in (int, float) and not item.kind:
            told = {problem.where for problem in check(form.read_all(faulty({item.path: None}))).problems}
            assert told == {item.path}


def test_a_sentence_names_no_other_setting_before_it() -> None:
    (problem,) = check(form.read_all(faulty({"validation.folder": "/nowhere"}))).problems
    assert problem.message.startswith("there is no such folder")
