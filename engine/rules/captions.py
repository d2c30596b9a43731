"""Faults between settings: captions and text features."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


def trained_text_is_not_cached(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if preset.captions.cache_text and (adapter.text_encoder_1 or adapter.text_encoder_2):
        yield Problem(
            "captions.cache_text",
            "text features cannot be cached while a text encoder is trained. Switch one of the two off.",
        )


def extension_begins_with_a_dot(preset: Preset) -> Iterator[Problem]:
    if not re.fullmatch(r"\.[^\s./\\]+", preset.captions.extension):
        yield Problem("captions.extension", f"must look like .txt (got {preset.captions.extension!r}).")


RULES = (
    trained_text_is_not_cached,
    extension_begins_with_a_dot,
)
