"""What was changed since the preset was loaded, and the button that puts one field back."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.preset import BY_PATH, Preset
from ui import field_reset, form, form_answers, last, preset_files
from ui.applying import value_of
from ui.last import SHIPPED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    return tmp_path


def shown_with(preset: Preset, **changes: object) -> dict[str, object]:
    """What the fields show of a preset, with some settings ("section__name") typed over."""
    return form.show_all(preset) | {name.replace("__", "."): value for name, value in changes.items()}


def put_back(shown: dict[str, object]) -> dict[str, object]:
    """What the buttons beside the changed fields put back."""
    marked = field_reset.changed(form.read_all(shown), field_reset.loaded())
    return {path: had["shown"] for path, had in marked.items()}


def changed(shown: dict[str, object]) -> dict[str, str]:
    marked = field_reset.changed(form.read_all(shown), field_reset.loaded())
    return {path: had["text"] for path, had in marked.items()}


def asked(what: str, shown: dict[str, object], **more: object) -> dict[str, object]:
    return form_answers.answer({"ask": what, "form": shown, **more})["shown"]


def test_before_anything_was_loaded_a_field_is_compared_with_its_default() -> None:
    shown = shown_with(Preset(), adapter__rank=7, optimizer__unet_rate="fast", data__flip=True, sample__prompts="x")
    assert changed(shown) == {
        "adapter.rank": "16",
        "optimizer.unet_rate": words_of("optimizer.unet_rate"),
        "data.flip": "off",
        "sample.prompts": "empty",
    }


def words_of(path: str) -> str:
    return str(form.show(BY_PATH[path], BY_PATH[path].default))


@pytest.mark.parametrize("name", ["product", "12-GB-card"])
def test_what_was_loaded_is_not_changed_and_each_field_goes_back_to_it(name: str) -> None:
    path = SHIPPED / f"{name}.json"
    asked("load", form.show_all(Preset()), chosen=str(path), keep=False, keep_for=str(path))
    preset = preset_files.load_listed(str(path))
    assert changed(form.show_all(preset)) == {}
    assert changed(shown_with(preset, adapter__rank=3)) == {"adapter.rank": str(preset.adapter.rank)}
    mine = shown_with(preset, adapter__rank=3, optimizer__unet_rate="fast")
    assert mine | put_back(mine) == form.show_all(preset)


def test_a_saved_form_is_what_is_compared_with_next() -> None:
    shown = shown_with(Preset(), adapter__rank=7)
    form_answers.answer({"ask": "save", "form": shown, "name": "mine", "over": False})
    assert changed(shown) == {}
    assert changed(form.show_all(Preset())) == {"adapter.rank": "7"}


def test_undoing_a_load_brings_back_what_the_form_was_compared_with() -> None:
    last.keep_loaded(Preset().changed({"adapter.rank": 5}).model_dump())
    before = shown_with(Preset(), adapter__rank=7)
    path = str(SHIPPED / "product.json")
    loaded = asked("load", before, chosen=path, keep=False, keep_for=path)
    assert changed(loaded) == {}
    again = asked("undo", loaded)
    assert changed(again)["adapter.rank"] == "5" and value_of(form.read_all(again), "adapter.rank") == 7
    redone = asked("undo", again)
    assert changed(redone) == {}
