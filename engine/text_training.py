"""When text encoders learn no more: from a step on they are frozen, a function of the step and so exact on resume."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.caption_source import steps_of

if TYPE_CHECKING:
    from engine.adapters.site import Group
    from engine.preset import Preset


def text_stop_step(preset: Preset, steps: int) -> int | None:
    """The step (from 0) from which on text encoders are not trained; None where they are to the end."""
    amount = preset.adapter.text_encoder_stop
    return max(1, steps_of(amount, steps)) if amount else None


def freeze_text(groups: Iterable[Group], step: int, stop_step: int | None) -> frozenset[str]:
    """Freeze the text encoders' groups from `stop_step` on and give back their names.

    A frozen group has no gradient, so optimizers pass it over: no update, no weight decay, moments as they were; and
    text features are computed without keeping anything for a backward pass.
    """
    if stop_step is None or step < stop_step:
        return frozenset()
    frozen = [group for group in groups if group.part.startswith("text_encoder")]
    for group in frozen:
        group.flat.vector.requires_grad_(False)
    return frozenset(group.name for group in frozen)
