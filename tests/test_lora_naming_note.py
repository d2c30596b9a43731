"""The note for the way back to a LoRA's first naming: not followed where it does not fit the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.adapter_config import METADATA_KEY, alpha_in
from engine.adapter_header import AdapterHeader, known_adapter, read_adapter
from engine.lora_tools.naming_note import NOTE
from engine.lora_tools.renaming import rename
from engine.lora_tools.stream import HASHES, Entry, kohya_hashes, literal, write_stream
from engine.lora_tools.writing import HISTORY, with_history
from tests.renamed_loras import contents, lora, noise, write

ATTENTION = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
FC1 = "lora_te1_text_model_encoder_layers_0_mlp_fc1"


def written(folder: Path, entries: dict[str, Entry], metadata: dict[str, str]) -> AdapterHeader:
    write_stream(folder / "a.safetensors", entries, metadata)
    return read_adapter(folder / "a.safetensors")


@pytest.mark.parametrize(
    "wrong",
    [
        {"from": ["kohya"]}, {"from": 5}, {"spelled": 5}, {"spelled": {f"{FC1}.alpha": 5}},
        {"spelled": {f"{FC1}.alpha": f"{FC1}.lora_up.weight"}}, {"spelled": {f"{FC1}.lora_up.weight": "anything"}},
        {"spelled": {f"{FC1}.lora_up.weight": f"{ATTENTION}.lora_up.weight"}},
        {"alphas": {FC1: 7}}, {"alphas": {FC1: ["Q8", []]}}, {"alphas": {FC1: ["F32", [3]]}},
        {"alphas": {FC1: ["F32"]}}, {"alphas": 3}, {"magnitudes": 5}, {"magnitudes": {FC1: "x"}},
        {"magnitudes": {FC1: [3, 3]}},
        {"magnitudes": {FC1: [-8, -1]}}, {"hashes": 3}, {"hashes": {"sshs_model_hash": 5}},
        {"hashes": {"sshs_model_hash": "not its own", "ss_base_model_version": "other"}},
        {"layers_per_block": -1}, {"layers_per_block": True}, {"layers_per_block": 9}, {"config": 4},
        {"configs": {"unet": 5}}, {"unknown": 3},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("way", ["diffusers", "peft", "lycoris"])
def test_a_wrong_note_harms_nothing(tmp_path: Path, wrong: dict[str, Any], way: Any) -> None:
    """There and back with the note of the first way made wrong: the same tensors, under names that are right."""
    first = written(tmp_path, lora([FC1, ATTENTION], 2, "F32", True), {"x": "y"})
    there = write(tmp_path / "there", first, way)
    said = json.loads(there.metadata[NOTE])
    assert said["from"] == "kohya" and said["alphas"].keys() == {FC1, ATTENTION}
    there.metadata[NOTE] = json.dumps(said | wrong)
    back = write(tmp_path / "back", there, "kohya")
    assert {name: content[2] for name, content in contents(back).items()} == {
        name: content[2] for name, content in contents(first).items()
    }
    assert {key: text for key, text in back.metadata.items() if key not in (*HASHES, NOTE)} == {"x": "y"}
    if "sshs_model_hash" in back.metadata:
        assert (
            back.metadata["sshs_model_hash"] == kohya_hashes(rename(back, "kohya")[""].entries, {})["sshs_model_hash"]
        )


@pytest.mark.parametrize(
    "text", ["", "[1]", "null", '"kohya"', "{", '{"from": "kohya"}', '{"from": "peft"}', "[" * 9999]
)
@pytest.mark.parametrize("way", ["kohya", "diffusers", "peft"])
def test_a_foreign_or_a_short_note_is_no_hindrance(tmp_path: Path, text: str, way: Any) -> None:
    first = written(tmp_path, lora([FC1], 2, "F16", False), {NOTE: text})
    back = write(tmp_path / "back", write(tmp_path / "there", first, way), "lycoris")
    assert back.layers.keys() == {FC1} and back.rank_of(FC1) == 2


@pytest.mark.parametrize("naming", ["peft", "diffusers", "diffusers_old"])
@pytest.mark.parametrize("rank, alpha", [(3, 2.0), (2, 4.0)])
def test_a_file_that_was_changed_meanwhile_gets_a_configuration_that_says_so(
    tmp_path: Path, naming: Any, rank: int, alpha: float
) -> None:
    """Other programs carry metadata along when they resize."""
    first = written(tmp_path, lora([FC1], 2, "F32", False), {})
    dotted = write(tmp_path / "dotted", first, naming)
    dotted.metadata.pop(NOTE, None)
    kohya = write(tmp_path / "kohya", dotted, "kohya")
    assert dotted.alpha_of(FC1) == kohya.alpha_of(FC1) == 2.5
    resized = {
        f"{FC1}.lora_down.weight": noise((rank, 4), "F16", 1),
        f"{FC1}.lora_up.weight": noise((8, rank), "F16", 2),
        f"{FC1}.alpha": literal("F32", (), {2.0: b"\0\0\0\x40", 4.0: b"\0\0\x80\x40"}[alpha]),
    }
    write_stream(tmp_path / "resized.safetensors", resized, kohya.metadata)
    back = write(tmp_path / "back", read_adapter(tmp_path / "resized.safetensors"), naming)
    assert (back.rank_of(FC1), back.alpha_of(FC1)) == (rank, alpha)
    config = back.configs["text_encoder_1"]
    assert (config["r"], config["lora_alpha"]) == (rank, alpha)


def test_hashes_are_those_of_the_file_that_holds_them_also_when_it_was_changed_meanwhile(tmp_path: Path) -> None:
    entries = lora([FC1], 2, "F32", False)
    first = written(tmp_path, entries, kohya_hashes(entries, {}))
    there = write(tmp_path / "there", first, "diffusers")
    changed = rename(there, "diffusers")[""].entries
    name = next(name for name in changed if "lora_A" in name)
    write_stream(tmp_path / "changed.safetensors", changed | {name: noise((2, 4), "F16", 99)}, there.metadata)
    back = write(tmp_path / "back", read_adapter(tmp_path / "changed.safetensors"), "kohya")
    plain = {key: text for key, text in back.metadata.items() if key not in HASHES}
    assert {key: back.metadata[key] for key in HASHES} == kohya_hashes(rename(back, "kohya")[""].entries, plain)
    assert back.metadata["sshs_model_hash"] != first.metadata["sshs_model_hash"]


@pytest.mark.parametrize(
    "dtype, content", [("U8", b"\x02"), ("I16", b"\x02\0"), ("I64", b"\x02" + bytes(7)), ("F64", bytes(7) + b"\x40")]
)
def test_alphas_of_rare_number_formats_come_back(tmp_path: Path, dtype: str, content: bytes) -> None:
    entries = lora([FC1], 2, "", False) | {f"{FC1}.alpha": literal(dtype, (1,), content)}
    first = written(tmp_path, entries, {})
    back = write(tmp_path / "back", write(tmp_path / "there", first, "diffusers"), "kohya")
    assert first.alpha_of(FC1) == 2 and contents(back) == contents(first)


def test_an_alpha_that_does_not_fit_its_old_format_any_more_is_a_wide_one(tmp_path: Path) -> None:
    first = written(tmp_path, lora([FC1, ATTENTION], 2, "F16", False), {})
    there = write(tmp_path / "there", first, "diffusers")
    config = json.loads(there.metadata[METADATA_KEY])
    config["unet.lora_alpha"] = 70000.0
    write_stream(
        tmp_path / "edited.safetensors", rename(there, "diffusers")[""].entries,
        there.metadata | {METADATA_KEY: json.dumps(config)},
    )  # fmt: skip
    back = write(tmp_path / "back", known_adapter(tmp_path / "edited.safetensors"), "kohya")
    assert back.alpha_of(ATTENTION) == 70000
    assert back.layers[ATTENTION]["alpha"].dtype == "F32"


def test_tools_that_make_other_weights_drop_it(tmp_path: Path) -> None:
    assert with_history({NOTE: "{}", "x": "y"}, "resize", {}).keys() == {"x", HISTORY}


def test_a_pattern_that_would_take_for_ever_fits_nothing() -> None:
    path = "down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_q"
    assert alpha_in({"alpha_pattern": {r"(\w+\.?)+!": 1.0, r"attn\d\.to_q": 3.0}}, path, 4, "x") == 3
