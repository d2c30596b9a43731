"""What was changed since the preset was loaded, and the button that puts one field back."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from engine.preset import BY_PATH, SETTINGS, Preset
from ui import field_reset, form, last, preset_files, presets_tab
from ui.applying import value_of
from ui.last import SHIPPED


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    return tmp_path


def shown_with(preset: Preset, **changes: object) -> list[object]:
    """What the widgets show of a preset, with some settings ("section__name") typed over."""
    shown = form.show_all(preset)
    for name, value in changes.items():
        shown[[item.path for item in SETTINGS].index(name.replace("__", "."))] = value
    return shown


def changed(shown: list[object]) -> dict[str, str]:
    return field_reset.changed(form.read_all(shown), field_reset.loaded())


def pressed(path: object) -> dict[str, object]:
    """What the fields get when the button of this one is pressed; only those that get anything."""
    got = field_reset.put_back(gr.EventData(None, {"setting": path}))
    return {item.path: value for item, value in zip(SETTINGS, got, strict=True) if value != gr.skip()}


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
    presets_tab._load(str(path), False, str(path), *form.show_all(Preset()))
    preset = preset_files.load_listed(str(path))
    assert changed(form.show_all(preset)) == {}
    assert changed(shown_with(preset, adapter__rank=3)) == {"adapter.rank": str(preset.adapter.rank)}
    assert pressed("adapter.rank") == {"adapter.rank": preset.adapter.rank}
    assert pressed("optimizer.unet_rate") == {"optimizer.unet_rate": form.show_all(preset)[rate_place()]}


def rate_place() -> int:
    return [item.path for item in SETTINGS].index("optimizer.unet_rate")


@pytest.mark.parametrize("path", ["", "nowhere.rank", None, 3])
def test_a_button_of_no_field_changes_nothing(path: object) -> None:
    assert pressed(path) == {}


def test_a_saved_form_is_what_is_compared_with_next() -> None:
    shown = shown_with(Preset(), adapter__rank=7)
    presets_tab._saver(overwrite=False)("mine", *shown)
    assert changed(shown) == {}
    assert changed(form.show_all(Preset())) == {"adapter.rank": "7"}


def test_undoing_a_load_brings_back_what_the_form_was_compared_with() -> None:
    last.keep_loaded(Preset().changed({"adapter.rank": 5}).model_dump())
    before = shown_with(Preset(), adapter__rank=7)
    path = str(SHIPPED / "product.json")
    _, _, _, *loaded = presets_tab._load(path, False, path, *before)
    assert changed(loaded) == {}
    _, _, *again = presets_tab._undo(*loaded)
    assert changed(again)["adapter.rank"] == "5" and value_of(form.read_all(again), "adapter.rank") == 7
    _, _, *redone = presets_tab._undo(*again)
    assert changed(redone) == {}
