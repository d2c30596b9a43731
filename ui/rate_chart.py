"""The picture of the learning rate over the run, as the form is set: one line for each part that is trained."""

from __future__ import annotations

import math

from engine.errors import UserError
from engine.optimizer_kinds import OPTIMIZERS
from engine.preset import Preset
from engine.schedules import Shape, rate_curve, shape_of
from engine.sections.optimizer import Optimizer
from ui.charts import Line, chart
from ui.check import Check
from ui.language import say, word
from ui.words import escape, plural, rate

_POINTS = 240
_SIZE = (860, 150)
_STEPS_UNKNOWN = 1000
_PARTS = {"unet": "UNet", "text_encoder_1": word("text encoder 1"), "text_encoder_2": word("text encoder 2")}


def picture(check: Check) -> str | None:
    """HTML of the picture; None while the form has a fault, so that the last one stays."""
    if check.preset is None:
        return None
    known = check.plan.steps if check.plan else 0
    steps = known or _STEPS_UNKNOWN
    try:
        lines = rate_lines(check.preset, steps)
    except UserError:
        return None
    names = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in lines)
    count = plural(steps, "step")
    length = count if known else say("if there were {steps}", steps=count)
    if OPTIMIZERS[check.preset.optimizer.name].rate_free:
        length += say(", times the rate that {optimizer} finds", optimizer=check.preset.optimizer.name)
    head = f'<h4>{say("Learning rate")} <span class="quiet">{length}</span><span class="legend">{names}</span></h4>'
    return f'<div class="sheet">{head}{chart(lines, steps, _SIZE, rate_label)}</div>'


def rate_lines(preset: Preset, steps: int) -> list[Line]:
    """The learning rate of each part at the steps where something happens. Raises UserError for unreadable points."""
    settings, adapter = preset.optimizer, preset.adapter
    curve = rate_curve(settings, steps)
    shown = shown_steps(settings, steps)
    factors = [curve(step) for step in shown]
    trained = [part for part in _PARTS if getattr(adapter, part)]
    return [
        Line(
            say(_PARTS[part]),
            shown,
            [getattr(settings, f"{part}_rate") * factor for factor in factors],
            f"group-{place}",
        )
        for place, part in enumerate(trained)
    ]


def shown_steps(settings: Optimizer, steps: int) -> list[int]:
    """Evenly spaced steps, and both sides of every corner or jump of the schedule."""
    shape = shape_of(settings, steps)
    found = {*range(0, steps, max(1, steps // _POINTS)), steps - 1}
    found |= {step + side for step in _corners(shape) for side in (-1, 0)}
    return sorted(step for step in found if 0 <= step < steps)


def _corners(shape: Shape) -> set[int]:
    rest = shape.total_steps - shape.warmup_steps
    falls = {shape.warmup_steps + math.ceil(rest * turn / shape.cycles) for turn in range(1, min(shape.cycles, 100))}
    return {shape.warmup_steps, shape.total_steps - shape.decay_steps, *falls, *(start for start, _ in shape.points)}


def rate_label(value: float) -> str:
    """A rate at the axis, without digits that only rounding made."""
    return rate(float(f"{value:.3g}"))
