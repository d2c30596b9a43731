"""Presets of OneTrainer: every key in exactly one group, its documented defaults, and what is not known is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_kohya import assert_every_key_once, imported, line_of

from engine import kohya
from engine.onetrainer.keys import DEFAULTS, NO_SUCH, OLDER, OTHER_DEFAULTS, REASONS, flat
from engine.onetrainer.rules import RULES
from engine.preset import BY_PATH, Preset

LORA = {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE", "learning_rate": 1e-4}


def nested(content: dict) -> dict:
    """Keys with dots as OneTrainer's groups."""
    found: dict = {}
    for key, value in content.items():
        group, _, name = key.rpartition(".")
        found.setdefault(group, {})[name] = value if group else None
        if not group:
            found[key] = value
    return {key: value for key, value in found.items() if key}


def read(tmp_path, content) -> kohya.Import:
    return imported(tmp_path, nested(LORA | content))


def test_every_key_with_a_default_has_a_rule_and_every_rule_a_default():
    told_with_another = {"ema_decay"}
    assert set(RULES) == set(DEFAULTS) and told_with_another <= set(RULES)
    assert not set(DEFAULTS) & set(OTHER_DEFAULTS)
    assert all(len(reason.split()) > 3 for reason in REASONS.values())


def test_defaults_lose_nothing_but_what_epsilon_cannot_hold(tmp_path):
    found = read(tmp_path, {key: value for key, value in DEFAULTS.items() if key not in LORA} | {
        key: value for key, value in OTHER_DEFAULTS.items() if not isinstance(value, tuple)
    })  # fmt: skip
    told = {line.key for line in found.receipt.ignored_effect}
    assert told == {"sample_after"} and found.preset is not None


def test_a_missing_key_means_its_documented_default(tmp_path):
    preset = read(tmp_path, {}).preset
    assert preset is not None
    expected = {
        "data.width_px": 512, "run.epochs": 100, "adapter.rank": 16, "adapter.alpha": 1.0, "adapter.conv_rank": 16,
        "adapter.text_encoder_1": True, "optimizer.warmup_steps": 200, "optimizer.schedule": "constant",
        "memory.precision": "fp16", "memory.gradient_checkpointing": True, "optimizer.unet_rate": 1e-4,
        "adapter.text_encoder_stop": 0.3, "run.save_every_epochs": 0, "captions.cache_text": False,
        "run.save_precision": "fp32", "adapter.outer_layers": True,
    }  # fmt: skip
    assert {path: preset.get(path) for path in expected} == expected


