"""Sample prompts: one line each, with the switches that sd-scripts' users know. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import Problem
from engine.preset import Sample

_SWITCH = re.compile(r"\s--(?=[a-zA-Z])")


@dataclass(frozen=True)
class SamplePrompt:
    """One sample image to draw."""

    prompt: str
    negative: str
    width_px: int
    height_px: int
    steps: int
    cfg_scale: float
    seed: int
    sampler: str


def _size_px(text: str) -> int:
    value = int(text)
    if not 64 <= value <= 4096:
        raise ValueError
    return value - value % 8


def _count(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _scale(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 30:
        raise ValueError
    return value


# Letter → (field, how its value is read, what is allowed in words)
SWITCHES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "n": ("negative", str, "text"),
    "w": ("width_px", _size_px, "a width from 64 to 4096"),
    "h": ("height_px", _size_px, "a height from 64 to 4096"),
    "s": ("steps", _count(1, 200), "a number of steps from 1 to 200"),
    "l": ("cfg_scale", _scale, "a CFG scale from 1 to 30"),
    "d": ("seed", _count(0, 2**32 - 1), "a seed from 0 to 4294967295"),
}


def parse_prompts(sample: Sample) -> tuple[tuple[SamplePrompt, ...], tuple[Problem, ...]]:
    """The prompts of a preset and what is wrong with its lines. Empty lines and comments (#) are left out."""
    prompts: list[SamplePrompt] = []
    problems: list[Problem] = []
    for number, line in enumerate(sample.prompts.splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        values: dict[str, Any] = {
            "negative": sample.negative,
            "width_px": sample.width_px,
            "height_px": sample.height_px,
            "steps": sample.steps,
            "cfg_scale": sample.cfg_scale,
            "seed": (sample.seed + len(prompts)) % 2**32,
            "sampler": sample.sampler,
        }
        prompt, *switches = _SWITCH.split(" " + text)
        for switch in switches:
            fault = _read_switch(switch, values)
            if fault:
                problems.append(Problem("sample.prompts", f"line {number}: {fault}"))
        prompts.append(SamplePrompt(prompt=prompt.strip(), **values))
    return tuple(prompts), tuple(problems)


def _read_switch(switch: str, values: dict[str, Any]) -> str:
    """Put one switch into `values`; returns what is wrong with it, or ""."""
    letter, _, text = switch.partition(" ")
    if letter not in SWITCHES:
        known = ", ".join("--" + name for name in SWITCHES)
        return f"--{letter} is not known. Use one of {known}."
    field, read, allowed = SWITCHES[letter]
    try:
        values[field] = read(text.strip())
    except ValueError:
        return f"--{letter} needs {allowed} (got {text.strip()!r})."
    return ""
