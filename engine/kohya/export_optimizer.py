"""Optimizer and schedule in kohya_ss' words: names of its form, arguments as name=value texts."""

from __future__ import annotations

from typing import Any

from engine.kohya.export_rules import Sheet
from engine.kohya.optimizer import RENAMED
from engine.optimizer_arguments import ARGUMENTS, places, read_extra
from engine.preset import Preset

# Ours → what kohya_ss' form offers
NAMES = {
    "adamw": "AdamW", "adamw_8bit": "AdamW8bit", "paged_adamw": "PagedAdamW32bit", "paged_adamw_8bit": "PagedAdamW8bit",
    "lion": "Lion", "lion_8bit": "Lion8bit", "paged_lion_8bit": "PagedLion8bit", "sgd_nesterov": "SGDNesterov",
    "sgd_nesterov_8bit": "SGDNesterov8bit", "adafactor": "Adafactor", "dadapt_adam": "DAdaptAdam",
    "dadapt_adagrad": "DAdaptAdaGrad", "dadapt_lion": "DAdaptLion", "dadapt_sgd": "DAdaptSGD", "prodigy": "Prodigy",
    "prodigy_plus_schedule_free": "prodigyplus.ProdigyPlusScheduleFree",
    "adamw_schedule_free": "AdamWScheduleFree", "radam_schedule_free": "RAdamScheduleFree",
    "sgd_schedule_free": "SGDScheduleFree", "ademamix_8bit": "bitsandbytes.optim.AdEMAMix8bit",
    "paged_ademamix_8bit": "bitsandbytes.optim.PagedAdEMAMix8bit", "came": "pytorch_optimizer.CAME",
}  # fmt: skip
_SCHEDULES = ("linear", "cosine_with_restarts", "polynomial", "inverse_sqrt", "warmup_stable_decay")
_THEIR_WORDS = {ours: theirs for theirs, ours in RENAMED.items()}
_WITH_WARMUP = ("adamw_schedule_free", "radam_schedule_free", "sgd_schedule_free")
_LARGEST_SHARE = 0.9999  # from 1 on it is a number of steps there
_WITH_THEIR_WORDS = ("prodigy", "dadapt_adam", "dadapt_adagrad", "dadapt_lion", "dadapt_sgd")


def optimizer(preset: Preset, sheet: Sheet) -> None:
    """Name and arguments; an optimizer that the form does not offer becomes AdamW, without its arguments."""
    settings = preset.optimizer
    sheet.keys["optimizer"] = NAMES.get(settings.name, "AdamW")
    pairs: dict[str, Any] = {"weight_decay": f"{settings.weight_decay:.12g}"}
    if settings.name in NAMES:
        pairs |= _arguments(preset)
    words = _THEIR_WORDS if settings.name in _WITH_THEIR_WORDS else {}
    sheet.keys["optimizer_args"] = " ".join(f"{words.get(name, name)}={text}" for name, text in pairs.items())


def _arguments(preset: Preset) -> dict[str, str]:
    """Each argument that differs from what is done there without it."""
    settings, name = preset.optimizer, preset.optimizer.name
    found = {argument: text.replace(" ", "") for argument, text in read_extra(settings.extra)}
    if name.startswith("dadapt"):
        found.setdefault("weight_decouple", "True")
    if name == "adafactor":
        found.setdefault("scale_parameter", "False")
        if settings.schedule != "adafactor":
            found |= {"relative_step": "False", "warmup_init": "False"}
    homes: dict[str, list[float]] = {}
    for setting, (argument, place) in places(name).items():
        value = getattr(settings, setting)
        if not value and argument in homes and place is not None:
            value = ARGUMENTS[name][argument][1][place]
        elif not value and place == 0 and settings.beta2:
            value = ARGUMENTS[name][argument][1][0]
        if value:
            homes.setdefault(argument, []).append(value)
    found |= {argument: ",".join(f"{value:.12g}" for value in values) for argument, values in homes.items()}
    if name == "dadapt_sgd":
        found.setdefault("momentum", f"{ARGUMENTS[name]['momentum'][1]:.12g}")
    if name in _WITH_WARMUP and settings.warmup_steps:
        found["warmup_steps"] = str(settings.warmup_steps)
    return found


def schedule(preset: Preset, sheet: Sheet) -> None:
    settings = preset.optimizer
    name, has_warmup = settings.schedule, bool(settings.warmup_steps or settings.warmup_share)
    sheet.keys["lr_scheduler"] = "constant_with_warmup" if has_warmup else "constant"
    if name == "cosine":
        sheet.keys["lr_scheduler"] = "cosine_with_min_lr" if settings.min_ratio else "cosine"
    elif name in _SCHEDULES:
        sheet.keys["lr_scheduler"] = name
    elif name == "adafactor":
        sheet.keys["lr_scheduler"] = "adafactor"
    if settings.min_ratio and name in ("cosine", "warmup_stable_decay"):
        sheet.options["lr_scheduler_min_lr_ratio"] = settings.min_ratio
    if name == "polynomial":
        whole = sheet.keys["unet_lr"] or sheet.keys["learning_rate"]
        sheet.keys["lr_scheduler_args"] = f"lr_end={settings.min_ratio * whole:.12g}"
    if name == "warmup_stable_decay":
        sheet.options["lr_decay_steps"] = settings.decay_steps or min(settings.decay_share, _LARGEST_SHARE)
    if name == "piecewise_constant" and (rules := _step_rules(settings.points)):
        sheet.keys.update(lr_scheduler=name, lr_scheduler_args=f"step_rules={rules}")
    sheet.keys["lr_warmup_steps"] = settings.warmup_steps
    sheet.keys["lr_warmup"] = round(settings.warmup_share * 100, 9) if not settings.warmup_steps else 0


def _step_rules(points: str) -> str:
    """ "10:0.5, 20:0.1" as "1:10,0.5:20,0.1"; "" where a point is a share of the run, which they do not know."""
    pairs = [part.strip().partition(":") for part in points.split(",") if part.strip()]
    if not pairs or not all(step.strip().isdigit() for step, _, _ in pairs):
        return ""
    if int(pairs[0][0]) != 0:
        pairs = [("0", ":", "1"), *pairs]
    steps, factors = [step.strip() for step, _, _ in pairs], [factor.strip() for _, _, factor in pairs]
    return ",".join([*(f"{factor}:{end}" for factor, end in zip(factors, steps[1:], strict=False)), factors[-1]])
