"""Settings that were changed and do nothing with the others as they are: told before the start, none is refused.

Those that the page hides in such a case (`when`) are not told: they wait for their partner. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.caption_source import steps_of
from engine.errors import Problem
from engine.plan_images import ImagePlan
from engine.preset import BY_PATH, Preset
from engine.rules.validation import is_on

VALIDATION = ("every_epochs", "every_steps", "bands", "most_batches", "seed", "keep_best", "least_improvement")


def idle_warnings(preset: Preset, images: Sequence[ImagePlan]) -> list[Problem]:
    """A sentence for each changed setting whose partner is off."""
    found = [*_of_loss(preset, images), *_of_noise(preset), *_of_adapter(preset), *_of_run(preset)]
    return [
        Problem(where, f"does nothing here: {why} (got {preset.get(where)}).")
        for where, idle, why in found
        if idle and preset.get(where) != BY_PATH[where].default
    ]


def late_warnings(preset: Preset, steps: int, epochs: int) -> list[Problem]:
    """A sentence for each changed setting that would begin to act only after the run's end."""
    if not steps:
        return []
    every: dict[str, tuple[int, str, int]] = {}
    watched = {"run": True, "sample": bool(preset.sample.prompts.strip()), "validation": is_on(preset)}
    for section in (name for name, on in watched.items() if on):
        for kind, length in (("steps", steps), ("epochs", epochs)):
            name = f"{section}.{'save_' if section == 'run' else ''}every_{kind}"
            every[name] = (preset.get(name), kind, length)
    every["run.state_every_steps"] = (preset.run.state_every_steps, "steps", steps)
    every["captions.dropout_every_epochs"] = (preset.captions.dropout_every_epochs, "epochs", epochs)
    stop = steps_of(preset.adapter.text_encoder_stop, steps)
    every["adapter.text_encoder_stop"] = (stop + 1 if stop else 0, "steps", steps)
    return [
        Problem(where, f"never comes: the run has {length} {kind} (got {preset.get(where)}). Lower it, or leave it.")
        for where, (value, kind, length) in every.items()
        if value > length and preset.get(where) != BY_PATH[where].default
    ]


def _of_loss(preset: Preset, images: Sequence[ImagePlan]) -> Iterator[tuple[str, bool, str]]:
    loss = preset.loss
    for name in ("huber_threshold", "huber_schedule"):
        yield f"loss.{name}", loss.kind in ("l2", "l1"), f"loss.kind is {loss.kind}, which has no threshold"
    yield "loss.p2_k", not loss.p2_gamma, "loss.p2_gamma is 0"
    without = not any(image.is_regularization for image in images)
    yield "loss.prior_weight", bool(images) and without, "there are no regularization pictures"
    yield "loss.mask_outside", loss.mask == "none", "loss.mask is none"


def _of_noise(preset: Preset) -> Iterator[tuple[str, bool, str]]:
    levels = preset.noise.pyramid_levels
    yield "noise.pyramid_discount", levels < 2, f"noise.pyramid_levels is {levels}, so there is no coarser noise"
    yield "noise.pyramid_levels", levels == 1, "the first level is as fine as the noise itself"


def _of_adapter(preset: Preset) -> Iterator[tuple[str, bool, str]]:
    adapter, captions = preset.adapter, preset.captions
    yield "adapter.loraplus_unet_ratio", not adapter.unet, "the UNet is not trained"
    trains_text = adapter.text_encoder_1 or adapter.text_encoder_2
    yield "adapter.loraplus_text_ratio", not trains_text, "no text encoder is trained"
    convolutions = adapter.conv_rank or adapter.conv_block_ranks.strip() or adapter.rank_from_file
    yield "adapter.conv_alpha", not convolutions, "adapter.conv_rank is 0"
    yield "captions.token_warmup_min", not captions.token_warmup, "captions.token_warmup is 0"


def _of_run(preset: Preset) -> Iterator[tuple[str, bool, str]]:
    yield "run.ema_warmup", not preset.run.ema_decay, "run.ema_decay is 0"
    for name in VALIDATION:
        yield f"validation.{name}", not is_on(preset), "no pictures are held out"
    yield "logging.project", preset.logging.tracker == "none", "logging.tracker is none"
