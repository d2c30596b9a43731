"""Faults between settings: number formats and memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


def a_packed_base_is_computed_with_in_half_precision(preset: Preset) -> Iterator[Problem]:
    memory = preset.memory
    for part in ("unet_storage", "text_encoder_storage"):
        kind = getattr(memory, part)
        if kind != "same" and memory.precision == "fp32":
            yield Problem(
                f"memory.{part}",
                f"weights in {kind} cannot be as exact as fp32, which would only be slow and large here (got fp32). "
                "Set memory.precision to bf16, or this to same.",
            )


def text_encoders_that_leave_are_not_packed(preset: Preset) -> Iterator[Problem]:
    kind = preset.memory.text_encoder_storage
    if kind != "same" and preset.captions.cache_text:
        yield Problem(
            "memory.text_encoder_storage",
            f"the text encoders leave the memory once the captions are cached, so {kind} would only make the cached "
            "text less exact. Set it to same, or switch off captions.cache_text.",
        )


RULES = (
    a_packed_base_is_computed_with_in_half_precision,
    text_encoders_that_leave_are_not_packed,
)
