"""How the learning rate moves over a run: pure functions of the step, so that a resume needs nothing stored.

Each returns the factor on the set rate for optimizer update `step` (0 is the first). Warm-up rises in a line from 0 at
step 0 to 1 at step `warmup_steps`; the shape after it spans the steps that are left and ends at `total_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable


def constant(step: int, warmup_steps: int, total_steps: int) -> float:
    """1 after warm-up."""
    return step / warmup_steps if step < warmup_steps else 1.0


def linear(step: int, warmup_steps: int, total_steps: int) -> float:
    """From 1 after warm-up in a line to 0 at the end."""
    return step / warmup_steps if step < warmup_steps else 1.0 - _progress(step, warmup_steps, total_steps)


def cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """From 1 after warm-up in half a cosine wave to 0 at the end (Loshchilov and Hutter 2017, arXiv 1608.03983)."""
    if step < warmup_steps:
        return step / warmup_steps
    return 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup_steps, total_steps)))


def _progress(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the steps after warm-up that are done, 0…1."""
    return min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
}
