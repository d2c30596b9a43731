"""Plans of data sets that do not exist, and measured runs that never ran, for tests of what is forecast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from engine.cards import Card
from engine.measured import Measured
from engine.pace import conditions_of, device_of
from engine.plan import Plan, make_plan
from engine.plan_images import ImagePlan, Pictures, SubsetPlan
from engine.preset import Preset

SQUARE = (1024, 1024)
CARD = Card("NVIDIA GeForce RTX 3060", 12288 * 2**20 - 150 * 2**20, 11000 * 2**20)


def preset_with(**changes: Any) -> Preset:
    """A preset on the demo model; `adapter__rank=4` sets a value."""
    plain = {"model.base": "demo/model.safetensors", "data.folder": "demo/images", "memory.device": "auto"}
    return Preset().changed({**plain, **{key.replace("__", "."): value for key, value in changes.items()}})


def plan_with(preset: Preset, folders: Sequence[tuple[int, int, bool]], sizes: Sequence[Any] = (SQUARE,)) -> Plan:
    """The plan of folders of (images, repeats, regularization?), whose images go round the buckets `sizes`."""
    subsets, images = [], []
    for place, (count, repeats, is_regularization) in enumerate(folders):
        subsets.append(SubsetPlan(f"{place}", Path(f"/{place}"), repeats, count, count, is_regularization))
        for number in range(count):
            size = tuple(sizes[number % len(sizes)])
            path = Path(f"/{place}/{number}.png")
            images.append(ImagePlan(path, f"{place}", "a", size, size, size, (0, 0), repeats, is_regularization))
    with mock.patch("engine.plan.look_at_images", return_value=Pictures(tuple(subsets), tuple(images))):
        return make_plan(preset)


def row_of(preset: Preset, plan: Plan, card: Card | None = CARD, **changes: Any) -> Measured:
    """A run of this preset as if it had been measured, at 1.5 s a TFLOP."""
    assert plan.model is not None
    facts: dict[str, Any] = {
        "time": "2026-11-12T10:00:00+00:00",
        "steps": 100,
        "seconds_per_unit": 0.1,
        "memory_bytes": plan.memory.total_bytes,
        "planned_bytes": plan.memory.total_bytes,
    }
    return Measured(conditions_of(preset, plan.model, *device_of(preset, card)), **{**facts, **changes})
