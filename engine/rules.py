"""Faults that lie between settings: each rule looks at a whole preset and yields sentences. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.data.buckets import BucketRules
from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset

_FORBIDDEN_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f]')


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


def something_is_trained(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if not (adapter.unet or adapter.text_encoder_1 or adapter.text_encoder_2):
        yield Problem("adapter.unet", "nothing would be trained. Switch on the UNet or a text encoder.")


def a_rate_is_set(preset: Preset) -> Iterator[Problem]:
    adapter, optimizer = preset.adapter, preset.optimizer
    trained = {
        "optimizer.unet_rate": (adapter.unet, optimizer.unet_rate),
        "optimizer.text_encoder_1_rate": (adapter.text_encoder_1, optimizer.text_encoder_1_rate),
        "optimizer.text_encoder_2_rate": (adapter.text_encoder_2, optimizer.text_encoder_2_rate),
    }
    for where, (on, rate) in trained.items():
        if on and rate == 0:
            yield Problem(where, "is 0 although this part is to be trained. Give a rate or switch the part off.")


def trained_text_is_not_cached(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if preset.captions.cache_text and (adapter.text_encoder_1 or adapter.text_encoder_2):
        yield Problem(
            "captions.cache_text",
            "text features cannot be cached while a text encoder is trained. Switch one of the two off.",
        )


def random_crops_are_not_cached(preset: Preset) -> Iterator[Problem]:
    if preset.data.cache_latents and preset.data.random_crop:
        yield Problem(
            "data.random_crop", "needs a new cut each epoch, so latents cannot be cached. Switch one of the two off."
        )


def timesteps_are_a_range(preset: Preset) -> Iterator[Problem]:
    noise = preset.noise
    if noise.min_timestep >= noise.max_timestep:
        yield Problem(
            "noise.min_timestep",
            f"must be below noise.max_timestep (got {noise.min_timestep} and {noise.max_timestep}).",
        )


def bucket_limits_are_a_range(preset: Preset) -> Iterator[Problem]:
    yield from bucket_rules(preset).problems()


def run_name_is_a_file_name(preset: Preset) -> Iterator[Problem]:
    name = preset.run.name
    if not name.strip() or name != name.strip() or name in (".", "..") or _FORBIDDEN_IN_NAMES.search(name):
        yield Problem(
            "run.name",
            f'must be usable as a file name: not empty and without \\ / : * ? " < > | (got {name!r}).',
        )
    elif len(name.encode()) > 120:
        yield Problem("run.name", f"is too long for a file name ({len(name.encode())} bytes, at most 120).")


def background_is_a_color(preset: Preset) -> Iterator[Problem]:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", preset.data.background):
        yield Problem("data.background", f"must be a colour as #rrggbb (got {preset.data.background!r}).")


def extension_begins_with_a_dot(preset: Preset) -> Iterator[Problem]:
    if not re.fullmatch(r"\.[^\s./\\]+", preset.captions.extension):
        yield Problem("captions.extension", f"must look like .txt (got {preset.captions.extension!r}).")


def numbers_are_finite(preset: Preset) -> Iterator[Problem]:
    for path, value in preset.values().items():
        if isinstance(value, float) and value != value:
            yield Problem(path, "must be a number (got nan).")


RULES: tuple[Callable[[Preset], Iterator[Problem]], ...] = (
    something_is_trained,
    a_rate_is_set,
    trained_text_is_not_cached,
    random_crops_are_not_cached,
    timesteps_are_a_range,
    bucket_limits_are_a_range,
    run_name_is_a_file_name,
    background_is_a_color,
    extension_begins_with_a_dot,
    numbers_are_finite,
)


def rule_problems(preset: Preset) -> list[Problem]:
    """All faults between the settings of a preset."""
    return [problem for rule in RULES for problem in rule(preset)]
