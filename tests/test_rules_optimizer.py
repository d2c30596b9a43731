"""Rules for optimizer, rates and schedule: what is refused, and what is only warned about."""

from __future__ import annotations

import pytest

from engine.errors import PresetError
from engine.preset import Preset
from engine.rules.optimizer import rate_warnings


def problems_of(**values: object) -> dict[str, str]:
    """{where: message} of a preset; `adapter__rank` sets adapter.rank."""
    try:
        Preset().changed({key.replace("__", "."): value for key, value in values.items()})
    except PresetError as error:
        return {problem.where: problem.message for problem in error.problems}
    return {}


PRODIGY = {"optimizer__name": "prodigy", "optimizer__unet_rate": 1.0}
FINER = {
    "adapter.loraplus_unet_ratio": {"adapter__loraplus_unet_ratio": 16.0},
    "adapter.block_rates": {"adapter__block_rates": ",".join(["1"] * 22 + ["0.5"])},
    "adapter.layer_settings": {"adapter__layer_settings": "*attn2*: rate 0.5"},
}


@pytest.mark.parametrize("where", FINER)
def test_optimizers_with_one_rate_refuse_rates_of_single_layers(where):
    assert "one learning rate" in problems_of(**PRODIGY, **FINER[where])[where]
    assert where not in problems_of(optimizer__name="adamw", **FINER[where])


def test_blocks_that_are_left_out_are_no_second_rate():
    assert problems_of(**PRODIGY, adapter__block_rates=",".join(["1"] * 22 + ["0"])) == {}


@pytest.mark.parametrize("name", ["prodigy", "dadapt_adam", "prodigy_plus_schedule_free"])
def test_a_rate_that_was_meant_for_adamw_is_told(name):
    found = problems_of(optimizer__name=name, optimizer__schedule="constant")
    assert "Set it to 1" in found["optimizer.unet_rate"]
    assert problems_of(optimizer__name=name, optimizer__schedule="constant", optimizer__unet_rate=0.5) == {}


def test_adafactor_s_own_rate_needs_a_multiplier_too():
    found = problems_of(optimizer__name="adafactor", optimizer__schedule="adafactor")
    assert "the schedule adafactor finds the learning rate" in found["optimizer.unet_rate"]
    values = {"optimizer__name": "adafactor", "optimizer__unet_rate": 1.0}
    assert problems_of(**values, optimizer__schedule="adafactor") == {}


def test_prodigy_plus_without_its_averages_takes_any_schedule():
    values = {**PRODIGY, "optimizer__name": "prodigy_plus_schedule_free"}
    assert "optimizer.schedule" in problems_of(**values)
    assert problems_of(**values, optimizer__extra="use_schedulefree = False") == {}


@pytest.mark.parametrize(("values", "where", "words"), [
    ({"optimizer.unet_rate": 1.0}, "optimizer.unet_rate", "1 is very high for adamw"),
    ({"optimizer.beta1": 0.99, "optimizer.beta2": 0.9}, "optimizer.beta2", "the other way round"),
])  # fmt: skip
def test_what_is_seldom_meant_is_a_warning(values, where, words):
    (warning,) = rate_warnings(Preset().changed(values))
    assert warning.where == where and words in warning.message
    assert not list(rate_warnings(Preset()))
