"""The picture of the learning rate follows the form."""

from __future__ import annotations

import re

import pytest

from engine.preset import Preset
from engine.schedules import rate_curve
from ui.check import Check
from ui.rate_chart import picture, rate_lines, shown_steps

SHAPES = {
    "constant": {"schedule": "constant", "warmup_share": 0.1},
    "restarts": {"schedule": "cosine_with_restarts", "cycles": 4},
    "decay": {"schedule": "warmup_stable_decay", "decay_steps": 700, "decay_shape": "linear"},
    "points": {"schedule": "piecewise_constant", "points": "333:0.5, 50%:0.1"},
}


def preset(**values: object) -> Preset:
    return Preset().changed({f"optimizer.{name}": value for name, value in values.items()})


def svg_points(html: str, style: str) -> list[tuple[float, float]]:
    path = re.search(rf'class="line {style}" d="([^"]*)"', html)
    assert path is not None
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path[1])]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 7, 100, 5000])
def test_the_line_is_the_schedule_with_all_its_corners(shape: str, steps: int):
    made = preset(**SHAPES[shape])
    (line,) = rate_lines(made, steps)
    curve = rate_curve(made.optimizer, steps)
    known = {x: y for x, y in zip(line.x, line.y, strict=True) if y is not None}
    assert len(known) <= 800 and set(known) <= set(range(steps))
    for step in range(steps):  # between shown points a straight line stays near the curve
        before, after = max(x for x in known if x <= step), min(x for x in known if x >= step)
        share = (step - before) / max(1, after - before)
        drawn = known[before] * (1 - share) + known[after] * share
        assert drawn == pytest.approx(1e-4 * curve(step), abs=1e-4 * 2e-3)


def test_the_svg_falls_from_the_top_to_the_bottom_with_cosine():
    html = picture(Check(preset(), None, (), (), ()))
    assert html is not None and "if there were 1,000 steps" in html
    points = svg_points(html, "group-0")
    assert points[0] == (52.0, 10.0)
    assert points[-1][0] == pytest.approx(848, abs=1) and points[-1][1] == pytest.approx(126, abs=0.2)
    assert [y for _, y in points] == sorted(y for _, y in points)


def test_each_trained_part_has_its_line_and_name():
    made = Preset().changed({"adapter.text_encoder_2": True, "captions.cache_text": False})
    lines = rate_lines(made, 100)
    assert [(line.name, line.style) for line in lines] == [("UNet", "group-0"), ("text encoder 2", "group-1")]
    assert lines[0].y[0] == 1e-4 and lines[1].y[0] == 5e-5
    html = picture(Check(made, None, (), (), ()))
    assert html is not None and "text encoder 2</span>" in html


def test_a_form_with_a_fault_keeps_the_last_picture():
    assert picture(Check(None, None, (), (), ())) is None


def test_a_long_run_is_drawn_with_few_points():
    assert len(shown_steps(preset().optimizer, 1_000_000)) < 300
