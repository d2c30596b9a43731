"""engine/plan_adapter.py: a rank that a layer cannot have, and what other programs would make of the file."""

from __future__ import annotations

import re
from typing import Any

import pytest
from adapter_models import small
from test_layer_choice import config_of, preset

from engine.plan_adapter import reader_warnings, split_problems
from engine.sdxl.configs import ModelConfig


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return config_of(small())


WARNED = {
    "alphas that differ": ({"layer_settings": "*attn2*: alpha 4"}, "adapter.alpha", r"different alphas \(4, 16\)"),
    "(IA)³": ({"algorithm": "ia3"}, "adapter.algorithm", "ComfyUI and Forge do not read"),
    "DoRA by output": ({"algorithm": "dora", "dora_norm": "output"}, "adapter.dora_norm", "ComfyUI takes magnitudes"),
    "rescaled OFT": ({"algorithm": "oft", "rescaled": True}, "adapter.rescaled", "pass over the factors"),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_a_reader_would_take_otherwise_is_told(config: ModelConfig, name: str) -> None:
    values, where, sentence = WARNED[name]
    [warning] = reader_warnings(config, preset(**values).adapter)
    assert warning.where == where
    assert re.search(sentence, warning.message)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rank": 8, "conv_rank": 4, "conv_alpha": 1.0},
        {"layer_settings": "*ff*: alpha 4"},
        {"algorithm": "dora"},
        {"text_encoder_1": True, "layer_settings": "*_te1_*: alpha 4"},
    ],
)
def test_what_all_read_alike_is_not_spoken_of(config: ModelConfig, values: dict[str, Any]) -> None:
    assert reader_warnings(config, preset(**values).adapter) == []


def test_boft_is_told_the_widths_that_it_cannot_split(config: ModelConfig) -> None:
    assert split_problems(config, preset(algorithm="boft", rank=8).adapter) == []
    config = ModelConfig(**{**vars(config), "unet": {**config.unet, "block_out_channels": (320, 640, 1280)}})
    [problem] = split_problems(config, preset(algorithm="boft", rank=8).adapter)
    assert problem.where == "adapter.rank"
    assert "BOFT cannot split layers of 640, 1280, 5120, 10240 outputs at this rank (got 8)" in problem.message
    assert split_problems(config, preset(algorithm="boft", rank=10).adapter) == []


def test_oft_is_told_the_widths_of_which_no_block_would_turn(config: ModelConfig) -> None:
    assert split_problems(config, preset(algorithm="oft", rank=8).adapter) == []
    [problem] = split_problems(config, preset(algorithm="oft", rank=32, conv_rank=32).adapter)
    assert "OFT cannot split layers of 32 outputs at this rank (got 32). Choose a smaller one" in problem.message
