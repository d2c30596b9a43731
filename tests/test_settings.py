"""One home per setting: what is read from a setting's one line."""

from __future__ import annotations

import dataclasses

import pytest

from engine.preset import BY_PATH, SECTIONS, SETTINGS, Preset
from engine.settings import LEVELS, setting
from engine.settings_table import TARGET, table


def test_the_sections_are_those_of_the_design_in_order():
    assert SECTIONS == (
        "model", "data", "captions", "adapter", "optimizer", "noise", "loss", "run", "sample", "validation", "memory",
        "logging", "sharing",
    )  # fmt: skip


@pytest.mark.parametrize("item", SETTINGS, ids=lambda item: item.path)
def test_each_setting_explains_itself(item):
    assert item.help.endswith(".") and len(item.help) > 20
    assert any("\u4e00" <= letter <= "\u9fff" or letter.isascii() for letter in item.zh) and item.zh
    assert item.level in LEVELS
    assert item.label[0].isupper()
    assert item.default == Preset().get(item.path)


@pytest.mark.parametrize("item", [item for item in SETTINGS if item.when], ids=lambda item: item.path)
def test_conditions_name_settings_and_values_that_exist(item):
    for path, value in item.when:
        condition = BY_PATH[path]
        assert isinstance(value, condition.type)
        assert not condition.choices or value in condition.choices


def test_numbers_have_limits():
    unbounded = [item.path for item in SETTINGS if item.type in (int, float) and not item.choices and item.low is None]
    assert unbounded == []


def test_the_limits_are_told_in_words():
    assert BY_PATH["adapter.rank"].limits_text == "a whole number from 1 to 1024"
    assert BY_PATH["captions.max_tokens"].limits_text == "a whole number from 75 to 750, a multiple of 75"
    assert BY_PATH["loss.kind"].limits_text == "one of l2, l1, huber, smooth_l1"
    assert dataclasses.replace(BY_PATH["adapter.alpha"], high=None).limits_text == "a number above 0"


def test_a_setting_takes_only_what_is_known():
    with pytest.raises(TypeError, match="kohia"):
        setting(1, "Help.", "帮助", kohia="x")


def test_the_table_in_the_docs_is_the_one_made_from_the_settings():
    assert TARGET.read_text(encoding="utf-8") == table(), "run: python -m engine.settings_table"
