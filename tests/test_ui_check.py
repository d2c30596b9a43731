"""The look at the form names every fault at once and keeps the plan for the rest."""

from __future__ import annotations

from typing import Any

from engine.preset import ROOT, Preset, load
from ui import form
from ui.check import check, switched_off


def content(**changes: Any) -> dict[str, Any]:
    """The demo's form with some raw values changed; names are written section__name."""
    found = form.read_all(form.show_all(load(ROOT / "presets" / "demo.json")))
    for name, value in changes.items():
        section, setting = name.split("__")
        found[section][setting] = value
    return found


def test_the_demo_has_no_problem_and_a_sentence() -> None:
    found = check(content())
    assert found.problems == ()
    assert found.preset == load(ROOT / "presets" / "demo.json")
    assert "steps" in found.sentence


def test_faults_of_settings_of_files_and_between_settings_are_named_together() -> None:
    found = check(content(adapter__rank=0, optimizer__unet_rate="fast", model__base="nowhere.safetensors"))
    assert {"adapter.rank", "optimizer.unet_rate", "model.base"} <= {problem.where for problem in found.problems}
    assert found.preset is None
    assert found.sentence == ""


def test_the_pictures_stay_known_while_a_field_is_faulty() -> None:
    found = check(content(adapter__rank=None))
    assert found.plan is not None
    assert len(found.plan.images) == len(check(content()).plan.images)  # type: ignore[union-attr]


def test_an_empty_form_says_what_is_missing() -> None:
    found = check(form.read_all(form.show_all(Preset())))
    assert [problem.where for problem in found.problems] == ["model.base", "data.folder"]


def test_fields_whose_condition_does_not_hold_are_off() -> None:
    assert "run.steps" in switched_off(content(run__length="epochs"))
    assert "run.epochs" in switched_off(content(run__length="steps"))
    assert "data.bucket_min_px" in switched_off(content(data__bucketing=False))
    assert "optimizer.text_encoder_1_rate" not in switched_off(content(adapter__text_encoder_1=True))
