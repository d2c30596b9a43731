"""Presets of kohya_ss: every key in exactly one group, the documented defaults, and the traps of real files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine import kohya
from engine.errors import UserError
from engine.kohya.dataset import DATASET_ARGUMENTS, DATASET_REFUSED, FOLDER_KEYS
from engine.kohya.fates import COVERED, REFUSED
from engine.kohya.reading import LEGACY
from engine.kohya.rules import CONVERSIONS, GATES, PLAIN
from engine.kohya.values import ARGUMENTS, HIDDEN, PRESET_KEYS
from engine.kohya_table import page
from engine.preset import BY_PATH, SETTINGS

REFERENCE = Path(__file__).parent / "reference"
KEYS = json.loads((REFERENCE / "kohya_preset_keys.json").read_text(encoding="utf-8"))
FACTS = {fact["key"]: fact for fact in KEYS}
# What LyCORIS calls some of its arguments, which are keys of no preset
LYCORIS_NAMES = ("constraint", "block_size", "full_matrix")
# Keys that make a file one for another model
ELSEWHERE = {"v2", *(name for name in FACTS if name.endswith("_checkbox"))} - {"use_wandb_checkbox"}
# For each type a value
OTHER_VALUES = {"bool": True, "bool|string": True, "number": 3, "string": "something"}


def imported(tmp_path, content) -> kohya.Import:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return kohya.read(path)


def groups_of(found: kohya.Import) -> dict[str, list[str]]:
    return {group: [line.key for line in getattr(found.receipt, group)] for group in kohya.GROUPS}


def line_of(found: kohya.Import, key: str) -> tuple[str, kohya.Line]:
    [hit] = [(g, line) for g in kohya.GROUPS for line in getattr(found.receipt, g) if line.key == key]
    return hit


def assert_every_key_once(found: kohya.Import, content) -> None:
    assert sorted(line.key for line in found.receipt.lines()) == sorted(content)


def defaults() -> dict:
    return {name: fact["default"] for name, fact in FACTS.items()} | {"sdxl": True}


def test_the_table_of_keys_is_the_documented_one():
    assert {name: (fact.type, fact.default, fact.family) for name, fact in PRESET_KEYS.items()} == {
        name: (fact["type"], fact["default"], fact["family"]) for name, fact in FACTS.items()
    }
    assert len(PRESET_KEYS) == 319


def test_the_table_of_arguments_is_the_documented_one():
    listed = json.loads((REFERENCE / "kohya_arguments.json").read_text(encoding="utf-8"))
    documented = {fact["dest"]: (fact["type"], fact["default"]) for fact in listed if fact["dest"] != "help"}
    assert {name: (fact.type, fact.default) for name, fact in ARGUMENTS.items()} == documented


def test_names_in_the_settings_are_keys_there():
    assert {item.kohya for item in SETTINGS} - {""} <= set(PRESET_KEYS)
    assert {item.sd_scripts for item in SETTINGS} - {"", "conv_dim", "conv_alpha"} <= set(ARGUMENTS)


def test_rules_and_notes_are_for_keys_that_exist():
    known = set(PRESET_KEYS) | set(ARGUMENTS) | {"help", *LYCORIS_NAMES}
    assert (set(CONVERSIONS) | set(COVERED) | set(REFUSED) | set(LEGACY) | set(GATES)) <= known
    assert not set(CONVERSIONS) & set(COVERED) and not set(COVERED) & set(REFUSED)


def test_all_keys_at_their_default_lose_nothing(tmp_path):
    """lr_warmup is 10 % by default: with a given number of steps it is taken over too."""
    found = imported(tmp_path, defaults())
    assert_every_key_once(found, FACTS)
    assert found.receipt.ignored_effect == ()
    assert found.problems == () and found.preset is not None


def test_a_missing_key_means_its_documented_default(tmp_path):
    """`optimizer` alone is AdamW when it is missing, as kohya_ss itself reads such files."""
    full, empty = imported(tmp_path, defaults()), imported(tmp_path, {"sdxl": True})
    assert full.settings == empty.settings | {"optimizer.name": "adamw_8bit"}
    expected = {
        "adapter.rank": 8, "adapter.alpha": 1.0, "adapter.conv_rank": 0, "data.width_px": 512, "data.height_px": 512,
        "data.upscale_small_images": False, "run.length": "steps", "run.steps": 1600, "optimizer.warmup_share": 0.1,
        "optimizer.name": "adamw", "optimizer.unet_rate": 1e-4, "adapter.text_encoder_1": True,
        "loss.min_snr_gamma": 0.0, "memory.precision": "fp16", "captions.cache_text": False, "sample.at_start": False,
        "sample.every_epochs": 0, "run.name": "last", "model.zero_terminal_snr": "no",
    }  # fmt: skip
    assert {path: empty.settings[path] for path in expected} == expected


@pytest.mark.parametrize("key", sorted(set(FACTS) - ELSEWHERE))
def test_one_key_alone_is_in_one_group(tmp_path, key):
    found = imported(tmp_path, {key: FACTS[key]["default"]} if key != "sdxl" else {"sdxl": True})
    assert_every_key_once(found, [key])


@pytest.mark.parametrize("key", sorted(set(FACTS) - ELSEWHERE))
def test_another_value_than_the_default_is_taken_over_or_told(tmp_path, key):
    content = {"sdxl": True, key: OTHER_VALUES[FACTS[key]["type"]]}
    if content[key] == FACTS[key]["default"]:
        content[key] = FACTS[key]["default"] is not True
    found = imported(tmp_path, content)
    group, line = line_of(found, key)
    assert group != "ignored_default" or key == "sdxl"
    assert group == "honoured" or line.note or line.setting


@pytest.mark.slow
@given(
    content=st.dictionaries(
        st.sampled_from(sorted(set(FACTS) - ELSEWHERE - {"sdxl"})),
        st.one_of(
            st.none(), st.booleans(), st.integers(-3, 2000), st.floats(allow_nan=False, width=32),
            st.sampled_from(["", "10.0", "1e-4", "True", "Multires", "LyCORIS/LoKr", "cosine", "--a=1 'x", "nan"]),
            st.lists(st.integers(0, 3), max_size=2),
        ),
        max_size=40,
    )
)  # fmt: skip
@example(content={"wandb_api_key_textbox": []})
@example(content={"network_train": [1]})
def test_any_values_leave_every_key_in_one_group(tmp_path_factory, content):
    content = {"sdxl": True, **content}
    try:
        found = imported(tmp_path_factory.mktemp("any"), content)
    except UserError as error:  # a LoRA_type of another family is refused as a whole
        pytest.fail(str(error))
    assert_every_key_once(found, content)
    assert (found.preset is None) == bool(found.problems)


@pytest.mark.slow
@given(keys=st.sets(st.sampled_from(sorted(set(FACTS) - ELSEWHERE)), min_size=1))
def test_random_subsets_at_their_defaults_lose_nothing(tmp_path_factory, keys):
    of_a_lora = {"network_dim": defaults()["network_dim"], "max_train_steps": 1600}
    content = {key: defaults()[key] for key in keys} | of_a_lora
    found = imported(tmp_path_factory.mktemp("subset"), content)
    assert_every_key_once(found, content)
    assert found.receipt.ignored_effect == ()


def test_what_is_honoured_has_an_equal_value_here(tmp_path):
    """So an export under the same name would give the file's value back."""
    found = imported(tmp_path, defaults() | {"network_dim": 64, "network_alpha": 32, "train_batch_size": 4})
    assert found.preset is not None
    for line in found.receipt.honoured:
        assert found.preset.get(line.setting.split(", ")[0]) == line.value or line.key.endswith("_lr"), line
    assert {"network_dim", "network_alpha", "train_batch_size"} <= {line.key for line in found.receipt.honoured}


