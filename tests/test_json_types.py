"""Types of what was read from JSON, looked at many values at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.json_types import all_fit

NESTED = list[dict[str, list[float | None]]]


@pytest.mark.parametrize(
    "values, hint, fits",
    [
        ([1, 2], int, True), ([1, 2.0], int, False), ([1, True], int, False), ([True], bool, True),
        ([1, 2.0], float, True), ([1, None], float, False), ([1, None], float | None, True), (["a"], str, True),
        (["a", 1], float | str, True), (["a", None], float | str, False), ([], int, True),
        ([[1], []], list[int], True), ([[1], ["a"]], list[int], False), ([{"a": 1}], list[int], False),
        ([{"a": 1}], dict[str, int], True), ([{"a": None}], Mapping[str, int | None], True),
        ([{"a": "b"}], Mapping[str, int | None], False), ([5, {"a": "b"}], int | dict[str, int], False),
        ([[{"a": [1, None]}]], NESTED, True), ([[{"a": [1, "x"]}]], NESTED, False), ([[{"a": 1}]], NESTED, False),
    ],
)  # fmt: skip
def test_values_and_hints(values: list[Any], hint: Any, fits: bool) -> None:
    assert all_fit(values, hint) is fits


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON, max_size=5), st.sampled_from([int, float | None, list[float], dict[str, int | None], NESTED]))
def test_many_at_once_fit_where_each_fits_alone(values: list[Any], hint: Any) -> None:
    assert all_fit(values, hint) is all(all_fit([value], hint) for value in values)
