"""docs/optimizers.md, made from the table of optimizers: `python -m engine.optimizer_table`; a test compares it."""

from __future__ import annotations

from typing import Any

from engine.atomic import write_text_whole
from engine.optimizer_arguments import ARGUMENTS, places
from engine.optimizer_kinds import OPTIMIZERS, Kind
from engine.preset import ROOT
from engine.rules.memory import STEPS_BY_SEGMENT
from engine.schedules import SCHEDULES

TARGET = ROOT / "docs" / "optimizers.md"
HEAD = """# Optimizers and schedules

Made from `engine/optimizer_kinds.py` by `python -m engine.optimizer_table`; do not edit by hand.

An optimizer turns gradients into steps. Not sure? Stay with `adamw`, or `adamw_8bit` where memory is short.

- **Memory** is what the optimizer keeps, in bytes for each trained number, at rank 16. A rank-16 LoRA of the UNet has
  about 46 million numbers: 8 bytes are 370 MB.
- **Rate** is a learning rate to begin with, for LoRA. "1, finds its own" means: set the learning rates to 1.
- Every one of them resumes exactly: a run that was stopped and goes on gives the same weights, bit for bit, as one that
  was not. A test holds each of them to that (paged ones on a processor only: no GPU was at hand).
- **Shape** means that it looks at each matrix by itself, one after the other: slower than those that take all numbers
  at once. With `memory.adapter_precision` = bf16 only SEGMENTED work.
- **Waits** means that the processor waits for the GPU in each step: the optimizer reads back the rate that it found, or
  moves its memory. The others leave out a step whose gradients are not finite without waiting to know of it: while
  they step, they keep a copy of the trained numbers and of their memory (`adamw` and `sgd_nesterov` need none), when
  the memory of the backward pass is free again. Their counters of steps count such a step as well.
- Paged ones need an NVIDIA GPU: what does not fit there moves to main memory for a while.

| optimizer | memory | rate | good for | notes |
|---|---|---|---|---|
"""
NUMBERS = """
## Numbers

`optimizer.weight_decay` goes to each of them. `optimizer.beta1`, `optimizer.beta2` and `optimizer.epsilon` at 0 leave
the optimizer its own numbers; an optimizer that has no such number refuses another value than 0.

Everything else goes into `optimizer.extra` as `name=value, name=value`, for example
`d_coef=0.8, safeguard_warmup=True` with `prodigy`, or `betas=0.98,0.92,0.99` with `adan`. A name that the optimizer
does not know is refused before the start. These are the names, with their defaults:

| optimizer | in settings | in `optimizer.extra` |
|---|---|---|
"""
SCHEDULE_HEAD = """
## Schedules

Each begins after the warm-up, which rises in a line (`optimizer.warmup_steps`, or `optimizer.warmup_share` of the run).
Those that fall end at `optimizer.min_ratio` of the full rate. The page draws the curve of what is set.

| schedule | how the rate moves | its own settings |
|---|---|---|
"""
_SHAPES = {
    "constant": ("stays; with a warm-up this is what others call constant with warm-up", ""),
    "linear": ("falls in a line", ""),
    "cosine": ("falls in half a wave: slow, fast, slow", ""),
    "cosine_with_restarts": ("falls several times and starts again at the full rate", "cycles"),
    "polynomial": ("falls early (power above 1) or late (below 1)", "power"),
    "inverse_sqrt": ("falls ever more slowly and has no end", "timescale_steps"),
    "warmup_stable_decay": ("stays, and falls at the end", "decay_steps, decay_share, decay_shape"),
    "rex": ("falls slowly at first and steeply at the end", ""),
    "piecewise_constant": ("jumps at given steps", "points"),
    "adafactor": ("Adafactor's own, at most 0.01 and falling from step 10000 on; set the rates to 1", ""),
}
TAIL = """
Schedule-free optimizers average their weights instead of lowering the rate: their schedule is `constant`, and
checkpoints and samples hold the averaged weights. Text encoders have rates of their own, in the same curve.
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = "".join(_row(name, kind) for name, kind in OPTIMIZERS.items())
    numbers = "".join(_numbers(name, kind) for name, kind in OPTIMIZERS.items())
    shapes = "".join(
        f"| `{name}` | {_SHAPES[name][0]} | {_code(_SHAPES[name][1].split(', '))} |\n" for name in SCHEDULES
    )
    head = HEAD.replace("SEGMENTED", ", ".join(f"`{name}`" for name in STEPS_BY_SEGMENT))
    return head + rows + NUMBERS + numbers + SCHEDULE_HEAD + shapes + TAIL


def _row(name: str, kind: Kind) -> str:
    notes = [
        text
        for holds, text in (
            (kind.gpu_only, "NVIDIA GPU"),
            (kind.shaped, "shape"),
            (kind.one_rate, "one rate for all parts"),
            (kind.schedule_free, "schedule constant"),
            (kind.waits, "waits"),
        )
        if holds
    ]
    rate = "1, finds its own" if kind.rate_free else _rate(kind.rate)
    return f"| `{name}` | {kind.memory_bytes:g} | {rate} | {kind.good_for} | {', '.join(notes)} |\n"


def _numbers(name: str, kind: Kind) -> str:
    homes = places(name)
    taken = [argument for argument, _ in homes.values() if len(_default(name, argument)) <= 2]
    others = {argument: default for argument, (_, default) in ARGUMENTS[name].items() if argument not in taken}
    shown = ", ".join(f"`{argument}={_shown(kind.own.get(argument, value))}`" for argument, value in others.items())
    return f"| `{name}` | {_code(list(homes))} | {shown} |\n"


def _rate(rate: float) -> str:
    """0.1, 1e-3, 2e-5."""
    return f"{rate:g}" if rate >= 0.01 else f"{rate:.0e}".replace("e-0", "e-")


def _default(name: str, argument: str) -> list[Any]:
    value = ARGUMENTS[name][argument][1]
    return value if isinstance(value, list) else [value]


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names if name)


def _shown(value: Any) -> str:
    return ",".join(f"{part:g}" for part in value) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    write_text_whole(TARGET, page())
