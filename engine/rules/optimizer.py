"""Faults between settings: optimizer, rates and schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.errors import Problem, UserError
from engine.optimizer_arguments import argument_problems
from engine.optimizer_kinds import OPTIMIZERS
from engine.schedules import FALLING, read_points

if TYPE_CHECKING:
    from engine.preset import Preset

LEAST_MULTIPLIER = 0.01  # a smaller number was meant as a learning rate
TOO_HIGH = 100.0  # times the rate to begin with


def _trained_rates(preset: Preset) -> dict[str, float]:
    """{setting: learning rate} of the parts that are trained."""
    adapter, optimizer = preset.adapter, preset.optimizer
    rates = {
        "optimizer.unet_rate": (adapter.unet, optimizer.unet_rate),
        "optimizer.text_encoder_1_rate": (adapter.text_encoder_1, optimizer.text_encoder_1_rate),
        "optimizer.text_encoder_2_rate": (adapter.text_encoder_2, optimizer.text_encoder_2_rate),
    }
    return {where: rate for where, (on, rate) in rates.items() if on}


def a_rate_is_set(preset: Preset) -> Iterator[Problem]:
    for where, rate in _trained_rates(preset).items():
        if rate == 0:
            yield Problem(where, "is 0 although this part is to be trained. Give a rate or switch the part off.")


def a_multiplier_is_near_1(preset: Preset) -> Iterator[Problem]:
    """Where the optimizer or its schedule finds the rate, ours multiplies it."""
    name, own = preset.optimizer.name, preset.optimizer.schedule == "adafactor"
    if not OPTIMIZERS[name].rate_free and not own:
        return
    finder = "the schedule adafactor" if own else name
    for where, rate in _trained_rates(preset).items():
        if 0 < rate < LEAST_MULTIPLIER:
            what = (
                f"{finder} finds the learning rate itself, and this number multiplies it (got {rate:g}). Set it to 1."
            )
            yield Problem(where, what)


def one_rate_for_optimizers_that_have_one(preset: Preset) -> Iterator[Problem]:
    name, rates = preset.optimizer.name, _trained_rates(preset)
    if not OPTIMIZERS[name].one_rate:
        return
    if len(set(rates.values())) > 1:
        found = ", ".join(f"{rate:g}" for rate in rates.values())
        what = f"{name} trains all parts at one learning rate (got {found}). Give them the same number."
        yield Problem(list(rates)[-1], what)
    for where, value in _finer_rates(preset).items():
        yield Problem(where, f"{name} trains everything at one learning rate (got {value}). Leave this at its default.")


def _finer_rates(preset: Preset) -> dict[str, str]:
    """{setting: value} of those that give single layers or matrices a rate of their own."""
    adapter = preset.adapter
    ratios = {
        "adapter.loraplus_unet_ratio": (adapter.unet, adapter.loraplus_unet_ratio),
        "adapter.loraplus_text_ratio": (adapter.text_encoder_1 or adapter.text_encoder_2, adapter.loraplus_text_ratio),
    }
    found = {where: f"{ratio:g}" for where, (on, ratio) in ratios.items() if on and ratio != 1}
    if len(set(adapter.block_rates.replace(",", " ").split()) - {"0", "0.0"}) > 1:
        found["adapter.block_rates"] = adapter.block_rates
    if "rate" in adapter.layer_settings:
        found["adapter.layer_settings"] = adapter.layer_settings.strip()
    return found


def schedule_free_means_constant(preset: Preset) -> Iterator[Problem]:
    settings = preset.optimizer
    if not OPTIMIZERS[settings.name].schedule_free or settings.schedule == "constant":
        return
    if settings.name == "prodigy_plus_schedule_free" and "use_schedulefree=False" in settings.extra.replace(" ", ""):
        return
    what = (
        f"{settings.name} averages weights in place of lowering the rate (got {settings.schedule}). Set it to constant."
    )
    yield Problem("optimizer.schedule", what)


def adafactor_schedule_is_for_adafactor(preset: Preset) -> Iterator[Problem]:
    settings = preset.optimizer
    if settings.schedule == "adafactor" and settings.name != "adafactor":
        what = f"adafactor's own schedule goes with the optimizer adafactor (got {settings.name}). Choose another one."
        yield Problem("optimizer.schedule", what)


def optimizer_knows_its_arguments(preset: Preset) -> Iterator[Problem]:
    yield from argument_problems(preset.optimizer)


def warmup_is_given_once(preset: Preset) -> Iterator[Problem]:
    settings = preset.optimizer
    if settings.warmup_steps and settings.warmup_share:
        what = (
            f"the warm-up is given in steps too, {settings.warmup_steps} (got {settings.warmup_share:g}). Set one to 0."
        )
        yield Problem("optimizer.warmup_share", what)


def lowest_rate_needs_a_falling_schedule(preset: Preset) -> Iterator[Problem]:
    settings = preset.optimizer
    if settings.min_ratio and settings.schedule not in FALLING:
        what = f"the schedule {settings.schedule} does not fall to an end (got {settings.min_ratio:g}). Set it to 0."
        yield Problem("optimizer.min_ratio", what)


def points_can_be_read(preset: Preset) -> Iterator[Problem]:
    if preset.optimizer.schedule != "piecewise_constant":
        return
    try:
        points = read_points(preset.optimizer.points, 100)
    except UserError as error:
        yield from error.problems
        return
    if not points:
        yield Problem("optimizer.points", "is empty. Give step:factor pairs such as 500:0.5, 80%:0.1.")


def rate_warnings(preset: Preset) -> Iterator[Problem]:
    """What is allowed and seldom meant."""
    settings = preset.optimizer
    kind = OPTIMIZERS[settings.name]
    for where, rate in _trained_rates(preset).items():
        if rate > TOO_HIGH * kind.rate and settings.schedule != "adafactor":
            what = f"{rate:g} is very high for {settings.name}; people begin with about {kind.rate:g}."
            yield Problem(where, what)
    if settings.beta1 and settings.beta2 and settings.beta1 > settings.beta2 and settings.name != "adan":
        what = f"beta1 = {settings.beta1:g} is larger than this; optimizers of this kind expect it the other way round."
        yield Problem("optimizer.beta2", what)


def a_falling_schedule_falls(preset: Preset) -> Iterator[Problem]:
    settings = preset.optimizer
    if settings.schedule == "warmup_stable_decay" and not (settings.decay_steps or settings.decay_share):
        what = "the rate never falls (got 0, and no decay steps). Give a share or steps, or use the schedule constant."
        yield Problem("optimizer.decay_share", what)
    if settings.schedule in FALLING and settings.min_ratio == 1:
        what = f"{settings.schedule} ends at the full rate and so never falls (got 1). Lower it, or use constant."
        yield Problem("optimizer.min_ratio", what)


RULES = (
    a_rate_is_set,
    a_multiplier_is_near_1,
    one_rate_for_optimizers_that_have_one,
    schedule_free_means_constant,
    adafactor_schedule_is_for_adafactor,
    optimizer_knows_its_arguments,
    warmup_is_given_once,
    lowest_rate_needs_a_falling_schedule,
    a_falling_schedule_falls,
    points_can_be_read,
)
