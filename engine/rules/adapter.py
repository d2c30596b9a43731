"""Faults between settings: what is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


def something_is_trained(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if not (adapter.unet or adapter.text_encoder_1 or adapter.text_encoder_2):
        yield Problem("adapter.unet", "nothing would be trained. Switch on the UNet or a text encoder.")


RULES = (something_is_trained,)
