"""Faults between settings: number formats and memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.optimizer_kinds import OPTIMIZERS

if TYPE_CHECKING:
    from engine.preset import Preset

# Optimizers whose step of a number depends on this number, its gradient and its moments only, step counter included
STEPS_BY_SEGMENT = ("adamw", "adamw_8bit", "lion", "lion_8bit", "sgd_nesterov", "sgd_nesterov_8bit", "ademamix_8bit")


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


def bf16_numbers_are_trained_in_bf16(preset: Preset) -> Iterator[Problem]:
    memory, optimizer = preset.memory, preset.optimizer.name
    if memory.adapter_precision != "bf16":
        return
    if memory.precision != "bf16":
        yield Problem(
            "memory.adapter_precision",
            f"an adapter in bf16 computes in bf16 (got {memory.precision} for memory.precision). Set both to bf16, or "
            "this to fp32.",
        )
    if optimizer not in STEPS_BY_SEGMENT:
        yield Problem(
            "memory.adapter_precision",
            f"{optimizer} keeps more than moments of single numbers, so its steps cannot be rounded part by part. "
            f"Set this to fp32, or use one of {', '.join(STEPS_BY_SEGMENT)}.",
        )


def factors_around_one_are_not_bf16(preset: Preset) -> Iterator[Problem]:
    """bf16 has steps of 1/128 above 1: even the start of a magnitude, the norm of a weight, would be rounded."""
    adapter = preset.adapter
    rescaled = adapter.rescaled and adapter.algorithm in ("oft", "boft")
    if preset.memory.adapter_precision == "bf16" and (adapter.algorithm == "dora" or rescaled):
        what = "DoRA's magnitudes" if adapter.algorithm == "dora" else "the factors of adapter.rescaled"
        yield Problem(
            "memory.adapter_precision",
            f"{what} need more digits than bf16 has, or the model is changed before it learns (got bf16). Set this to "
            "fp32, or choose another adapter.",
        )


def weights_are_averaged_once(preset: Preset) -> Iterator[Problem]:
    name = preset.optimizer.name
    if preset.run.ema_decay and OPTIMIZERS[name].schedule_free:
        yield Problem(
            "run.ema_decay",
            f"{name} averages the weights itself, so a second average would only lag behind "
            f"(got {preset.run.ema_decay:g}). Set this to 0.",
        )


RULES = (
    a_packed_base_is_computed_with_in_half_precision,
    text_encoders_that_leave_are_not_packed,
    bf16_numbers_are_trained_in_bf16,
    factors_around_one_are_not_bf16,
    weights_are_averaged_once,
)
