"""Charts stay small and true however long the run is."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ui.charts import MOST_POINTS, Line, chart, nice_ticks, thinned


def test_a_thinned_raw_line_keeps_its_highest_and_lowest_point() -> None:
    values: list[float | None] = [1.0] * 50_000
    values[12_345], values[40_001], values[7] = 9.0, -3.0, None
    line = thinned(Line("loss", range(50_000), values, "raw"))
    assert len(line.x) <= MOST_POINTS
    assert (12_345, 9.0) in zip(line.x, line.y, strict=True)
    assert (40_001, -3.0) in zip(line.x, line.y, strict=True)


def test_a_thinned_smooth_line_keeps_its_ends() -> None:
    line = thinned(Line("smooth", range(4_321), [float(x) for x in range(4_321)], "smooth"))
    assert len(line.x) <= MOST_POINTS
    assert (line.x[0], line.x[-1]) == (0, 4_320)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_span_the_values(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert ticks[0] <= low + 1e-6 * abs(low) + 1e-6 * span
    assert ticks[-1] >= low + span - 1e-6 * abs(low) - 1e-6 * span
    assert len(ticks) <= 12


@given(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=60))
def test_every_series_gives_a_chart_within_its_frame(values: list[float | None]) -> None:
    svg = chart([Line("loss", range(len(values)), values, "raw")], len(values), (400, 200), str)
    if all(value is None for value in values):
        assert svg == ""
        return
    path = re.search(r'class="line raw" d="([^"]*)"', svg)
    assert path
    heights = [float(y) for _, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path[1])]
    assert len(heights) == sum(value is not None for value in values)
    assert all(0 <= height <= 200 for height in heights)


def test_names_of_lines_cannot_become_html() -> None:
    assert "<b>" not in chart([Line("<b>'\"", [1, 2], [1.0, 2.0], "raw")], 2, (400, 200), str)
