"""What other trainers' presets say about saving, trackers, uploads, metadata and validation."""

from __future__ import annotations

import json

import pytest

from engine import kohya

EPOCHS = {"max_train_steps": 0, "epoch": 12}

# key and value, further keys → settings that must follow, and the group of the key
CASES = {
    "last epochs": ("save_last_n_epochs", 3, {}, {"run.keep_last": 3}, "honoured"),
    "last epochs, none saved": (
        "save_last_n_epochs", 3, {"save_every_n_epochs": 0}, {"run.keep_last": 0}, "ignored_effect"),
    "last steps": ("save_last_n_steps", 250, {"save_every_n_steps": 100}, {"run.keep_last": 3}, "converted"),
    "last steps, none saved": ("save_last_n_steps", 250, {}, {"run.keep_last": 0}, "ignored_effect"),
    "both, the larger": (
        "save_last_n_epochs", 9, {"save_last_n_steps": 100, "save_every_n_steps": 100}, {"run.keep_last": 9},
        "honoured"),
    "states": ("save_last_n_epochs_state", 4, {"save_state": True}, {"run.keep_states": 4}, "honoured"),
    "states never saved": ("save_last_n_epochs_state", 4, {}, {"run.keep_states": 2}, "ignored_effect"),
    "states are always saved": ("save_state", True, {}, {"run.state_saves": "with_checkpoints"}, "converted"),
    "title": ("metadata_title", "A cat", {}, {"sharing.title": "A cat"}, "honoured"),
    "licence": ("metadata_license", "CC0", {}, {"sharing.license": "CC0"}, "honoured"),
    "comment": ("training_comment", "for me", {}, {"sharing.comment": "for me"}, "honoured"),
    "W&B": ("log_with", "wandb", {}, {"logging.tracker": "wandb"}, "honoured"),
    "a folder alone is TensorBoard": ("logging_dir", "logs", {},
        {"logging.tracker": "tensorboard", "logging.folder": "logs"}, "honoured"),
    "TensorBoard without a folder": ("log_with", "tensorboard", {}, {"logging.tracker": "none"}, "converted"),
    "all without a folder": ("log_with", "all", {}, {"logging.tracker": "wandb"}, "converted"),
    "a name without a tracker": ("wandb_run_name", "x", {}, {"logging.run_name": ""}, "ignored_effect"),
    "a name with one": ("wandb_run_name", "x", {"log_with": "wandb"}, {"logging.run_name": "x"}, "honoured"),
    "project": ("log_tracker_name", "cats", {"log_with": "wandb"}, {"logging.project": "cats"}, "honoured"),
    "repository": ("huggingface_repo_id", "me/cat", {},
        {"sharing.hub_repo": "me/cat", "sharing.hub_files": "checkpoints", "sharing.hub_visibility": "private"},
        "converted"),
    "states to the hub": ("save_state_to_huggingface", True, {"huggingface_repo_id": "me/cat"},
        {"sharing.hub_files": "checkpoints_and_states"}, "converted"),
    "data-set repository": ("huggingface_repo_type", "dataset", {"huggingface_repo_id": "me/cat"},
        {"sharing.hub_repo": ""}, "ignored_effect"),
    "public": ("huggingface_repo_visibility", "public", {"huggingface_repo_id": "me/cat"},
        {"sharing.hub_visibility": "public"}, "honoured"),
    "hub folder": ("huggingface_path_in_repo", "loras", {"huggingface_repo_id": "me/cat"},
        {"sharing.hub_folder": "loras"}, "honoured"),
    "hub folder alone": ("huggingface_path_in_repo", "loras", {}, {"sharing.hub_folder": ""}, "ignored_effect"),
    "always beside": ("async_upload", True, {}, {}, "converted"),
}  # fmt: skip


def imported(tmp_path, content) -> kohya.Import:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return kohya.read(path)


@pytest.mark.parametrize("name", CASES)
def test_keys_of_kohya_presets(tmp_path, name):
    key, value, others, expected, group = CASES[name]
    found = imported(tmp_path, {"sdxl": True, key: value, **others})
    assert found.preset is not None, found.problems
    assert {path: found.preset.get(path) for path in expected} == expected
    (hit,) = [each for each in kohya.GROUPS for line in getattr(found.receipt, each) if line.key == key]
    assert hit == group


OPTIONS = {
    "--validation_split 0.1 --validate_every_n_steps 50 --validation_seed 7 --max_validation_steps 4": {
        "validation.share": 0.1, "validation.every_steps": 50, "validation.seed": 7, "validation.most_batches": 4},
    "--validate_every_n_steps 50 --validation_seed 7": {
        "validation.share": 0.0, "validation.every_steps": 0, "validation.seed": 42},
    "--no_metadata --metadata_trigger_phrase 'zkt cat' --metadata_usage_hint 'at 0.8'": {
        "sharing.training_facts": False, "sharing.trigger_phrase": "zkt cat", "sharing.usage_hint": "at 0.8"},
    "--metadata_thumbnail data:image/png;base64,AAAA": {"sharing.thumbnail": ""},
    "--metadata_thumbnail cat.png": {"sharing.thumbnail": "cat.png"},
    "--save_n_epoch_ratio 5": {"run.save_every_epochs": 2},
    "--save_n_epoch_ratio 50": {"run.save_every_epochs": 1},
}  # fmt: skip


@pytest.mark.parametrize("text", OPTIONS)
def test_options_of_sd_scripts(tmp_path, text):
    found = imported(tmp_path, {"sdxl": True, **EPOCHS, "additional_parameters": text})
    assert found.preset is not None, found.problems
    assert {path: found.preset.get(path) for path in OPTIONS[text]} == OPTIONS[text]


def test_a_ratio_of_epochs_needs_epochs(tmp_path):
    found = imported(
        tmp_path, {"sdxl": True, "max_train_steps": 900, "additional_parameters": "--save_n_epoch_ratio 5"}
    )
    assert found.settings["run.save_every_epochs"] == 1
    assert "the steps decide" in found.receipt.text()


def test_a_key_in_a_comment_does_not_reach_the_preset(tmp_path):
    content = {"sdxl": True, "wandb_api_key": "planted-secret", "training_comment": "my key is planted-secret."}
    found = imported(tmp_path, content)
    assert found.preset is not None
    assert "planted" not in found.preset.model_dump_json() + json.dumps(found.receipt.to_dict())
    assert found.preset.sharing.comment.startswith("my key is ")
