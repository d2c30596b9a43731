"""engine/adapters/metadata.py: entries equal to those that kohya's trainer wrote for the same facts."""

from __future__ import annotations

import json
from ast import literal_eval
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from conftest import REFERENCE

from engine.adapters.metadata import (
    ModelCard,
    TrainingFacts,
    base_model_hash,
    buckets,
    build_metadata,
    file_sha256,
    folders,
    tags,
)

EXAMPLES = json.loads((REFERENCE / "lora_metadata.json").read_text())
NOT_OURS = {"ss_sd_scripts_commit_hash", "modelspec.implementation_version", "sshs_model_hash", "sshs_legacy_hash"}
TEXTS = {"output_name", "mixed_precision", "optimizer", "sd_model_name", "sd_model_hash", "new_sd_model_hash"}


def value_of(name: str, text: str) -> Any:
    """The Python value behind a metadata text."""
    if name in TEXTS:
        return text
    if text[:1] == "{":
        return json.loads(text)
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def facts_of(metadata: dict[str, str], names: set[str]) -> TrainingFacts:
    return TrainingFacts(**{name: value_of(name, metadata[f"ss_{name}"]) for name in names if f"ss_{name}" in metadata})


@pytest.mark.parametrize("example", ["full_unet_only", "full_te_trained", "reduced_conv"])
def test_the_same_facts_give_the_same_entries(example: str) -> None:
    expected = EXAMPLES[example]
    facts = facts_of(expected, {each.name for each in fields(TrainingFacts)})
    got = build_metadata(facts, "epsilon")
    assert {key: text for key, text in got.items() if key not in NOT_OURS} == {
        key: text for key, text in expected.items() if key not in NOT_OURS
    }


def test_what_was_not_used_is_written_as_kohya_s_trainer_writes_it() -> None:
    """Only the facts without a default are given: every other entry of a plain run comes out the same."""
    expected = EXAMPLES["full_unet_only"]
    needed = {each.name for each in fields(TrainingFacts) if each.default is each.default_factory is MISSING}
    got = build_metadata(facts_of(expected, needed), "epsilon")
    data = {"ss_dataset_dirs", "ss_tag_frequency", "ss_bucket_info", "ss_max_bucket_reso", "ss_min_bucket_reso"}
    model = {"ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash"}
    skipped = NOT_OURS | data | model
    assert {key: got.get(key) for key in expected if key not in skipped} == {
        key: text for key, text in expected.items() if key not in skipped
    }


def test_v_prediction_and_what_people_read_are_in_the_model_spec() -> None:
    facts = facts_of(EXAMPLES["full_unet_only"], {each.name for each in fields(TrainingFacts)})
    card = ModelCard(title="Zkt", trigger_phrase="zkt", license="CC0")
    got = build_metadata(facts, "v_prediction", card, version="0.1.0")
    assert got["modelspec.prediction_type"] == "v"
    assert got["modelspec.title"] == "Zkt"
    assert got["modelspec.trigger_phrase"] == "zkt"
    assert got["modelspec.implementation_version"] == "atelier/0.1.0"
    assert "modelspec.author" not in got


def test_folders_of_one_name_add_up() -> None:
    assert folders([("10_zkt", 10, 3), ("10_zkt", 10, 4), ("1_reg", 1, 2)]) == {
        "10_zkt": {"n_repeats": 10, "img_count": 7},
        "1_reg": {"n_repeats": 1, "img_count": 2},
    }


def test_buckets_are_numbered_by_size() -> None:
    expected = value_of("bucket_info", EXAMPLES["full_unet_only"]["ss_bucket_info"])
    counts = {tuple(row["resolution"]): row["count"] for row in reversed(list(expected["buckets"].values()))}
    assert buckets(counts, expected["mean_img_ar_error"]) == expected


def test_tags_are_counted_per_folder_in_small_letters() -> None:
    assert tags({"1_a": ["Sks, 1girl,, solo", "sks , 1girl"], "1_b": ["sks"]}) == {
        "1_a": {"sks": 2, "1girl": 2, "solo": 1},
        "1_b": {"sks": 1},
    }


def test_hashes_of_a_model_file(tmp_path: Path) -> None:
    import hashlib

    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert base_model_hash(tmp_path / "a") == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
