"""engine/layer_choice.py, engine/sdxl/layers.py: which layers, told before anything is loaded, as they are attached."""

from __future__ import annotations

from typing import Any

import pytest
from adapter_models import full_size, small
from torch import nn

from engine.adapters.attach import attach
from engine.adapters.site import weight_shape
from engine.adapters.targets import all_targets
from engine.errors import ModelError, PresetError, Problem
from engine.layer_choice import BLOCK_CHOICES, chosen_layers, hits, layer_problems, read_choice
from engine.plan_sizes import adapter_parameters
from engine.preset import BY_PATH, Preset
from engine.recipe import recipe_of
from engine.sdxl.configs import ModelConfig
from engine.sdxl.layers import PREFIX, block_of, part_layers


def config_of(models: dict[str, nn.Module]) -> ModelConfig:
    text_1, text_2 = (models[f"text_encoder_{number}"].config.to_dict() for number in (1, 2))  # pyright: ignore
    return ModelConfig(unet=dict(models["unet"].config), text_1=text_1, text_2=text_2, vae={})  # pyright: ignore


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return small()


@pytest.fixture(scope="module")
def sdxl() -> ModelConfig:
    return config_of(full_size())


def preset(**values: Any) -> Preset:
    changes = {f"adapter.{name}": value for name, value in values.items()}
    return Preset().changed({**changes, "captions.cache_text": False})


def test_layers_are_told_from_the_configuration_as_they_are_in_the_model(models: dict[str, nn.Module]) -> None:
    config = config_of(models)
    for part, of_part in (("unet", config.unet), ("text_encoder_1", config.text_1), ("text_encoder_2", config.text_2)):
        assert of_part is not None
        told = {
            (layer.name, layer.kind, layer.outputs, layer.inputs, layer.kernel) for layer in part_layers(part, of_part)
        }
        found = set()
        for target in all_targets(part, models[part]):
            outputs, inputs, *kernel = weight_shape(target.module)
            found.add((target.name, target.kind, outputs, inputs, kernel[0] if kernel else 1))
        assert told == found
        assert len(told) == len(part_layers(part, of_part))


RANKS = ", ".join(["0", "0"] + ["2"] * 9 + ["3"] * 12)
CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "conv": {"conv_rank": 3},
    "a rank a block": {"block_ranks": RANKS},
    "a conv rank a block": {"block_ranks": RANKS, "conv_block_ranks": RANKS, "conv_block_alphas": "1"},
    "rates that leave blocks out": {"block_rates": " ".join(["0"] * 10 + ["0.5"] * 13), "conv_rank": 2},
    "one rate": {"block_rates": "0.5"},
    "lines": {
        "layer_settings": "*attn2*: rank 5\n*_te1_*: rank 1, alpha 2, rate 0.5\n*emb_layers*: rank 2\n*ff*: rank 0"
    },
    "patterns": {"include_layers": "*attn*, *mlp*\nre:ff_net_[02]$", "exclude_layers": "*to_k"},
    "norms": {"norms": True, "exclude_layers": "*_op"},
    "norms of some blocks": {"norms": True, "blocks": "up_blocks", "block_rates": ", ".join(["0"] * 14 + ["2"] * 9)},
    "full": {"algorithm": "full", "rank": 16, "blocks": "attention_and_feed_forward"},
    "full with convolutions": {"algorithm": "full", "full_convolutions": True, "rank": 16, "norms": True},
    "frozen halves": {"algorithm": "lora_fa"},
    "decomposed": {"algorithm": "dora", "conv_rank": 2},
    "decomposed by output": {"algorithm": "dora", "dora_norm": "output"},
    "Hadamard": {"algorithm": "loha", "conv_rank": 2},
    "Kronecker": {"algorithm": "lokr", "conv_rank": 2},
    "Kronecker of small matrices": {"algorithm": "lokr", "factor": 4, "decompose_both": True, "rank": 1},
    "Kronecker, whole": {"algorithm": "lokr", "full_matrix": True, "conv_rank": 2},
    "rotations": {"algorithm": "oft", "conv_rank": 2, "rescaled": True},
    "butterflies": {"algorithm": "boft", "conv_rank": 8},
    "cut to any rank": {"algorithm": "dylora", "block_size": 2},
    "factors": {"algorithm": "ia3", "rank": 16},
    "factors of inputs": {"algorithm": "ia3", "rank": 16, "on_input": True},
    "generalized": {"algorithm": "glora", "conv_rank": 2},
    "outer layers": {"outer_layers": True, "conv_rank": 2},
    **{f"blocks {name}": {"blocks": name, "conv_rank": 2} for name in BLOCK_CHOICES},
}


