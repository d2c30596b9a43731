"""The form is built from the settings alone, and what it shows reads back as what it was."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drawing.settings import BY_PATH as DRAWING
from engine.preset import BY_PATH, SETTINGS, Preset, build
from engine.settings import Setting
from ui import app, fields, form
from ui.data_tab import FIELDS
from ui.language import speaking


def test_every_setting_reads_back_from_what_its_widget_shows() -> None:
    preset = Preset()
    assert build(form.read_all(form.show_all(preset))) == preset


@pytest.mark.parametrize("item", [item for item in SETTINGS if item.type is float], ids=lambda item: item.path)
@given(share=st.floats(0, 1))
def test_numbers_survive_the_form_to_the_last_bit(item, share: float) -> None:
    value = (item.low or 0.0) + share * ((item.high or 1.0) - (item.low or 0.0))
    assert form.read(item, form.show(item, value)) == value


@given(st.floats(min_value=0, max_value=10, allow_nan=False))
def test_a_rate_is_shown_short_and_reads_back_exactly(value: float) -> None:
    item = BY_PATH["optimizer.unet_rate"]
    shown = form.show(item, value)
    assert float(shown) == value
    assert value == 0 or value >= 0.01 or "e-" in shown


def drawn() -> list[str]:
    """The ids of all fields that the page draws."""
    config = app.build().config
    texts = [str(item["props"].get("value")) for item in config["components"] if item["type"] == "html"]
    return [name for text in texts for name in re.findall(r'class="field [^"]*" id="(field-[^"]+)"', text)]


@pytest.mark.slow
def test_every_setting_has_exactly_one_field_on_the_page() -> None:
    ids = [name for name in drawn() if not name.startswith(("field-tool-", "field-drawing-", "field-comparing-"))]
    assert sorted(ids) == sorted(form.field_id(path) for path in (*BY_PATH, *form.ABOUT_ITSELF))
    of_pictures = [name for name in drawn() if name.startswith("field-drawing-")]
    assert sorted(of_pictures) == sorted(form.field_id(f"drawing.{path}") for path in DRAWING)
    assert set(FIELDS) <= set(BY_PATH)


def test_fields_follow_from_type_choices_kind_and_limits() -> None:
    kinds = {
        "data.bucketing": ("bool", '<input type="checkbox"'),
        "optimizer.schedule": ("text", "<select"),
        "data.background": ("text", '<input type="color"'),
        "sample.prompts": ("text", "<textarea"),
        "optimizer.unet_rate": ("text", '<input type="text"'),
        "captions.max_tokens": ("number", '<input type="range"'),
        "run.steps": ("number", '<input type="number"'),  # a slider from 1 to 10,000,000 cannot be set
        "optimizer.beta2": ("number", '<input type="number"'),
        "data.folder": ("text", 'class="choose-path"'),
    }
    for path, (kind, entry) in kinds.items():
        drawn_field = fields.of_form([BY_PATH[path]])
        assert f'data-kind="{kind}"' in drawn_field and entry in drawn_field, path
        assert ("range" in drawn_field) == (path == "captions.max_tokens")


def test_each_field_names_its_entry_and_tells_its_help_and_fault_to_those_who_do_not_see() -> None:
    for item in BY_PATH.values():
        text, name = fields.of_form([item]), form.field_id(item.path)
        assert text.count("data-entry") == text.count(f'id="entry-{name}"') == text.count(f'id="help-{name}"') == 1
        assert f'aria-describedby="help-{name}"' in text
        assert item.type is bool or f'for="entry-{name}"' in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_in_a_declaration_becomes_html(language: str) -> None:
    hostile = '<b>"{{x}}" ${y}'
    item = Setting("x", "y", str, hostile, hostile, hostile, hostile, unit=hostile, kohya=hostile, kind="file")
    with speaking(language):
        text = fields.of_form([item, replace(item, kind="lines"), replace(item, choices=(hostile,), kind="")])
    assert "<b>" not in text and "{{" not in text and "${" not in text and 'value="<' not in text


def test_what_cannot_be_read_is_passed_on_so_that_it_can_be_named() -> None:
    assert form.read(BY_PATH["optimizer.unet_rate"], "fast") == "fast"
    assert form.read(BY_PATH["adapter.rank"], None) is None
    assert form.read(BY_PATH["adapter.rank"], 4.5) == 4.5
    assert form.read(BY_PATH["adapter.rank"], 4.0) == 4


def test_a_kept_form_with_faults_is_shown_as_far_as_it_can_be() -> None:
    content = {"adapter": {"rank": 7, "unet": "perhaps"}, "optimizer": {"unet_rate": "fast"}, "gone": {"x": 1}}
    shown = form.show_content(content)
    assert shown["adapter.rank"] == 7
    assert shown["adapter.unet"] is True
    assert shown["optimizer.unet_rate"] == "fast"
    assert shown["run.epochs"] == Preset().run.epochs
    assert not any(isinstance(value, float) and math.isnan(value) for value in shown.values())
