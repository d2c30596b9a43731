"""A changed setting that does nothing with the others as they are is told, one that does something is not."""

from __future__ import annotations

from typing import Any

import pytest

from engine.plan_idle import VALIDATION, idle_warnings
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
