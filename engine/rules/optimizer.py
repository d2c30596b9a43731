"""Faults between settings: optimizer, rates and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset


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


RULES = (a_rate_is_set,)
