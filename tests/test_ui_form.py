"""The form is built from the settings alone, and what it shows reads back as what it was."""

from __future__ import annotations

import math

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.preset import BY_PATH, SETTINGS, Preset, build
from ui import app, form
from ui.data_tab import FIELDS


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


def test_every_setting_has_exactly_one_field_on_the_page() -> None:
    blocks = app.build()
    ids = [str(getattr(block, "elem_id", "")) for block in blocks.blocks.values()]
    ids = [name for name in ids if name.startswith("field-") and not name.startswith(("field-tool-", "field-drawing-"))]
    assert sorted(ids) == sorted(form.field_id(item.path) for item in SETTINGS)
    assert set(FIELDS) <= set(BY_PATH)


def test_widgets_follow_from_type_choices_kind_and_limits() -> None:
    kinds = {
        "data.bucketing": gr.Checkbox,
        "optimizer.schedule": gr.Dropdown,
        "data.background": gr.ColorPicker,
        "sample.prompts": gr.Textbox,
        "optimizer.unet_rate": gr.Textbox,
        "captions.max_tokens": gr.Slider,
        "run.steps": gr.Number,  # a slider from 1 to 10,000,000 cannot be set
        "optimizer.beta2": gr.Number,
    }
    assert {path: type(form.widget(BY_PATH[path])) for path in kinds} == kinds


def test_what_cannot_be_read_is_passed_on_so_that_it_can_be_named() -> None:
    assert form.read(BY_PATH["optimizer.unet_rate"], "fast") == "fast"
    assert form.read(BY_PATH["adapter.rank"], None) is None
    assert form.read(BY_PATH["adapter.rank"], 4.5) == 4.5
    assert form.read(BY_PATH["adapter.rank"], 4.0) == 4


def test_a_picked_colour_becomes_a_hex_number() -> None:
    assert form.read(BY_PATH["data.background"], "rgba(18, 171.4, 159, 1)") == "#12ab9f"


def test_a_kept_form_with_faults_is_shown_as_far_as_it_can_be() -> None:
    content = {"adapter": {"rank": 7, "unet": "perhaps"}, "optimizer": {"unet_rate": "fast"}, "gone": {"x": 1}}
    shown = dict(zip([item.path for item in SETTINGS], form.show_content(content), strict=False))
    assert shown["adapter.rank"] == 7
    assert shown["adapter.unet"] is True
    assert shown["optimizer.unet_rate"] == "fast"
    assert shown["run.epochs"] == Preset().run.epochs
    assert not any(isinstance(value, float) and math.isnan(value) for value in shown.values())
