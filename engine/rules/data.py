"""Faults between settings: pictures, buckets, latents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.data.buckets import BucketRules
from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


def bucket_rules(preset: Preset) -> BucketRules:
    """The bucket settings in the form that the data part reads."""
    data = preset.data
    return BucketRules(
        width_px=data.width_px,
        height_px=data.height_px,
        min_px=data.bucket_min_px,
        max_px=data.bucket_max_px,
        step_px=data.bucket_step_px,
        upscale=data.upscale_small_images,
        enabled=data.bucketing,
    )


def random_crops_are_not_cached(preset: Preset) -> Iterator[Problem]:
    if preset.data.cache_latents and preset.data.random_crop:
        yield Problem(
            "data.random_crop", "needs a new cut each epoch, so latents cannot be cached. Switch one of the two off."
        )


def colors_that_change_are_not_cached(preset: Preset) -> Iterator[Problem]:
    if preset.data.cache_latents and preset.data.color_jitter:
        yield Problem(
            "data.color_jitter",
            "changes the pixels each time, so latents cannot be cached. Switch one of the two off.",
        )


def bucket_limits_are_a_range(preset: Preset) -> Iterator[Problem]:
    yield from bucket_rules(preset).problems()


def background_is_a_color(preset: Preset) -> Iterator[Problem]:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", preset.data.background):
        yield Problem("data.background", f"must be a colour as #rrggbb (got {preset.data.background!r}).")


RULES = (
    random_crops_are_not_cached,
    colors_that_change_are_not_cached,
    bucket_limits_are_a_range,
    background_is_a_color,
)
