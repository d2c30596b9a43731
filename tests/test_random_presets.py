"""Whatever is set to whatever: a preset or sentences, and of each preset a plan or sentences; never a traceback."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import plan_model
from engine.errors import PresetError, Problem
from engine.plan import make_plan
from engine.preset import ROOT, SETTINGS, Preset, load
from engine.settings import Setting

ONLY_TOLD = ("sharing", "logging")  # what these hold goes into files, and nothing is planned by it
DEMO = load(ROOT / "presets" / "demo.json")
TEXTS = (
    "", " ", "a", "0", "1", "-1", "0.5", "1e-4", "nan", "inf", "1,2", "0.1, 0.2, 0.3", "0:1, 500:2", "a=1", "a=1, b=x",
    "name=value\nother", "weight_decay=0.1", "*", "**/[", "unet.*", "(", "up_blocks.0=1e-4", "{a|b", "__c__", "a\nb",
    "a\0b", "é中", "/", "../none", "~nobody/x", "/proc/self/mem", "demo", "demo/images", "demo/model.safetensors",
    "presets", "🙂" * 200, "%", "1%", "10 %", ":", "::", ",", ", ,", "#ffffff", "#12", ".txt", ".png", "in,mid,out",
    "1 2 3",
)  # fmt: skip


def sentence(problem: Problem) -> bool:
    """Whether it says where, and what, as people write: from a first word to a full stop."""
    text = problem.message.rstrip()
    return bool(problem.where) and len(text.split()) >= 3 and text[-1] in ".)!?"


def values_of(item: Setting) -> st.SearchStrategy[Any]:
    """Values that the setting may have, its limits among them; for text anything that somebody may type."""
    if item.choices:
        return st.sampled_from(item.choices)
    if item.type is bool:
        return st.booleans()
    if item.type is str:
        return st.one_of(st.sampled_from(TEXTS), st.text(max_size=20))
    low = item.low if item.low is not None else -1e6
    high = item.high if item.high is not None else low + 1e6
    if item.type is int:
        step = int(item.multiple_of or 1)
        first, last = -(-int(low) // step), int(high) // step
        near = st.integers(first, min(last, first + 16))
        return st.one_of(near, st.integers(first, last)).map(lambda number: number * step)
    inside = st.floats(low, high, exclude_min=item.exclusive_low, allow_nan=False)
    return st.one_of(st.just(item.default), inside, st.floats(low, min(high, low + 1), exclude_min=item.exclusive_low))


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(SETTINGS), min_size=1, max_size=8, unique_by=lambda item: item.path))
    return {item.path: draw(values_of(item)) for item in chosen}


def preset_of(values: dict[str, Any]) -> Preset | None:
    """The demo preset so changed; None where sentences tell why not."""
    try:
        return DEMO.changed(values)
    except PresetError as error:
        assert error.problems and all(map(sentence, error.problems)), error.problems
        return None


@pytest.mark.slow
@given(values=changes())
def test_any_values_make_a_preset_or_sentences(values: dict[str, Any]):
    preset_of(values)


@pytest.mark.slow
@given(values=changes())
def test_of_any_preset_there_is_a_plan(values: dict[str, Any]):
    preset = preset_of(values)
    assume(preset is not None)
    assert preset is not None
    plan = make_plan(preset)
    assert all(map(sentence, (*plan.problems, *plan.warnings)))
    assert plan.steps >= 0 and (plan.problems or plan.steps > 0)


@pytest.fixture(scope="module")
def looked_at_once() -> Iterator[None]:
    """The same model file is looked at once, not 2,000 times: a third of what a plan takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_model, "identify", cache(plan_model.identify))
        yield


FREE_TEXTS = [item for item in SETTINGS if item.type is str and not item.choices]


@pytest.mark.slow
@pytest.mark.parametrize("item", [item for item in FREE_TEXTS if item.section not in ONLY_TOLD], ids=lambda i: i.path)
def test_any_text_is_taken_or_refused_in_a_sentence(item: Setting, looked_at_once: None):
    for text in TEXTS:
        all_are_sentences({item.path: text})


@pytest.mark.slow
@pytest.mark.parametrize("section", ONLY_TOLD)
def test_any_text_that_is_only_told_is_taken_or_refused_in_a_sentence(section: str, looked_at_once: None):
    """Each by itself makes a preset or sentences; all that make one are planned together."""
    paths = [item.path for item in FREE_TEXTS if item.section == section]
    assert paths
    for text in TEXTS:
        all_are_sentences({path: text for path in paths if preset_of({path: text}) is not None})


def all_are_sentences(values: dict[str, Any]) -> None:
    preset = preset_of(values)
    if preset is not None:
        plan = make_plan(preset)
        assert all(map(sentence, (*plan.problems, *plan.warnings))), (values, plan.problems, plan.warnings)


@pytest.mark.parametrize("item", SETTINGS, ids=lambda item: item.path)
def test_its_limits_alone_are_a_preset_with_a_plan_or_sentences(item: Setting, looked_at_once: None):
    ends: list[Any] = list(item.choices) or [item.default]
    if not item.choices and item.type in (int, float):
        ends = [end for end in (item.low, item.high) if end is not None and math.isfinite(end)]
    for end in ends:
        value = item.type(end) if not item.exclusive_low or end != item.low else item.type(end) + 1e-9
        preset = preset_of({item.path: value})
        if preset is not None:
            assert make_plan(preset).problems is not None