@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_the_parameters_that_the_plan_counts_are_those_that_are_attached(models, values: dict[str, Any]) -> None:
    wanted = preset(**{"rank": 4, "text_encoder_1": True, "text_encoder_2": True, **values})
    config = config_of(models)
    assert layer_problems(config, wanted.adapter) == []
    adapter = attach(models, recipe_of(wanted), device="cpu")
    adapter.detach()
    assert adapter_parameters(config, wanted) == adapter.parameter_count > 0
    told = {
        layer.name: (chosen.rank, chosen.alpha, chosen.rate) for layer, chosen in chosen_layers(config, wanted.adapter)
    }
    assert told == {site.target.name: (site.rank, site.alpha, site.rate) for site in adapter.sites}


def test_the_blocks_are_those_of_kohya_s_trainer(sdxl: ModelConfig) -> None:
    """Its block learning rates fall on these blocks of the 722 layers, and weights of 0 on the way down leave 474."""
    names = [layer.name for layer, _ in chosen_layers(sdxl, preset(rank=8).adapter)]
    assert len(names) == 722
    assert {block_of(name) for name in names} == {5, 6, 8, 9, 11, 13, 14, 15, 16, 17, 18}
    rates = "1, " + "0, " * 9 + "1 " * 13
    assert len(chosen_layers(sdxl, preset(block_rates=rates).adapter)) == 474
    assert block_of(PREFIX["text_encoder_1"] + "text_model_encoder_layers_0_mlp_fc1") is None
    assert [block_of(f"lora_unet_{name}") for name in ("time_embed_0", "input_blocks_0_0", "out_2")] == [0, 1, 22]


def test_every_block_has_its_own_rank_alpha_and_rate(sdxl: ModelConfig) -> None:
    numbers = " ".join(str(number) for number in range(1, 24))
    wanted = preset(block_ranks=numbers, block_alphas=numbers, block_rates=numbers, text_encoder_1=True)
    for layer, chosen in chosen_layers(sdxl, wanted.adapter):
        block = block_of(layer.name)
        own = (16, 16.0, 1.0) if block is None else (block + 1, block + 1, block + 1)
        assert (chosen.rank, chosen.alpha, chosen.rate) == own


def test_a_network_without_convolutions_after_one_with_them_has_none(models: dict[str, nn.Module]) -> None:
    """In kohya's trainer the second network of a process silently gets convolution layers of the first."""
    conv = attach({"unet": models["unet"]}, recipe_of(preset(rank=2, conv_rank=2)), device="cpu")
    conv.detach()
    plain = attach({"unet": models["unet"]}, recipe_of(preset(rank=2)), device="cpu")
    plain.detach()
    assert any(site.target.kind == "residual" for site in conv.sites)
    assert {site.target.kind for site in plain.sites} == {"attention"}


def test_b_lora_is_two_transformers_and_a_fraction_of_the_parameters(sdxl: ModelConfig) -> None:
    counts = {
        name: adapter_parameters(sdxl, preset(blocks=name)) for name in BLOCK_CHOICES if name != "residual_blocks"
    }
    assert counts["b_lora_content"] == counts["b_lora_style"] < counts["all"] / 5
    assert counts["b_lora"] == 2 * counts["b_lora_style"] < counts["up_blocks"] < counts["all"]
    style = [layer.name for layer, _ in chosen_layers(sdxl, preset(blocks="b_lora_style").adapter)]
    assert len(style) == 102
    assert all(name.startswith("lora_unet_output_blocks_1_1_") for name in style)


