"""Optimizers, their arguments and schedules of other trainers: taken over, or told with the reason."""

from __future__ import annotations

import json

import pytest

from engine import kohya
from engine.kohya.optimizer import NAMES, REFUSED
from engine.optimizer_kinds import OPTIMIZERS
from engine.schedules import rate_curve

# What sd-scripts takes for --optimizer_type, and kohya_ss offers, with ours
KNOWN = {
    "AdamW": "adamw", "AdamW8bit": "adamw_8bit", "PagedAdamW": "paged_adamw", "PagedAdamW32bit": "paged_adamw",
    "PagedAdamW8bit": "paged_adamw_8bit", "Lion": "lion", "Lion8bit": "lion_8bit", "PagedLion8bit": "paged_lion_8bit",
    "SGDNesterov": "sgd_nesterov", "SGDNesterov8bit": "sgd_nesterov_8bit", "Adafactor": "adafactor",
    "DAdaptation": "dadapt_adam", "DAdaptAdamPreprint": "dadapt_adam", "DAdaptAdam": "dadapt_adam",
    "DAdaptAdaGrad": "dadapt_adagrad", "DAdaptLion": "dadapt_lion", "DAdaptSGD": "dadapt_sgd", "Prodigy": "prodigy",
    "AdamWScheduleFree": "adamw_schedule_free", "RAdamScheduleFree": "radam_schedule_free",
    "SGDScheduleFree": "sgd_schedule_free", "bitsandbytes.optim.AdEMAMix8bit": "ademamix_8bit",
    "bitsandbytes.optim.PagedAdEMAMix8bit": "paged_ademamix_8bit", "pytorch_optimizer.CAME": "came",
    "prodigyplus.ProdigyPlusScheduleFree": "prodigy_plus_schedule_free", "torch.optim.AdamW": "adamw",
    "prodigyplus.prodigy_plus_schedulefree.ProdigyPlusScheduleFree": "prodigy_plus_schedule_free",
    "pytorch_optimizer.Adan": "adan", "pytorch_optimizer.StableAdamW": "stable_adamw",
    "bitsandbytes.optim.Lion": "lion",
    "transformers.optimization.Adafactor": "adafactor", "prodigyopt.Prodigy": "prodigy", "": "adamw",
}  # fmt: skip


def of_toml(tmp_path, **values: object) -> kohya.Import:
    """Rates of 1 go with every optimizer."""
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in {"unet_lr": 1.0, "network_train_unet_only": True, **values}.items()
    ]
    path = tmp_path / "a.toml"
    path.write_text("\n".join(lines) + "\n")
    return kohya.read(path)


def note_of(found: kohya.Import, key: str) -> str:
    return next(line.note for line in found.receipt.lines() if line.key == key)


@pytest.mark.parametrize("name", KNOWN)
def test_optimizers_are_found_by_name_or_class(tmp_path, name):
    found = of_toml(tmp_path, optimizer_type=name, lr_scheduler="constant")
    assert found.problems == ()
    assert found.preset is not None and found.preset.optimizer.name == KNOWN[name]


def test_every_optimizer_here_has_a_name_there():
    assert set(NAMES.values()) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", [*REFUSED, "torch.optim.LBFGS"])
def test_optimizers_that_are_not_here_are_told_with_the_reason(tmp_path, name):
    found = of_toml(tmp_path, optimizer_type=name)
    assert "optimizer_type" in [line.key for line in found.receipt.ignored_effect]
    assert "AdamW" in note_of(found, "optimizer_type")


