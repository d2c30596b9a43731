"""engine/kohya/layers.py: block weights, LyCORIS' presets of layers and LoRA+ of kohya_ss and sd-scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import REFERENCE

from engine import kohya
from engine.kohya.layers import block_rates
from engine.sections.adapter import Adapter

PROBES = json.loads((REFERENCE / "network_args_probes.json").read_text(encoding="utf-8"))


def adapter_of(found: kohya.Import) -> Adapter:
    assert found.preset is not None
    return found.preset.adapter


def of_preset(tmp_path: Path, **content: Any) -> kohya.Import:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({"LoRA_type": "Standard", "sdxl": True, **content}), encoding="utf-8")
    return kohya.read(path)


def of_toml(tmp_path: Path, *network_args: str) -> kohya.Import:
    path = tmp_path / "theirs.toml"
    path.write_text(f'network_module = "networks.lora"\nnetwork_args = {json.dumps(network_args)}\n', encoding="utf-8")
    return kohya.read(path)


def numbers(text: str | None) -> list[float]:
    assert text is not None
    return [float(word) for word in text.split(",")]


def test_curves_and_lists_give_the_weights_that_sd_scripts_gives() -> None:
    given = {"down_lr_weight": "sine+.25", "mid_lr_weight": "1,1,1", "up_lr_weight": "cosine"}
    assert numbers(block_rates(given)) == pytest.approx(PROBES["sine"]["block_lr_weight"], abs=1e-8)
    given = {"down_lr_weight": ",".join(["0.5"] * 9)}
    assert numbers(block_rates(given)) == PROBES["down_lr_weight 9"]["block_lr_weight"]
    assert numbers(block_rates({"down_lr_weight": "zeros"})) == PROBES["zeros down"]["block_lr_weight"]


def test_one_number_counts_for_all_blocks_of_its_side() -> None:
    """sd-scripts crashes on it, and on a list of another length."""
    assert PROBES["down_lr_weight scalar '1.0'"].startswith("TypeError")
    assert numbers(block_rates({"up_lr_weight": "0.5"})) == [1.0] * 13 + [0.5] * 9 + [1.0]
    assert numbers(block_rates({"mid_lr_weight": "0.5, 0.2", "block_lr_zero_threshold": "0.3"}))[10:13] == [0.5, 0, 1]
    assert block_rates({"down_lr_weight": "much"}) is None
    assert numbers(block_rates({"down_lr_weight": "-1"}))[1:10] == [0] * 9  # up to the threshold is 0, as there


def test_block_weights_of_a_kohya_preset_become_settings(tmp_path: Path) -> None:
    found = of_preset(
        tmp_path, down_lr_weight="0,0,0,0,0,0,0,0,0", up_lr_weight="0.5", block_dims="4," * 22 + "8", block_alphas="2",
        conv_block_dims="2", conv_dim=4, loraplus_lr_ratio=16, loraplus_text_encoder_lr_ratio=4,
        LoRA_type="Kohya LoCon",
    )  # fmt: skip
    adapter = adapter_of(found)
    assert numbers(adapter.block_rates) == [1] + [0] * 9 + [1] * 3 + [0.5] * 9 + [1]
    assert numbers(adapter.block_ranks) == [4] * 22 + [8]
    assert (adapter.block_alphas, adapter.conv_block_ranks) == ("2", "2")
    assert (adapter.loraplus_unet_ratio, adapter.loraplus_text_ratio) == (16, 4)
    assert not {"block_dims", "up_lr_weight", "loraplus_lr_ratio"} & {line.key for line in found.receipt.ignored_effect}


def test_network_arguments_become_the_same_settings(tmp_path: Path) -> None:
    found = of_toml(tmp_path, "mid_lr_weight=0.5", "block_dims=" + ",".join(["4"] * 23), "loraplus_unet_lr_ratio=8")
    adapter = adapter_of(found)
    assert numbers(adapter.block_rates) == [1] * 10 + [0.5] * 3 + [1] * 10
    assert numbers(adapter.block_ranks) == [4] * 23
    assert (adapter.loraplus_unet_ratio, adapter.loraplus_text_ratio) == (8, 1)
    assert [line.key for line in found.receipt.converted if line.key == "network_args"] == ["network_args"]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    found = of_toml(tmp_path, "block_dims=4,4", "down_lr_weight=some")
    [line] = [line for line in found.receipt.ignored_effect if line.key == "network_args"]
    assert "block_dims=4,4" in line.note
    assert "down_lr_weight=some" in line.note
    ignored = {line.key: line.note for line in of_preset(tmp_path, block_dims="4,4").receipt.ignored_effect}
    assert "23" in ignored["block_dims"]


@pytest.mark.parametrize(("theirs", "ours"), [("attn-only", "attention"), ("full", "all"), ("mine.toml", "all")])
def test_lycoris_presets_of_layers(tmp_path: Path, theirs: str, ours: str) -> None:
    found = of_preset(tmp_path, LoRA_type="LyCORIS/LoCon", LyCORIS_preset=theirs)
    assert adapter_of(found).blocks == ours
    told = [line.key for line in found.receipt.ignored_effect]
    assert ("LyCORIS_preset" in told) == (theirs == "mine.toml")


def test_a_lycoris_type_has_no_block_weights(tmp_path: Path) -> None:
    found = of_preset(tmp_path, LoRA_type="LyCORIS/LoCon", block_dims="4")
    assert adapter_of(found).block_ranks == ""
    assert [line.key for line in found.receipt.ignored_effect if line.key == "block_dims"] == ["block_dims"]


def test_adapters_to_merge_take_their_strengths(tmp_path: Path) -> None:
    path = tmp_path / "theirs.toml"
    path.write_text('base_weights = ["a.safetensors", "b.safetensors"]\nbase_weights_multiplier = [0.5]\n')
    found = kohya.read(path)
    assert found.preset is not None
    assert found.preset.model.merged_adapters.splitlines() == ["a.safetensors: 0.5", "b.safetensors: 1"]
    assert {"base_weights", "base_weights_multiplier"} <= {line.key for line in found.receipt.converted}


def test_a_file_to_start_from_and_its_ranks(tmp_path: Path) -> None:
    found = of_preset(tmp_path, network_weights="before.safetensors", dim_from_weights=True)
    assert (adapter_of(found).start_from, adapter_of(found).rank_from_file) == ("before.safetensors", True)


def test_dropouts_and_the_norm_limit(tmp_path: Path) -> None:
    found = adapter_of(
        of_preset(tmp_path, network_dropout=0.1, rank_dropout=0.2, module_dropout=0.3, scale_weight_norms=1)
    )
    assert (found.network_dropout, found.rank_dropout, found.module_dropout, found.norm_limit) == (0.1, 0.2, 0.3, 1)
    found = adapter_of(of_toml(tmp_path, "rank_dropout=0.2", "module_dropout=0.3"))
    assert (found.rank_dropout, found.module_dropout) == (0.2, 0.3)