TEXT_OFF = {"text_encoder.train": False, "text_encoder_2.train": False}
CASES = {
    "number as text": ("epochs", "10.0", {}, {"run.epochs": 10}, "converted"),
    "resolution": ("resolution", "1024", {}, {"data.width_px": 1024, "data.height_px": 1024}, "converted"),
    "a bare number": ("resolution", 1024, {}, {"data.width_px": 1024}, "converted"),
    "several": ("resolution", "512,768", {}, {"data.height_px": 768}, "ignored_effect"),
    "own rate": ("unet.learning_rate", 3e-4, {}, {"optimizer.unet_rate": 3e-4}, "honoured"),
    "no own rate": ("unet.learning_rate", None, {}, {"optimizer.unet_rate": 1e-4}, "converted"),
    "UNet only": ("text_encoder.train", False, {"text_encoder_2.train": False},
        {"adapter.text_encoder_1": False, "captions.cache_text": True}, "honoured"),
    "warm-up as a share": ("learning_rate_warmup_steps", 0.1, {},
        {"optimizer.warmup_share": 0.1, "optimizer.warmup_steps": 0}, "honoured"),
    "warm-up in batches": ("learning_rate_warmup_steps", 100, {"gradient_accumulation_steps": 4},
        {"optimizer.warmup_steps": 25}, "converted"),
    "restarts": ("learning_rate_scheduler", "COSINE_WITH_HARD_RESTARTS", {"learning_rate_cycles": 3},
        {"optimizer.schedule": "cosine_with_restarts", "optimizer.cycles": 3}, "converted"),
    "waves": ("learning_rate_scheduler", "COSINE_WITH_RESTARTS", {},
        {"optimizer.schedule": "constant"}, "ignored_effect"),
    "cosine": ("learning_rate_scheduler", "COSINE", {"learning_rate_min_factor": 0.1},
        {"optimizer.schedule": "cosine", "optimizer.min_ratio": 0.1}, "converted"),
    "optimizer": ("optimizer.optimizer", "AdEMAMix_8BIT", {}, {"optimizer.name": "ademamix_8bit"}, "converted"),
    "paged": ("optimizer.is_paged", True, {"optimizer.optimizer": "ADAMW_8BIT"},
        {"optimizer.name": "paged_adamw_8bit"}, "converted"),
    "optimizer not here": ("optimizer.optimizer", "YOGI", {}, {"optimizer.name": "adamw"}, "ignored_effect"),
    "optimizer's argument": ("optimizer.d_coef", 0.8,
        {"optimizer.optimizer": "PRODIGY", "learning_rate": 1, **TEXT_OFF},
        {"optimizer.extra": "d_coef=0.8"}, "converted"),
    "argument not here": ("optimizer.kourkoutas_beta", True, {}, {"optimizer.extra": ""}, "ignored_effect"),
    "own decay": ("optimizer.weight_decay", None, {"optimizer.optimizer": "CAME"},
        {"optimizer.weight_decay": 0.01}, "ignored_default"),
    "relative step": ("optimizer.relative_step", True,
        {"optimizer.optimizer": "ADAFACTOR", "learning_rate": 1.0}, {"optimizer.schedule": "adafactor"}, "converted"),
    "LoRA": ("lora_rank", 32, {}, {"adapter.rank": 32, "adapter.conv_rank": 32}, "honoured"),
    "layers": ("layer_filter", "attentions", {}, {"adapter.conv_rank": 0, "adapter.outer_layers": False}, "converted"),
    "attention": ("layer_filter", "attn", {}, {"adapter.blocks": "attention"}, "converted"),
    "own filter": ("layer_filter", "down_blocks.1", {}, {}, "ignored_effect"),
    "DoRA": ("lora_decompose", True, {"lora_decompose_output_axis": True},
        {"adapter.algorithm": "dora", "adapter.dora_norm": "output"}, "converted"),
    "LoKr": ("peft_type", "LOKR", {"lokr_dim": 8, "lokr_decompose_factor": 4},
        {"adapter.algorithm": "lokr", "adapter.rank": 8, "adapter.factor": 4}, "converted"),
    "rank of another kind": ("lora_rank", 64, {"peft_type": "LOKR"}, {"adapter.rank": 16}, "ignored_effect"),
    "min-SNR": ("loss_weight_fn", "MIN_SNR_GAMMA", {}, {"loss.min_snr_gamma": 5.0}, "converted"),
    "P2": ("loss_weight_fn", "P2", {"loss_weight_strength": 1.0}, {"loss.p2_gamma": 1.0}, "converted"),
    "absolute": ("mae_strength", 1.0, {"mse_strength": 0.0}, {"loss.kind": "l1"}, "converted"),
    "two losses": ("mae_strength", 0.5, {}, {"loss.kind": "l2"}, "ignored_effect"),
    "timesteps": ("timestep_distribution", "LOGIT_NORMAL", {"noising_bias": 0.5, "noising_weight": 0.2},
        {"noise.timesteps": "logit_normal", "noise.logit_mean": 0.5, "noise.logit_deviation": 1.2}, "converted"),
    "noisy only": ("min_noising_strength", 0.5, {}, {"noise.min_timestep": 500}, "converted"),
    "v": ("force_v_prediction", True, {"rescale_noise_scheduler_to_zero_terminal_snr": True},
        {"model.prediction": "v_prediction", "model.zero_terminal_snr": "yes"}, "converted"),
    "EMA": ("ema", "CPU", {"ema_decay": 0.99}, {"run.ema_decay": 0.99, "run.ema_device": "cpu"}, "converted"),
    "stored in 8 bits": ("unet.weight_dtype", "FLOAT_8", {"train_dtype": "BFLOAT_16"},
        {"memory.unet_storage": "fp8"}, "converted"),
    "bf16 adapter": ("lora_weight_dtype", "BFLOAT_16", {"train_dtype": "BFLOAT_16"},
        {"memory.adapter_precision": "bf16"}, "converted"),
    "older checkpointing": ("gradient_checkpointing", "OFF", {}, {"memory.gradient_checkpointing": False}, "converted"),
    "older switch": ("train_unet", True, {}, {"adapter.unet": True}, "converted"),
    "older caches": ("latent_caching", False, TEXT_OFF,
        {"data.cache_latents": False, "captions.cache_text": False}, "converted"),
    "saving": ("save_every", 2, {"save_every_unit": "HOUR"}, {"run.save_every_minutes": 120}, "converted"),
    "samples by epochs": ("sample_after", 3, {"sample_after_unit": "EPOCH"}, {"sample.every_epochs": 3}, "converted"),
    "file name": ("output_model_destination", "D:\\loras\\my cat.safetensors", {}, {"run.name": "my cat"}, "converted"),
    "hub name": ("base_model_name", "stabilityai/sdxl", {}, {"model.base": ""}, "ignored_effect"),
    "file": ("base_model_name", "D:/x.safetensors", {}, {"model.base": "D:/x.safetensors"}, "honoured"),
    "no number": ("batch_size", "many", {}, {"run.batch_size": 1}, "ignored_effect"),
    "masks": ("masked_training", True, {}, {"loss.mask": "none"}, "ignored_effect"),
    "unknown": ("no_such_key", 3, {}, {}, "ignored_effect"),
    "another family": ("transformer.train", True, {}, {}, "ignored_default"),
    "encoders stop apart": ("text_encoder.stop_training_after", 50, {},
        {"adapter.text_encoder_stop": 0.5}, "ignored_effect"),
    "caption dropout": ("text_encoder.dropout_probability", 0.1, {"text_encoder_2.dropout_probability": 0.1},
        {"captions.dropout": 0.1}, "converted"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_conversions(tmp_path, name):
    key, value, others, expected, group = CASES[name]
    content = {key: value, **others}
    found = read(tmp_path, content)
    assert found.preset is not None, found.problems
    assert {path: found.preset.get(path) for path in expected} == expected
    assert line_of(found, key)[0] == group
    assert_every_key_once(found, LORA | content)


def test_prompts_and_one_folder_inside_the_file_are_taken(tmp_path):
    samples = [
        {"enabled": True, "prompt": "a zkt cat", "negative_prompt": "blurry", "width": 768, "height": 1024, "seed": 42},
        {"enabled": False, "prompt": "not this"},
    ]
    found = read(tmp_path, {"samples": samples, "concepts": [{"path": "/pictures/cat", "balancing": 1.0}]})
    assert found.settings["sample.prompts"] == "a zkt cat --n blurry --w 768 --h 1024 --d 42"
    assert found.settings["data.folder"] == "/pictures/cat"
    assert line_of(found, "concepts")[0] == "ignored_effect"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model_type": "FLUX_DEV_1"}, "FLUX_DEV_1"),
        ({"training_method": "FINE_TUNE"}, "FINE_TUNE instead of a LoRA"),
        ({"model_type": "STABLE_DIFFUSION_XL_10_BASE_INPAINTING"}, "INPAINTING"),
    ],
)
def test_what_is_no_lora_for_sdxl_is_told_with_the_receipt(tmp_path, content, words):
    found = read(tmp_path, content)
    assert found.preset is None and words in found.problems[0].message
    assert_every_key_once(found, LORA | content)


