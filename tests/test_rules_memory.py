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
