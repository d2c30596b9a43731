"""What does not go together in number formats and memory is told in a sentence before the start."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import PresetError
from engine.preset import Preset


def told(**changes: Any) -> dict[str, str]:
    """{setting: message} for a preset with these changes; `memory__precision` is memory.precision."""
    try:
        Preset().changed({key.replace("__", "."): value for key, value in changes.items()})
    except PresetError as error:
        return {problem.where: problem.message for problem in error.problems}
    return {}


@pytest.mark.parametrize("storage", ["fp8", "int8", "nf4"])
def test_a_packed_base_in_fp32_is_refused(storage):
    found = told(memory__unet_storage=storage, memory__precision="fp32")
    assert storage in found["memory.unet_storage"] and "bf16" in found["memory.unet_storage"]
    assert told(memory__unet_storage=storage, memory__precision="bf16") == {}


def test_text_encoders_are_packed_only_where_they_stay():
    kept = {"memory__text_encoder_storage": "int8", "memory__precision": "bf16"}
    assert "captions.cache_text" in told(**kept, captions__cache_text=True)["memory.text_encoder_storage"]
    assert told(**kept, captions__cache_text=False) == {}


def test_an_adapter_in_bf16_computes_in_bf16():
    found = told(memory__adapter_precision="bf16", memory__precision="fp16")
    assert "got fp16" in found["memory.adapter_precision"]
    assert told(memory__adapter_precision="bf16", memory__precision="bf16") == {}


def test_an_average_begins_before_the_end_and_is_asked_for():
    late = {"run__length": "steps", "run__steps": 100, "run__ema_start_step": 100}
    assert "100 of 100" in told(**late, run__ema_decay=0.99)["run.ema_start_step"]
    assert "run.ema_decay" in told(run__ema_start_step=5)["run.ema_start_step"]
    assert "run.ema_decay" in told(run__ema_device="cpu")["run.ema_device"]
    assert told(run__ema_start_step=5, run__ema_device="cpu", run__ema_decay=0.99) == {}