def test_what_is_said_of_a_layer_goes_before_its_block_and_the_last_line_before_the_first() -> None:
    choice = read_choice(
        preset(block_ranks="4", layer_settings="*attn2*: rank 8, rate 0.5\n*attn2_to_q: alpha 2, rank 6").adapter
    )
    name = "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_q"
    chosen = choice.of(name, "attention", 1)
    assert chosen is not None
    assert (chosen.rank, chosen.alpha, chosen.rate) == (6, 2.0, 0.5)
    assert choice.of(name.replace("attn2", "attn1"), "attention", 1).rank == 4  # pyright: ignore
    assert hits("re:attn[12]_to_q$", name)


def problems_of(**values: Any) -> list[Problem]:
    with pytest.raises(PresetError) as caught:
        preset(**values)
    return list(caught.value.problems)


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a word": ({"block_ranks": "4, four"}, "adapter.block_ranks", "whole number of at least 0 (got 'four')"),
    "22 ranks": ({"block_ranks": "4 " * 22}, "adapter.block_ranks", "(got 22)"),
    "half a rank": ({"conv_block_ranks": "4.5"}, "adapter.conv_block_ranks", "(got '4.5')"),
    "a negative rate": ({"block_rates": "-1"}, "adapter.block_rates", "at least 0 (got '-1')"),
    "a rate of nan": ({"block_rates": "nan"}, "adapter.block_rates", "(got 'nan')"),
    "no regular expression": ({"include_layers": "re:("}, "adapter.include_layers", "is not a regular expression"),
    "a line without values": ({"layer_settings": "*attn*"}, "adapter.layer_settings", "write lines like"),
    "an unknown value": ({"layer_settings": "*attn*: rnk 4"}, "adapter.layer_settings", "(got '*attn*: rnk 4')"),
    "one value of two": ({"layer_settings": "*attn*: rank 4, x 2"}, "adapter.layer_settings", "write lines like"),
    "alpha 0": ({"layer_settings": "*attn*: alpha 0"}, "adapter.layer_settings", "write lines like"),
    "residual blocks": ({"blocks": "residual_blocks"}, "adapter.blocks", "Set adapter.conv_rank"),
    "conv alphas": ({"conv_block_alphas": "1"}, "adapter.conv_block_alphas", "do nothing"),
    "no UNet": ({"unet": False, "text_encoder_1": True, "block_rates": "1"}, "adapter.block_rates", "not trained"),
    "blocks of no UNet": ({"unet": False, "text_encoder_1": True, "blocks": "b_lora"}, "adapter.blocks", "b_lora"),
}


@pytest.mark.parametrize(("values", "where", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_get_a_sentence_at_their_setting(values: dict[str, Any], where: str, words: str) -> None:
    found = problems_of(**values)
    assert [problem.where for problem in found] == [where]
    assert words in found[0].message


def test_a_pattern_that_hits_nothing_and_a_part_without_layers_are_told(sdxl: ModelConfig) -> None:
    wanted = preset(include_layers="*attn3*", exclude_layers="*te1*", layer_settings="x: rank 2")
    found = layer_problems(sdxl, wanted.adapter)
    assert [problem.where for problem in found] == [
        f"adapter.{name}" for name in ("include_layers", "exclude_layers", "layer_settings")
    ]
    assert "hits no layer (got '*attn3*')" in found[0].message
    wanted = preset(include_layers="*_unet_*", text_encoder_1=True)
    assert [problem.where for problem in layer_problems(sdxl, wanted.adapter)] == ["adapter.text_encoder_1"]
    assert [problem.where for problem in layer_problems(sdxl, preset(block_ranks="0").adapter)] == ["adapter.unet"]


def test_attaching_without_any_layer_is_refused(models: dict[str, nn.Module]) -> None:
    with pytest.raises(ModelError, match="no layer of it is chosen"):
        attach({"unet": models["unet"]}, recipe_of(preset(block_rates="0")))


def test_the_choices_of_blocks_are_those_of_the_schema() -> None:
    assert list(BY_PATH["adapter.blocks"].choices) == list(BLOCK_CHOICES)
