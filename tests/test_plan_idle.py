"""A changed setting that does nothing with the others as they are is told, one that does something is not."""

from __future__ import annotations

from typing import Any

import pytest

from engine.plan_idle import VALIDATION, idle_warnings, late_warnings
from engine.preset import BY_PATH, Preset

# A changed setting, and what gives it something to do
IDLE: dict[str, tuple[Any, dict[str, Any]]] = {
    "loss.huber_threshold": (0.5, {"loss.kind": "huber"}),
    "loss.huber_schedule": ("constant", {"loss.kind": "smooth_l1"}),
    "loss.p2_k": (2.0, {"loss.p2_gamma": 1.0}),
    "loss.mask_outside": (0.5, {"loss.mask": "alpha"}),
    "noise.pyramid_discount": (0.2, {"noise.pyramid_levels": 6}),
    "noise.pyramid_levels": (1, {"noise.pyramid_levels": 2}),
    "adapter.loraplus_text_ratio": (4.0, {"adapter.text_encoder_1": True, "captions.cache_text": False}),
    "adapter.conv_alpha": (3.0, {"adapter.conv_rank": 4}),
    "captions.token_warmup_min": (3, {"captions.token_warmup": 10.0}),
    "run.ema_warmup": (False, {"run.ema_decay": 0.9}),
    "validation.bands": (7, {"validation.share": 0.1}),
    "logging.project": ("mine", {"logging.tracker": "tensorboard"}),
}


@pytest.mark.parametrize("path", IDLE)
def test_an_idle_setting_is_told_until_it_has_something_to_do(path: str):
    value, remedy = IDLE[path]
    (warning,) = idle_warnings(Preset().changed({path: value}), ())
    assert warning.where == path and str(value) in warning.message
    assert idle_warnings(Preset().changed({path: value, **remedy}), ()) == []


def test_defaults_are_never_told():
    assert idle_warnings(Preset(), ()) == []


def test_every_validation_setting_is_watched():
    others = {"share", "folder", "patience"}
    assert set(VALIDATION) == {item.name for item in BY_PATH.values() if item.section == "validation"} - others


WITH_TEXT = {"adapter.text_encoder_1": True, "captions.cache_text": False}
# A setting, a value that comes within 100 steps or 4 epochs, one that does not, and what it takes to count at all
LATE: dict[str, tuple[float, float, dict[str, Any]]] = {
    "run.save_every_steps": (100, 101, {}),
    "run.save_every_epochs": (4, 5, {}),
    "run.state_every_steps": (100, 101, {}),
    "sample.every_steps": (100, 101, {"sample.prompts": "a cat"}),
    "sample.every_epochs": (4, 5, {"sample.prompts": "a cat"}),
    "validation.every_steps": (100, 101, {"validation.share": 0.1}),
    "validation.every_epochs": (4, 5, {"validation.share": 0.1}),
    "captions.dropout_every_epochs": (4, 5, {}),
    "adapter.text_encoder_stop": (99, 100, WITH_TEXT),
}


@pytest.mark.parametrize("path", LATE)
def test_what_would_come_after_the_end_is_told(path: str):
    in_time, late, partners = LATE[path]
    assert late_warnings(Preset().changed({path: in_time, **partners}), 100, 4) == []
    (warning,) = late_warnings(Preset().changed({path: late, **partners}), 100, 4)
    assert warning.where == path and "never comes" in warning.message
    assert late_warnings(Preset(), 1, 1) == []