# optimizer, its arguments there → settings
ARGUMENTS = {
    "betas and decay": ("AdamW", ["betas=0.9,0.95", "weight_decay=0.1"],
        {"beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1, "extra": ""}),
    "none": ("Lion", [], {"weight_decay": 0.0, "extra": ""}),
    "AdamW's own decay": ("AdamW8bit", [], {"weight_decay": 0.01}),
    "renamed": ("Prodigy", ["decouple=True", "use_bias_correction=True", "safeguard_warmup=True", "d_coef=2"],
        {"extra": "weight_decouple=True, bias_correction=True, safeguard_warmup=True, d_coef=2"}),
    "coupled decay there": ("DAdaptAdam", ["weight_decay=0.1"],
        {"extra": "weight_decouple=False", "weight_decay": 0.1}),
    "no momentum there": ("DAdaptSGD", ["decouple=True"], {"extra": "weight_decouple=True, momentum=0.0"}),
    "three betas": ("pytorch_optimizer.CAME", ["betas=0.9,0.99,0.999"],
        {"extra": "betas=0.9,0.99,0.999", "beta1": 0.0}),
    "one rate": ("Adafactor", ["relative_step=False", "scale_parameter=False", "warmup_init=False"],
        {"schedule": "constant", "extra": "scale_parameter=False", "unet_rate": 0.5}),
    "its own rate": ("Adafactor", [], {"schedule": "adafactor", "unet_rate": 1.0, "extra": "scale_parameter=True"}),
    "warm-up of its own": ("AdamWScheduleFree", ["warmup_steps=50"], {"schedule": "constant", "warmup_steps": 50}),
}  # fmt: skip


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_become_settings_or_extra(tmp_path, case):
    name, arguments, expected = ARGUMENTS[case]
    found = of_toml(tmp_path, optimizer_type=name, optimizer_args=arguments, lr_scheduler="constant", unet_lr=0.5)
    assert found.preset is not None, found.problems
    assert {key: getattr(found.preset.optimizer, key) for key in expected} == expected
    assert "optimizer_args" not in [line.key for line in found.receipt.ignored_effect]


@pytest.mark.parametrize("argument", ["nonsense=1", "d0=much", "warmup_init=True", "betas=0.9"])
def test_arguments_that_cannot_be_taken_over_are_named(tmp_path, argument):
    found = of_toml(tmp_path, optimizer_type="Prodigy", optimizer_args=[argument], lr_scheduler="constant")
    assert found.preset is not None
    assert argument in note_of(found, "optimizer_args")


# arguments there → settings, and factors at steps of a run of 100
SCHEDULES = {
    "restarts": ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 2}, {49: 0.0, 50: 1.0}),
    "one cycle": ({"lr_scheduler": "cosine_with_restarts"}, {50: 0.5}),
    "polynomial": ({"lr_scheduler": "polynomial", "lr_scheduler_power": 2.0}, {50: 0.25}),
    "least rate": ({"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1}, {100: 0.1}),
    "least rate, absolute": (
        {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_args": ["min_lr=0.2"]}, {0: 1.0, 100: 0.2}),
    "timescale": ({"lr_scheduler": "inverse_sqrt", "lr_scheduler_timescale": 25}, {75: 0.5}),
    "decay in steps": ({"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 20}, {80: 1.0, 90: 0.5}),
    "decay as a share": ({"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": "40%"}, {60: 1.0, 80: 0.5}),
    "piecewise": (
        {"lr_scheduler": "piecewise_constant", "lr_scheduler_args": ["step_rules=1:10,0.1:20,0.01"]},
        {9: 1.0, 10: 0.1, 20: 0.01}),
    "warm-up": ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 0.1}, {5: 0.5, 10: 1.0}),
    "schedule-free": (
        {"optimizer_type": "SGDScheduleFree", "lr_scheduler": "cosine", "lr_warmup_steps": 10}, {0: 1.0, 99: 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedules_follow_the_same_curve(tmp_path, case):
    values, factors = SCHEDULES[case]
    found = of_toml(tmp_path, **values)
    assert found.preset is not None, found.problems
    curve = rate_curve(found.preset.optimizer, 100)
    assert {step: curve(step) for step in factors} == pytest.approx(factors, abs=2e-3)


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "adafactor:0.1", "nonsense"])
def test_schedules_that_are_not_here_are_told(tmp_path, name):
    found = of_toml(tmp_path, lr_scheduler=name)
    assert found.preset is not None and found.preset.optimizer.schedule == "constant"
    assert "lr_scheduler" in [line.key for line in found.receipt.ignored_effect]
    assert note_of(found, "lr_scheduler")


@pytest.mark.parametrize(
    ("key", "value"), [("lr_scheduler_num_cycles", 4), ("lr_scheduler_power", 3.0), ("lr_scheduler_timescale", 5),
                       ("lr_scheduler_min_lr_ratio", 0.5), ("lr_decay_steps", 9)],
)  # fmt: skip
def test_numbers_of_other_schedules_had_no_effect(tmp_path, key, value):
    assert "no effect there either" in note_of(of_toml(tmp_path, lr_scheduler="linear", **{key: value}), key)
