"""Faults between settings: noise, timesteps and loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.timesteps import TRAIN_TIMESTEPS, cumulative, parse_curve

if TYPE_CHECKING:
    from engine.preset import Preset


def timesteps_are_a_range(preset: Preset) -> Iterator[Problem]:
    noise = preset.noise
    if noise.min_timestep > noise.max_timestep:
        yield Problem(
            "noise.min_timestep",
            f"must not be above noise.max_timestep (got {noise.min_timestep} and {noise.max_timestep}). Lower it.",
        )


def timestep_curve_is_readable(preset: Preset) -> Iterator[Problem]:
    if preset.noise.timesteps != "curve":
        return
    try:
        parse_curve(preset.noise.timestep_curve)
    except ValueError as error:
        yield Problem("noise.timestep_curve", str(error))


def the_range_leaves_timesteps(preset: Preset) -> Iterator[Problem]:
    noise = preset.noise
    if noise.timesteps == "uniform" or noise.min_timestep > noise.max_timestep:
        return
    if any(timestep_curve_is_readable(preset)):
        return
    try:
        cumulative(noise)
    except ValueError:
        yield Problem(
            "noise.timesteps",
            f"draws nothing from {noise.min_timestep} to {noise.max_timestep} (got {noise.timesteps}). Widen the range "
            "or choose another distribution.",
        )


def steps_of_one_image_spread_nothing(preset: Preset) -> Iterator[Problem]:
    run, spread = preset.run, preset.noise.timestep_spread
    if spread != "independent" and run.batch_size * run.gpus * run.accumulation == 1:
        yield Problem(
            "noise.timestep_spread",
            f"needs several images a step (got {spread}). Raise run.batch_size, or choose independent.",
        )


def random_offset_has_a_strength(preset: Preset) -> Iterator[Problem]:
    if preset.noise.offset_random and not preset.noise.offset:
        yield Problem(
            "noise.offset_random", "needs noise.offset, its greatest strength (got 0). Set one, or switch off."
        )


def an_offset_that_is_lowered_is_there(preset: Preset) -> Iterator[Problem]:
    """The strength never falls below 0."""
    noise = preset.noise
    if noise.offset_adaptive < 0 and not noise.offset:
        what = f"takes away from noise.offset, which is 0 (got {noise.offset_adaptive:g}). Set one, or this to 0."
        yield Problem("noise.offset_adaptive", what)


def random_perturbation_has_a_strength(preset: Preset) -> Iterator[Problem]:
    if preset.noise.perturbation_random and not preset.noise.perturbation:
        yield Problem(
            "noise.perturbation_random",
            "needs noise.perturbation, its greatest strength (got 0). Set one, or switch off.",
        )


def adaptive_offset_and_pyramid_stay_on_one_gpu(preset: Preset) -> Iterator[Problem]:
    """Pyramid noise is divided by the deviation of the whole batch, whose latents lie on several GPUs."""
    noise = preset.noise
    if noise.offset_adaptive and noise.pyramid_levels and preset.run.gpus > 1:
        what = f"does not go with pyramid noise on several GPUs (got {noise.offset_adaptive:g}). Set one of them to 0."
        yield Problem("noise.offset_adaptive", what)


def huber_scale_has_a_threshold(preset: Preset) -> Iterator[Problem]:
    loss = preset.loss
    if loss.huber_scale == 1:
        return
    if loss.kind not in ("huber", "smooth_l1"):
        yield Problem("loss.huber_scale", f"belongs to huber and smooth_l1 (got loss.kind {loss.kind}). Set it to 1.")
    elif loss.huber_schedule == "snr":
        yield Problem("loss.huber_scale", "does nothing with the schedule snr. Set it to 1 or choose another schedule.")


def clean_timesteps_are_weighed_down_once(preset: Preset) -> Iterator[Problem]:
    """Min-SNR, its soft form and P2 have one purpose; two of them would multiply."""
    loss = preset.loss
    names = ("min_snr_gamma", "soft_min_snr_gamma", "p2_gamma")
    used = [name for name in names if getattr(loss, name) > 0]
    if len(used) > 1:
        got = " and ".join(f"loss.{name} {getattr(loss, name):g}" for name in used)
        yield Problem(f"loss.{used[-1]}", f"weighs the same timesteps down again (got {got}). Set all but one to 0.")


def weightings_fit_the_prediction(preset: Preset) -> Iterator[Problem]:
    """Where the preset itself says what the model predicts; else the plan asks the model's file."""
    model = preset.model
    if model.prediction != "auto":
        yield from weighting_faults(preset, model.prediction, model.zero_terminal_snr == "yes")


def weighting_faults(preset: Preset, prediction: str, zero_terminal_snr: bool) -> Iterator[Problem]:
    """Weightings that do not go with what the model predicts, or that are infinite on pure noise."""
    loss, is_velocity = preset.loss, prediction == "v_prediction"
    if loss.scale_v_like_noise and not is_velocity:
        what = "is for v-prediction models, and this one predicts noise. Switch it off."
        yield Problem("loss.scale_v_like_noise", what)
    if loss.v_like and is_velocity:
        what = f"is for models that predict noise, and this is a v-prediction model (got {loss.v_like:g}). Set it to 0."
        yield Problem("loss.v_like", what)
    low, high = preset.noise.min_timestep, preset.noise.max_timestep
    last = high if low == high else high - 1
    if is_velocity or not zero_terminal_snr or last < TRAIN_TIMESTEPS - 1:
        return
    for name in ("v_like", "debiased"):
        if getattr(loss, name):
            what = "is infinite on pure noise, which zero terminal SNR trains. Lower noise.max_timestep, or drop it."
            yield Problem(f"loss.{name}", what)


def masks_come_from_one_place(preset: Preset) -> Iterator[Problem]:
    loss = preset.loss
    if loss.mask == "folder" and not loss.mask_folder:
        yield Problem(
            "loss.mask_folder", "is needed for masks from a folder (got nothing). Choose it, or set loss.mask."
        )
    if loss.mask == "alpha" and loss.mask_folder:
        what = (
            f"is not used with masks from transparency (got {loss.mask_folder}). Empty it, or set loss.mask to folder."
        )
        yield Problem("loss.mask_folder", what)


def masks_leave_something_out(preset: Preset) -> Iterator[Problem]:
    if preset.loss.mask != "none" and preset.loss.mask_outside == 1:
        yield Problem("loss.mask_outside", "makes masks without effect (got 1). Lower it, or set loss.mask to none.")


RULES = (
    timesteps_are_a_range,
    timestep_curve_is_readable,
    the_range_leaves_timesteps,
    steps_of_one_image_spread_nothing,
    random_offset_has_a_strength,
    an_offset_that_is_lowered_is_there,
    random_perturbation_has_a_strength,
    adaptive_offset_and_pyramid_stay_on_one_gpu,
    huber_scale_has_a_threshold,
    clean_timesteps_are_weighed_down_once,
    weightings_fit_the_prediction,
    masks_come_from_one_place,
    masks_leave_something_out,
)
