"""How the learning rate moves over a run: pure functions of the step, so that a resume needs nothing stored.

A factor on the set rate for optimizer update `step` (0 is the first). Warm-up rises in a line from 0 at step 0 to 1 at
step `warmup_steps`, with every schedule; the shape after it spans the steps that are left and ends at `total_steps`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.errors import Problem, UserError
from engine.sections.optimizer import Optimizer

_POINT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*:\s*(\d*\.?\d+(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Shape:
    """The lengths and numbers that shape a schedule. `points`: (step, factor from there on), by step."""

    total_steps: int
    warmup_steps: int = 0
    cycles: int = 1
    power: float = 1.0
    timescale_steps: int = 0
    decay_steps: int = 0
    decay_shape: str = "cosine"
    points: tuple[tuple[int, float], ...] = ()

    def progress(self, step: int) -> float:
        """Share of the steps after warm-up that are done, 0…1."""
        return min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))


def constant(step: int, shape: Shape) -> float:
    """1 throughout."""
    return 1.0


def linear(step: int, shape: Shape) -> float:
    """From 1 in a line to 0 at the end."""
    return 1.0 - shape.progress(step)


def cosine(step: int, shape: Shape) -> float:
    """From 1 in half a cosine wave to 0 at the end (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5)."""
    return _wave(shape.progress(step))


def cosine_with_restarts(step: int, shape: Shape) -> float:
    """`cycles` half waves from 1 to 0 of equal length, one after the other (the same, figure 1)."""
    done = shape.progress(step)
    return 0.0 if done >= 1.0 else _wave((shape.cycles * done) % 1.0)


def polynomial(step: int, shape: Shape) -> float:
    """(1 − progress)^power: 1 is a line, more falls early, less falls late."""
    return (1.0 - shape.progress(step)) ** shape.power


def inverse_sqrt(step: int, shape: Shape) -> float:
    """1/√(1 + steps since warm-up / timescale) (after Vaswani et al. 2017, arXiv 1706.03762, equation 3)."""
    timescale = shape.timescale_steps or shape.warmup_steps or 10_000
    return 1.0 / math.sqrt(1.0 + (step - shape.warmup_steps) / timescale)


def warmup_stable_decay(step: int, shape: Shape) -> float:
    """1 until `decay_steps` before the end, then down to 0 (Hu et al. 2024, MiniCPM, arXiv 2404.06395, equation 1)."""
    begin = shape.total_steps - shape.decay_steps
    if step < begin:
        return 1.0
    done = min(1.0, (step - begin) / max(1, shape.decay_steps))
    return DECAYS[shape.decay_shape](done)


def rex(step: int, shape: Shape) -> float:
    """Slow at first, steep at the end (Chen et al. 2021, REX, arXiv 2107.04197, equation 2): (1 − p) / (1 − p/2)."""
    done = shape.progress(step)
    return (1.0 - done) / (1.0 - done / 2.0)


def piecewise_constant(step: int, shape: Shape) -> float:
    """The factor of the last point at or before this step; 1 before the first."""
    return next((factor for start, factor in reversed(shape.points) if start <= step), 1.0)


def adafactor(step: int, shape: Shape) -> float:
    """Adafactor's own relative step size (Shazeer and Stern 2018, arXiv 1804.04235, algorithm 5): min(10⁻², 1/√t)."""
    return min(1e-2, 1.0 / math.sqrt(step + 1))


def _wave(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": _wave,
    "linear": lambda done: 1.0 - done,
    "sqrt": lambda done: 1.0 - math.sqrt(done),
}
SCHEDULES: dict[str, Callable[[int, Shape], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "cosine_with_restarts": cosine_with_restarts,
    "polynomial": polynomial,
    "inverse_sqrt": inverse_sqrt,
    "warmup_stable_decay": warmup_stable_decay,
    "rex": rex,
    "piecewise_constant": piecewise_constant,
    "adafactor": adafactor,
}
FALLING = ("linear", "cosine", "cosine_with_restarts", "polynomial", "warmup_stable_decay", "rex")  # those with an end


def factor(name: str, step: int, shape: Shape, min_ratio: float = 0.0) -> float:
    """The factor of schedule `name` at a step; those that fall to 0 fall to `min_ratio` instead."""
    if step < shape.warmup_steps:
        return step / shape.warmup_steps
    value = SCHEDULES[name](step, shape)
    return value * (1.0 - min_ratio) + min_ratio if name in FALLING else value


def rate_curve(settings: Optimizer, total_steps: int) -> Callable[[int], float]:
    """The factor by step of a run of `total_steps`. Raises UserError where the points cannot be read."""
    shape = shape_of(settings, total_steps)
    return lambda step: factor(settings.schedule, step, shape, settings.min_ratio)


def shape_of(settings: Optimizer, total_steps: int) -> Shape:
    """The schedule of a run in steps: shares of it are rounded down. Raises UserError where points cannot be read."""
    return Shape(
        total_steps=total_steps,
        warmup_steps=settings.warmup_steps or int(settings.warmup_share * total_steps),
        cycles=settings.cycles,
        power=settings.power,
        timescale_steps=settings.timescale_steps,
        decay_steps=settings.decay_steps or int(settings.decay_share * total_steps),
        decay_shape=settings.decay_shape,
        points=read_points(settings.points, total_steps) if settings.schedule == "piecewise_constant" else (),
    )


def read_points(text: str, total_steps: int) -> tuple[tuple[int, float], ...]:
    """ "500:0.5, 80%:0.1" as (step, factor), by step. Raises UserError where it is not of that form."""
    found: list[tuple[int, float]] = []
    for part in filter(str.strip, re.split(r"[,;\n]", text)):
        match = _POINT.fullmatch(part)
        if match is None:
            what = f"needs step:factor pairs such as 500:0.5, 80%:0.1 (got {part.strip()})."
            raise UserError(what, "optimizer.points")
        start = float(match[1]) * (total_steps / 100 if match[2] else 1)
        found.append((int(start), float(match[3])))
    return tuple(sorted(found))


def schedule_problems(settings: Optimizer, total_steps: int) -> Iterator[Problem]:
    """What does not fit into a run of this many steps."""
    try:
        shape = shape_of(settings, total_steps)
    except UserError:
        return  # a rule has told it
    where = "optimizer.warmup_steps" if settings.warmup_steps else "optimizer.warmup_share"
    if shape.warmup_steps >= total_steps:
        what = f"the warm-up never ends: the run has {total_steps} steps (got {shape.warmup_steps}). Make it shorter."
        yield Problem(where, what)
    elif settings.schedule == "warmup_stable_decay" and shape.warmup_steps + shape.decay_steps > total_steps:
        what = (
            f"warm-up ({shape.warmup_steps} steps) and decay ({shape.decay_steps}) overlap in a run of {total_steps} "
            "steps. Shorten one of them."
        )
        yield Problem("optimizer.decay_steps" if settings.decay_steps else "optimizer.decay_share", what)
    elif settings.schedule == "piecewise_constant" and shape.points and shape.points[0][0] >= total_steps:
        what = f"the first point lies beyond the {total_steps} steps of the run (got {shape.points[0][0]})."
        yield Problem("optimizer.points", what)
