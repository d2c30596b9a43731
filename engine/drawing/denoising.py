"""From noisy latents to latents: the loop over sampler steps, with a mask and several experts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.drawing.samplers import Steps

Denoise = Callable[[Tensor, Tensor, int], Tensor]
"""(scaled noisy latents [B, C, h, w], timestep [], step from 1) → prediction [B, C, h, w], guidance applied."""
AfterStep = Callable[[int, Tensor, Tensor], None]
"""(step from 1, latents, the picture they tend to, both [B, C, h, w]); raises to cancel."""


@dataclass(frozen=True)
class Kept:
    """What stays outside of a mask: latents of the old picture and the noise they are given, [B, C, h, w] each.

    mask: [1, 1, h, w], 1 where it is drawn anew.
    """

    latents: Tensor
    noise: Tensor
    mask: Tensor


@torch.no_grad()
def denoise_latents(
    latents: Tensor,
    stages: Sequence[tuple[Steps, Denoise]],
    generators: list[torch.Generator],
    after_step: AfterStep,
    kept: Kept | None = None,
) -> Tensor:
    """Latents [B, C, h, w] after the steps of all stages, one expert after the other.

    `latents` are as noisy as the first timestep wants them. One CPU generator a picture gives the noise that some
    samplers add. With `kept`, after each step the old picture, as noisy as the next timestep, stands outside the mask.
    """
    for number, (steps, denoise) in enumerate(stages):
        is_last = number == len(stages) - 1
        for index, timestep in enumerate(steps.timesteps):
            scaled = steps.scheduler.scale_model_input(latents, timestep)
            prediction = denoise(scaled, timestep, steps.number(index))
            seen = _Seen(steps.scheduler)
            latents = seen.step(prediction, timestep, latents, generators)
            if kept is not None:
                following = steps.timesteps[index + 1 : index + 2]
                if not len(following) and not is_last:
                    following = stages[number + 1][0].timesteps[:1]
                latents = _outside_kept(latents, kept, steps.scheduler, following)
            after_step(steps.number(index), latents, seen.tends_to if seen.tends_to is not None else latents)
    return latents


def _outside_kept(latents: Tensor, kept: Kept, scheduler: Any, following: Tensor) -> Tensor:
    old = kept.latents
    if len(following):
        old = scheduler.add_noise(old, kept.noise, following.expand(1))
    return (1 - kept.mask) * old + kept.mask * latents


class _Seen:
    """A step of a scheduler, and the picture that it tends to where the scheduler tells."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.tends_to: Tensor | None = None

    def step(self, prediction: Tensor, timestep: Tensor, latents: Tensor, generators: list[torch.Generator]) -> Tensor:
        options: dict[str, Any] = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            options["generator"] = generators
        found = self.scheduler.step(prediction, timestep, latents, **options, return_dict=True)
        outputs = getattr(self.scheduler, "model_outputs", None)  # of the multistep solvers: denoised pictures
        denoised = getattr(found, "pred_original_sample", getattr(found, "denoised", None))
        self.tends_to = denoised if denoised is not None else (outputs[-1] if outputs else None)
        return found.prev_sample