def test_every_setting_is_set_by_one_key_only(tmp_path):
    found = imported(tmp_path, defaults())
    touched = [path for line in found.receipt.lines() for path in line.setting.split(", ") if path in BY_PATH]
    shared = {"run.length", "optimizer.warmup_steps"}  # told by each key that has a say, set by the one that decides
    twice = {path for path in touched if touched.count(path) > 1} - shared
    assert twice <= {"adapter.unet", "adapter.text_encoder_1", "optimizer.name"}


# key and value, further keys → settings that must follow, and the group of the key
CASES = {
    "full bf16": ("full_bf16", True, {"mixed_precision": "bf16"}, {"memory.adapter_precision": "bf16"}, "converted"),
    "full bf16 with CAME": ("full_bf16", True, {"mixed_precision": "bf16", "optimizer": "CAME"},
        {"memory.adapter_precision": "fp32"}, "converted"),
    "full bf16 with DoRA": ("full_bf16", True,
        {"mixed_precision": "bf16", "LoRA_type": "LyCORIS/LoCon", "dora_wd": True},
        {"memory.adapter_precision": "fp32", "adapter.algorithm": "dora"}, "converted"),
    "fp8 with merged weights": ("fp8_base", True,
        {"additional_parameters": "--base_weights a.safetensors"}, {"memory.unet_storage": "same"}, "ignored_effect"),
    "fp8 with cached text": ("fp8_base", True, {"sdxl_cache_text_encoder_outputs": True},
        {"memory.unet_storage": "fp8", "memory.text_encoder_storage": "same"}, "converted"),
    "fp8 everywhere": ("fp8_base", True, {"sdxl_cache_text_encoder_outputs": False},
        {"memory.unet_storage": "fp8", "memory.text_encoder_storage": "fp8"}, "converted"),
    "size as text": ("max_resolution", "1024,768", {}, {"data.width_px": 1024, "data.height_px": 768}, "converted"),
    "square size": ("max_resolution", "896", {}, {"data.width_px": 896, "data.height_px": 896}, "converted"),
    "upscaling inverted": ("bucket_no_upscale", False, {}, {"data.upscale_small_images": True}, "converted"),
    "number as text": ("epoch", "10.0", {"max_train_steps": 0},
        {"run.epochs": 10, "run.length": "epochs"}, "converted"),
    "rate as text": ("unet_lr", "5e-5", {}, {"optimizer.unet_rate": 5e-5}, "converted"),
    "empty text": ("network_dim", "", {}, {"adapter.rank": 8}, "converted"),
    "steps left empty": ("max_train_steps", "", {}, {"run.length": "steps", "run.steps": 1600}, "converted"),
    "steps 0": ("max_train_steps", 0, {"epoch": 7}, {"run.length": "epochs", "run.epochs": 7}, "converted"),
    "steps left over": ("max_train_steps", 1600, {"epoch": 7}, {"run.length": "steps", "run.epochs": 7}, "honoured"),
    "no steps in the file": ("epoch", 7, {}, {"run.length": "epochs", "run.epochs": 7}, "honoured"),
    "max epochs win": ("max_train_epochs", 5, {"epoch": 7, "max_train_steps": 9}, {"run.epochs": 5}, "honoured"),
    "warm-up in percent": ("lr_warmup", 5, {}, {"optimizer.warmup_share": 0.05}, "converted"),
    "warm-up in steps": ("lr_warmup_steps", 33, {"lr_warmup": 10}, {"optimizer.warmup_steps": 33}, "honoured"),
    "constant has no warm-up": ("lr_warmup", 10, {"lr_scheduler": "constant"},
        {"optimizer.warmup_steps": 0}, "ignored_default"),
    "constant with": ("lr_scheduler", "constant_with_warmup", {}, {"optimizer.schedule": "constant"}, "converted"),
    "one cycle": ("lr_scheduler", "cosine_with_restarts", {"lr_scheduler_num_cycles": ""},
        {"optimizer.schedule": "cosine"}, "converted"),
    "restarts": ("lr_scheduler", "cosine_with_restarts", {"lr_scheduler_num_cycles": 4},
        {"optimizer.schedule": "cosine_with_restarts", "optimizer.cycles": 4}, "honoured"),
    "cycles": ("lr_scheduler_num_cycles", "", {}, {}, "ignored_default"),
    "UNet only": ("text_encoder_lr", 0, {}, {"adapter.text_encoder_1": False, "adapter.unet": True}, "converted"),
    "text only": ("unet_lr", 0, {}, {"adapter.unet": False, "adapter.text_encoder_2": True}, "converted"),
    "both 0": ("learning_rate", 2e-4, {"unet_lr": 0, "text_encoder_lr": 0},
        {"optimizer.unet_rate": 2e-4, "optimizer.text_encoder_1_rate": 2e-4}, "converted"),
    "empty rate": ("text_encoder_lr", "", {"learning_rate": 3e-5},
        {"optimizer.text_encoder_2_rate": 3e-5}, "converted"),
    "optimizer": ("optimizer", "AdamW8bit", {}, {"optimizer.name": "adamw_8bit"}, "converted"),
    "old 8-bit box": ("use_8bit_adam", True, {}, {"optimizer.name": "adamw_8bit"}, "converted"),
    "optimizer not here": ("optimizer", "DAdaptAdan", {}, {"optimizer.name": "adamw"}, "ignored_effect"),
    "optimizer arguments": ("optimizer_args", '"weight_decay=0.1" "betas=0.9,0.99"', {},
        {"optimizer.weight_decay": 0.1, "optimizer.beta2": 0.99}, "converted"),
    "argument not here": ("optimizer_args", "weight_decay=0.1 nonsense=True", {},
        {"optimizer.weight_decay": 0.1}, "ignored_effect"),
    "no half": ("mixed_precision", "no", {}, {"memory.precision": "fp32"}, "converted"),
    "bf16": ("mixed_precision", "bf16", {}, {"memory.precision": "bf16"}, "honoured"),
    "float": ("save_precision", "float", {}, {"run.save_precision": "fp32"}, "converted"),
    "VAE in fp32": ("sdxl_no_half_vae", True, {}, {"memory.vae_precision": "fp32"}, "converted"),
    "seed 0": ("seed", 0, {}, {"run.seed": 42}, "converted"),
    "seed empty": ("seed", "", {}, {"run.seed": 42}, "converted"),
    "seed": ("seed", "7", {}, {"run.seed": 7}, "converted"),
    "save never": ("save_every_n_epochs", 0, {}, {"run.save_every_epochs": 0}, "honoured"),
    "long captions": ("max_token_length", "225", {}, {"captions.max_tokens": 225}, "converted"),
    "clip skip": ("clip_skip", 4, {}, {"captions.clip_skip": 2}, "ignored_effect"),
    "cached text": ("sdxl_cache_text_encoder_outputs", True, {"text_encoder_lr": 0},
        {"captions.cache_text": True}, "honoured"),
    "cached and trained": ("sdxl_cache_text_encoder_outputs", True, {}, {"captions.cache_text": False}, "converted"),
    "LoCon": ("LoRA_type", "Kohya LoCon", {"conv_dim": 4, "conv_alpha": 2},
        {"adapter.conv_rank": 4, "adapter.conv_alpha": 2.0}, "converted"),
    "old LoCon": ("locon", True, {"conv_dim": 4}, {"adapter.conv_rank": 4}, "converted"),
    "convolutions unused": ("conv_dim", 4, {"LoRA_type": "Standard"}, {"adapter.conv_rank": 0}, "ignored_effect"),
    "full LoKr": ("network_dim", 100000, {"LoRA_type": "LyCORIS/LoKr"}, {"adapter.full_matrix": True}, "converted"),
    "W&B": ("use_wandb", True, {}, {"logging.tracker": "wandb"}, "converted"),
    "W&B as text": ("use_wandb", "True", {}, {"logging.tracker": "wandb"}, "converted"),
    "old timestep": ("sdxl_min_timestep", 100, {}, {"noise.min_timestep": 100}, "converted"),
    "old misspelling": ("caption_extention", ".caption", {}, {"captions.extension": ".caption"}, "converted"),
    "old training of parts": ("network_train", "unet", {}, {"adapter.text_encoder_1": False}, "converted"),
    "old attention": ("xformers", False, {}, {}, "converted"),
    "multires gate": ("noise_offset", 0.1, {"noise_offset_type": "Multires"}, {"noise.offset": 0.0}, "ignored_effect"),
    "prompts": ("sample_prompts", "a cat --w 512 --ss euler", {}, {"sample.prompts": "a cat --w 512"}, "converted"),
    "VAE batch 0": ("vae_batch_size", 0, {}, {"memory.vae_batch_size": 1}, "converted"),
    "hub name": ("pretrained_model_name_or_path", "stabilityai/stable-diffusion-xl-base-1.0", {}, {}, "ignored_effect"),
    "model file": ("pretrained_model_name_or_path", "D:/models/x.safetensors", {},
        {"model.base": "D:/models/x.safetensors"}, "honoured"),
    "no number": ("train_batch_size", "many", {}, {"run.batch_size": 1}, "ignored_effect"),
    "unknown key": ("netwerk_dim", 4, {}, {}, "ignored_effect"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_conversions(tmp_path, name):
    key, value, others, expected, group = CASES[name]
    found = imported(tmp_path, {"sdxl": True, key: value, **others})
    assert found.preset is not None, found.problems
    assert {path: found.preset.get(path) for path in expected} == expected
    assert line_of(found, key)[0] == group


# Each older name → a value, today's name, its value, and what both need
OLDER_NAMES = {
    "cache_latent": (False, "cache_latents", False, {}),
    "caption_extention": (".caption", "caption_extension", ".caption", {}),
    "cache_text_encoder_outputs": (True, "sdxl_cache_text_encoder_outputs", True, {"text_encoder_lr": 0}),
    "no_half_vae": (True, "sdxl_no_half_vae", True, {}),
    "sdxl_min_timestep": (100, "min_timestep", 100, {}),
    "sdxl_max_timestep": (900, "max_timestep", 900, {}),
    "lora_network_weights": ("old.safetensors", "network_weights", "old.safetensors", {}),
    "conv_dims": ("4", "conv_block_dims", "4", {"LoRA_type": "Kohya LoCon", "conv_dim": 4}),
    "conv_alphas": ("2", "conv_block_alphas", "2", {"LoRA_type": "Kohya LoCon", "conv_dim": 4}),
    "stop_text_encoder_training_pct": (40, "stop_text_encoder_training", 40, {}),
    "use_wandb": (True, "log_with", "wandb", {}),
    "use_wandb_checkbox": (True, "log_with", "wandb", {}),
    "locon": (True, "LoRA_type", "LoCon", {"conv_dim": 4}),
    "use_8bit_adam": (True, "optimizer", "AdamW8bit", {}),
    "network_train": ("unet", "network_train_unet_only", True, {}),
    "sdxl_checkbox": (True, "sdxl", True, {}),
}


@pytest.mark.parametrize("old", OLDER_NAMES)
def test_an_older_name_does_what_today_s_does(tmp_path, old):
    value, new, today, needs = OLDER_NAMES[old]
    of_a_lora = {"max_train_steps": 1600} | ({} if new == "sdxl" else {"sdxl": True}) | needs
    older, newer = imported(tmp_path, {**of_a_lora, old: value}), imported(tmp_path, {**of_a_lora, new: today})
    if new == "network_train_unet_only":  # an option of sd-scripts, no key of the form
        newer = imported(tmp_path, {**of_a_lora, "additional_parameters": f"--{new}"})
    assert older.settings == newer.settings
    assert set(OLDER_NAMES) | {"disable_mmap_load_safetensors", "wandb_api_key_textbox"} == set(LEGACY)


def test_options_in_free_text_decide_and_are_told(tmp_path):
    text = "--zero_terminal_snr --v_parameterization --max_grad_norm=0 --network_train_unet_only"
    text += ' --log_prefix "a b" --nope 3'
    found = imported(tmp_path, {"sdxl": True, "additional_parameters": text, "max_grad_norm": 1.0})
    assert found.settings["model.zero_terminal_snr"] == "yes"
    assert found.settings["model.prediction"] == "v_prediction"
    assert found.settings["optimizer.clip_norm"] == 0
    assert found.settings["adapter.text_encoder_1"] is False
    group, line = line_of(found, "additional_parameters")
    assert group == "ignored_effect" and "--log_prefix" in line.note and "--nope 3" in line.note
    assert line_of(found, "max_grad_norm")[0] == "converted"


def test_options_that_all_have_a_home_are_converted(tmp_path):
    found = imported(tmp_path, {"sdxl": True, "additional_parameters": "--min_snr_gamma 5 --sample_at_first"})
    assert line_of(found, "additional_parameters")[0] == "converted"
    assert (found.settings["loss.min_snr_gamma"], found.settings["sample.at_start"]) == (5.0, True)


def test_a_missing_quotation_mark_is_told(tmp_path):
    found = imported(tmp_path, {"sdxl": True, "additional_parameters": '--zero_terminal_snr "'})
    assert "quotation mark" in line_of(found, "additional_parameters")[1].note


def test_secrets_are_neither_shown_nor_written(tmp_path):
    content = {
        "sdxl": True, "wandb_api_key": "planted-secret-1", "huggingface_token": "planted-secret-2",
        "additional_parameters": "--wandb_api_key=planted-secret-3 --huggingface_token 'planted-secret-4'",
        "wandb_api_key_textbox": "planted-secret-5", "training_comment": "key planted-secret-1",
        "metadata_title": {"my_token": "planted-secret-6"},
    }  # fmt: skip
    found = imported(tmp_path, content)
    assert found.preset is not None
    assert "planted" not in json.dumps(found.receipt.to_dict()) + found.receipt.text() + found.preset.model_dump_json()
    assert line_of(found, "wandb_api_key")[1].value == HIDDEN


def test_what_stands_in_the_way_is_told_with_the_receipt(tmp_path):
    found = imported(tmp_path, {"sdxl": True, "output_name": "a/b", "max_resolution": "1000001,8"})
    assert found.preset is None
    assert {problem.where for problem in found.problems} >= {"run.name", "data.width_px"}
    assert_every_key_once(found, ["sdxl", "output_name", "max_resolution"])


@pytest.mark.parametrize(
    ("key", "value", "gate"),
    [
        ("use_cp", True, {"LoRA_type": "LyCORIS/LoCon"}),
    ],
)
def test_what_did_nothing_there_is_told_apart_from_what_is_lost(tmp_path, key, value, gate):
    idle, lost = (imported(tmp_path, {"sdxl": True, key: value, **more}) for more in ({}, gate))
    assert "had no effect there either" in line_of(idle, key)[1].note
    assert line_of(lost, key)[1].note == REFUSED[key]


def test_plain_names_come_from_the_settings():
    assert all(BY_PATH[item.path].kohya == name for name, item in PLAIN["kohya"].items())


@pytest.mark.parametrize("vocabulary", ["kohya", "sd_scripts"])
def test_every_key_is_a_setting_or_covered_or_refused_with_the_reason(vocabulary):
    """319 keys of kohya_ss; sd-scripts' 197 arguments, of which --help is no key of a file."""
    facts = PRESET_KEYS if vocabulary == "kohya" else ARGUMENTS
    assert len(ARGUMENTS) == 196 and "help" in COVERED
    renamed = LEGACY if vocabulary == "kohya" else ()
    homes = (PLAIN[vocabulary], CONVERSIONS, COVERED, REFUSED, renamed)
    assert [name for name in facts if not any(name in home for home in homes)] == []
    assert all(len(reason.split()) >= 3 for reason in (*COVERED.values(), *REFUSED.values()))


def test_every_key_of_a_data_set_file_has_its_fate():
    listed = json.loads((REFERENCE / "dataset_toml_keys.json").read_text(encoding="utf-8"))
    assert {*DATASET_ARGUMENTS, *FOLDER_KEYS, *DATASET_REFUSED, "subsets"} == set(listed)


def test_every_row_of_the_table_names_settings_that_exist_or_says_why_not():
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 319 - 150 + 197 + 30
    for key, _, fate in rows:
        named = re.findall(r"`([a-z]+\.[a-z0-9_]+)`", fate)
        assert all(path in BY_PATH for path in named if not path.endswith(".json")), (key, fate)
        assert named or len(fate.split()) >= 2, (key, fate)