@settings(max_examples=60)
@given(
    content=st.dictionaries(
        st.sampled_from(sorted({*DEFAULTS, *OTHER_DEFAULTS, *OLDER, "cloud.enabled", "secrets.x_token"} - set(LORA))),
        st.one_of(
            st.none(), st.booleans(), st.integers(-3, 2000), st.floats(allow_nan=False, width=32),
            st.sampled_from(["", "10.0", "1e-4", "True", "LOKR", "EPOCH", "PRODIGY", "ADAFACTOR", "COSINE", "nan"]),
            st.lists(st.integers(0, 3), max_size=2),
        ),
        max_size=40,
    )
)  # fmt: skip
@example(content={"gradient_accumulation_steps": 0, "epochs": 0})
@example(content={"concepts": [3], "samples": [None]})
def test_any_values_leave_every_key_in_one_group(tmp_path_factory, content):
    groups = {key.split(".")[0] for key in content if "." in key}
    whole = nested(LORA | {key: value for key, value in content.items() if key not in groups})
    found = imported(tmp_path_factory.mktemp("any"), whole)
    assert_every_key_once(found, flat(whole))
    assert (found.preset is None) == bool(found.problems)


def test_secrets_are_not_shown(tmp_path):
    found = imported(tmp_path, {**LORA, "secrets": {"huggingface_token": "planted-secret"}})
    assert "planted" not in json.dumps(found.receipt.to_dict())


def test_an_old_flat_file_is_read_with_today_s_names(tmp_path):
    old = {"train_text_encoder": False, "train_unet": True, "train_unet_epochs": 100000, "unet_learning_rate": 3e-4,
           "optimizer": "ADAMW", "latent_caching": True, "weight_dtype": "FLOAT_16", "resolution": 1024}  # fmt: skip
    found = imported(tmp_path, LORA | old)
    assert found.preset is not None
    assert (found.preset.optimizer.unet_rate, found.preset.adapter.text_encoder_1) == (3e-4, False)
    assert found.receipt.ignored_effect == () and "second text encoder is trained" in found.receipt.warnings[0]
    early = imported(tmp_path, LORA | old | {"train_unet_epochs": 5})
    assert line_of(early, "train_unet_epochs")[0] == "ignored_effect"


def test_what_is_not_known_is_told_in_a_sentence(tmp_path):
    assert line_of(read(tmp_path, {"no_such_key": 3}), "no_such_key")[1].note == NO_SUCH


def test_rules_name_settings_that_exist():
    values = dict(DEFAULTS)
    named = {path for key, rule in RULES.items() for path in rule(values, key).shown_setting.split(", ") if path}
    assert named <= set(BY_PATH) and Preset().changed({}) == Preset()
