"""Caption settings of other trainers: taken over, turned into ours, or told to have done nothing there."""

from __future__ import annotations

import json

import pytest

from engine import kohya

SHUFFLED = {"shuffle_caption": True}
# key, value, further keys → settings that must follow, and the group of the key
CASES = {
    "shuffle": ("shuffle_caption", True, {}, {"captions.shuffle": True}, "honoured"),
    "kept tags": ("keep_tokens", 2, SHUFFLED, {"captions.keep_tokens": 2}, "honoured"),
    "kept from nothing": ("keep_tokens", 2, {}, {"captions.keep_tokens": 0}, "ignored_effect"),
    "dropout": ("caption_dropout_rate", 0.1, {}, {"captions.dropout": 0.1}, "honoured"),
    "epochs without": ("caption_dropout_every_n_epochs", 3, {}, {"captions.dropout_every_epochs": 3}, "honoured"),
    "weights": ("weighted_captions", True, {}, {"captions.weighted": True}, "honoured"),
    "stop in percent": ("stop_text_encoder_training", 30, {}, {"adapter.text_encoder_stop": 0.3}, "converted"),
    "stop of nothing": ("stop_text_encoder_training", 30, {"text_encoder_lr": 0},
        {"adapter.text_encoder_stop": 0.0}, "ignored_effect"),
    "stop at the end": ("stop_text_encoder_training", 100, {}, {"adapter.text_encoder_stop": 0.0}, "converted"),
    "stop before the start": ("stop_text_encoder_training", -1, {},
        {"adapter.text_encoder_stop": 0.0}, "ignored_effect"),
    "old name of the stop": ("stop_text_encoder_training_pct", 50, {},
        {"adapter.text_encoder_stop": 0.5}, "converted"),
}  # fmt: skip
# The same for sd-scripts' arguments; tests write them as a TOML file
ARGUMENTS = {
    "prefix": ("caption_prefix", "pre,", {}, {"captions.prefix": "pre,"}, "honoured"),
    "suffix": ("caption_suffix", ", suf", {}, {"captions.suffix": ", suf"}, "honoured"),
    "wildcards": ("enable_wildcard", True, {}, {"captions.wildcards": True, "captions.lines": "random"}, "converted"),
    "tag dropout": ("caption_tag_dropout_rate", 0.2, {}, {"captions.tag_dropout": 0.2}, "honoured"),
    "warm-up": ("token_warmup_step", 0.1, {}, {"captions.token_warmup": 0.1}, "honoured"),
    "warm-up from": ("token_warmup_min", 3, {}, {"captions.token_warmup_min": 3}, "honoured"),
    "kept in warm-up": ("keep_tokens", 1, {"token_warmup_step": 50}, {"captions.keep_tokens": 1}, "honoured"),
    "comma": ("caption_separator", ",", {}, {"captions.separator": ","}, "ignored_default"),
    "separator": ("caption_separator", ";", {}, {"captions.separator": ";"}, "converted"),
    "mark": ("keep_tokens_separator", "|||", SHUFFLED, {"captions.keep_separator": "|||"}, "honoured"),
    "mark that stayed": ("keep_tokens_separator", "|||", {}, {"captions.keep_separator": "|||"}, "converted"),
    "groups": ("secondary_separator", ";;;", {}, {"captions.secondary_separator": ";;;"}, "honoured"),
    "long captions": ("max_token_length", 225, {}, {"captions.max_tokens": 225}, "honoured"),
    "second-guessed cache": ("caption_prefix", "pre,", {"cache_text_encoder_outputs": True,
        "network_train_unet_only": True}, {"captions.prefix": "pre,", "captions.cache_text": True}, "converted"),
}  # fmt: skip


def taken_over(path, key) -> tuple[kohya.Import, str, kohya.Line]:
    found = kohya.read(path)
    [(group, line)] = [(g, line) for g in kohya.GROUPS for line in getattr(found.receipt, g) if line.key == key]
    return found, group, line


def assert_case(path, case) -> None:
    key, _, _, expected, group = case
    found, told, line = taken_over(path, key)
    assert found.preset is not None, found.problems
    assert {name: found.preset.get(name) for name in expected} == expected
    assert told == group
    assert group in ("honoured", "ignored_default") or line.note


@pytest.mark.parametrize("name", CASES)
def test_keys_of_kohya_ss(tmp_path, name):
    key, value, others, *_ = CASES[name]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({"sdxl": True, key: value, **others}))
    assert_case(path, CASES[name])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_sd_scripts(tmp_path, name):
    key, value, others, *_ = ARGUMENTS[name]
    path = tmp_path / "theirs.toml"
    lines = {"max_train_steps": 100, key: value, **others}
    path.write_text("".join(f"{name} = {json.dumps(each)}\n" for name, each in lines.items()))
    assert_case(path, ARGUMENTS[name])


def test_what_cached_text_skipped_there_in_silence_is_told(tmp_path):
    path = tmp_path / "theirs.toml"
    path.write_text('caption_prefix = "pre,"\ncache_text_encoder_outputs = true\nnetwork_train_unet_only = true\n')
    assert "passed over in silence there" in taken_over(path, "caption_prefix")[2].note


def test_caption_arguments_may_stand_in_free_text(tmp_path):
    text = "--caption_prefix='pre,' --keep_tokens_separator='|||' --caption_tag_dropout_rate=0.1 --enable_wildcard"
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps({"sdxl": True, "additional_parameters": text}))
    found, group, _ = taken_over(path, "additional_parameters")
    assert group == "converted"
    assert found.settings["captions.prefix"] == "pre,"
    assert found.settings["captions.keep_separator"] == "|||"
    assert found.settings["captions.tag_dropout"] == 0.1
    assert found.settings["captions.lines"] == "random"
