"""Presets: read, refused with all faults at once, saved and read back the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import PresetError, UserError
from engine.preset import BY_PATH, ROOT, SETTINGS, VERSION, Preset, build, load, parse_assignments, resolve
from engine.rules import RULES

# For each rule a preset that breaks it, and where the sentence points to
BROKEN = {
    "something_is_trained": ({"adapter.unet": False}, "adapter.unet"),
    "a_rate_is_set": ({"optimizer.unet_rate": 0.0}, "optimizer.unet_rate"),
    "a_multiplier_is_near_1": ({"optimizer.name": "prodigy"}, "optimizer.unet_rate"),
    "one_rate_for_optimizers_that_have_one": (
        {"optimizer.name": "prodigy", "optimizer.unet_rate": 1.0, "optimizer.text_encoder_1_rate": 0.5,
         "adapter.text_encoder_1": True, "captions.cache_text": False}, "optimizer.text_encoder_1_rate"),
    "schedule_free_means_constant": ({"optimizer.name": "adamw_schedule_free"}, "optimizer.schedule"),
    "adafactor_schedule_is_for_adafactor": (
        {"optimizer.schedule": "adafactor", "optimizer.unet_rate": 1.0}, "optimizer.schedule"),
    "a_falling_schedule_falls": (
        {"optimizer.schedule": "warmup_stable_decay", "optimizer.decay_share": 0.0}, "optimizer.decay_share"),
    "optimizer_knows_its_arguments": ({"optimizer.extra": "betas=0.9"}, "optimizer.extra"),
    "warmup_is_given_once": ({"optimizer.warmup_steps": 10, "optimizer.warmup_share": 0.1}, "optimizer.warmup_share"),
    "lowest_rate_needs_a_falling_schedule": (
        {"optimizer.schedule": "constant", "optimizer.min_ratio": 0.1}, "optimizer.min_ratio"),
    "points_can_be_read": (
        {"optimizer.schedule": "piecewise_constant", "optimizer.points": "500 0.5"}, "optimizer.points"),
    "trained_text_is_not_cached": ({"adapter.text_encoder_1": True}, "captions.cache_text"),
    "random_crops_are_not_cached": ({"data.random_crop": True}, "data.random_crop"),
    "colors_that_change_are_not_cached": ({"data.color_jitter": True}, "data.color_jitter"),
    "timesteps_are_a_range": ({"noise.min_timestep": 500, "noise.max_timestep": 400}, "noise.min_timestep"),
    "timestep_curve_is_readable": (
        {"noise.timesteps": "curve", "noise.timestep_curve": "0:1, 500"},
        "noise.timestep_curve",
    ),
    "the_range_leaves_timesteps": (
        {"noise.timesteps": "curve", "noise.timestep_curve": "0:1, 500:0", "noise.min_timestep": 600},
        "noise.timesteps",
    ),
    "steps_of_one_image_spread_nothing": ({"noise.timestep_spread": "antithetic"}, "noise.timestep_spread"),
    "random_offset_has_a_strength": ({"noise.offset_random": True}, "noise.offset_random"),
    "an_offset_that_is_lowered_is_there": ({"noise.offset_adaptive": -0.1}, "noise.offset_adaptive"),
    "random_perturbation_has_a_strength": ({"noise.perturbation_random": True}, "noise.perturbation_random"),
    "adaptive_offset_and_pyramid_stay_on_one_gpu": (
        {"noise.offset_adaptive": 0.1, "noise.pyramid_levels": 6, "run.gpus": 2},
        "noise.offset_adaptive",
    ),
    "huber_scale_has_a_threshold": ({"loss.huber_scale": 2.0}, "loss.huber_scale"),
    "clean_timesteps_are_weighed_down_once": (
        {"loss.min_snr_gamma": 5.0, "loss.soft_min_snr_gamma": 5.0},
        "loss.soft_min_snr_gamma",
    ),
    "weightings_fit_the_prediction": ({"loss.v_like": 0.5, "model.prediction": "v_prediction"}, "loss.v_like"),
    "masks_come_from_one_place": ({"loss.mask": "alpha", "loss.mask_folder": "masks"}, "loss.mask_folder"),
    "masks_leave_something_out": ({"loss.mask": "alpha", "loss.mask_outside": 1.0}, "loss.mask_outside"),
    "bucket_limits_are_a_range": ({"data.bucket_min_px": 2048}, "data.bucket_min_px"),
    "run_name_is_a_file_name": ({"run.name": "a/b"}, "run.name"),
    "background_is_a_color": ({"data.background": "white"}, "data.background"),
    "extension_begins_with_a_dot": ({"captions.extension": "txt"}, "captions.extension"),
    "second_captions_lie_in_other_files": ({"captions.second_extension": ".txt"}, "captions.second_extension"),
    "drawn_captions_have_variants": ({"captions.shuffle": True, "captions.variants": 1}, "captions.variants"),
    "tags_have_a_separator": ({"captions.separator": ""}, "captions.separator"),
    "marks_differ_from_each_other": ({"captions.keep_separator": ",,"}, "captions.keep_separator"),
    "kept_tags_are_kept_from_something": ({"captions.keep_tokens": 1}, "captions.keep_tokens"),
    "tags_never_dropped_need_tag_dropout": ({"captions.never_dropped": "a"}, "captions.never_dropped"),
    "tag_dropout_leaves_something": ({"captions.tag_dropout": 1.0}, "captions.tag_dropout"),
    "warm_up_is_a_share_or_whole_steps": ({"captions.token_warmup": 1.5}, "captions.token_warmup"),
    "choices_in_affixes_need_wildcards": ({"captions.prefix": "{a|b}"}, "captions.prefix"),
    "wildcards_and_marks_use_other_signs": (
        {"captions.wildcards": True, "captions.separator": "|"},
        "captions.separator",
    ),
    "weights_and_marks_use_other_signs": (
        {"captions.weighted": True, "captions.keep_separator": "::"},
        "captions.keep_separator",
    ),
    "one_line_is_one_line": ({"captions.trigger": "a\nb"}, "captions.trigger"),
    "only_trained_text_encoders_are_stopped": ({"adapter.text_encoder_stop": 0.5}, "adapter.text_encoder_stop"),
    "what_is_kept_is_saved_before": ({"run.keep_last": 3, "run.save_every_epochs": 0}, "run.keep_last"),
    "file_names_by_epoch_have_epochs": ({"run.file_names": "epoch", "run.save_every_epochs": 0}, "run.file_names"),
    "validation_has_one_source": ({"validation.share": 0.1, "validation.folder": "other"}, "validation.share"),
    "bands_hold_timesteps": (
        {"validation.share": 0.1, "validation.bands": 9, "noise.min_timestep": 992},
        "validation.bands",
    ),
    "patience_has_something_to_wait_for": ({"validation.patience": 3}, "validation.patience"),
    "a_packed_base_is_computed_with_in_half_precision": (
        {"memory.unet_storage": "fp8", "memory.precision": "fp32"},
        "memory.unet_storage",
    ),
    "text_encoders_that_leave_are_not_packed": ({"memory.text_encoder_storage": "nf4"}, "memory.text_encoder_storage"),
    "bf16_numbers_are_trained_in_bf16": (
        {"memory.adapter_precision": "bf16", "memory.precision": "fp16"},
        "memory.adapter_precision",
    ),
    "factors_around_one_are_not_bf16": (
        {"memory.adapter_precision": "bf16", "memory.precision": "bf16", "adapter.algorithm": "dora"},
        "memory.adapter_precision",
    ),
    "weights_are_averaged_once": (
        {"run.ema_decay": 0.9, "optimizer.name": "adamw_schedule_free", "optimizer.schedule": "constant"},
        "run.ema_decay",
    ),
    "an_average_begins_before_the_end": (
        {"run.ema_decay": 0.9, "run.length": "steps", "run.steps": 9, "run.ema_start_step": 9},
        "run.ema_start_step",
    ),
    "an_average_is_asked_for": ({"run.ema_device": "cpu"}, "run.ema_device"),
    "layer_texts_can_be_read": ({"adapter.block_ranks": "x"}, "adapter.block_ranks"),
    "residual_blocks_need_a_conv_rank": ({"adapter.blocks": "residual_blocks"}, "adapter.blocks"),
    "conv_alphas_need_a_conv_rank": ({"adapter.conv_block_alphas": "1"}, "adapter.conv_block_alphas"),
    "block_settings_need_the_unet": (
        {"adapter.unet": False, "adapter.text_encoder_1": True, "adapter.block_rates": "1"},
        "adapter.block_rates",
    ),
    "dropout_needs_ranks": ({"adapter.algorithm": "full", "adapter.network_dropout": 0.5}, "adapter.network_dropout"),
    "norm_limit_needs_a_product": ({"adapter.algorithm": "dora", "adapter.norm_limit": 1.0}, "adapter.norm_limit"),
    "norm_limit_needs_plain_weights": (
        {"adapter.norm_limit": 1.0, "optimizer.name": "adamw_schedule_free", "optimizer.schedule": "constant"},
        "adapter.norm_limit",
    ),
    "ranks_come_from_one_place": ({"adapter.rank_from_file": True}, "adapter.rank_from_file"),
    "ranks_belong_to_algorithms_with_ranks": ({"adapter.algorithm": "ia3", "adapter.rank": 4}, "adapter.rank"),
    "alphas_belong_to_algorithms_with_alphas": ({"adapter.algorithm": "oft", "adapter.alpha": 4.0}, "adapter.alpha"),
    "constraint_and_rescaling_are_for_rotations": ({"adapter.constraint": 0.1}, "adapter.constraint"),
    "lora_plus_needs_two_matrices": (
        {"adapter.algorithm": "lora_fa", "adapter.loraplus_unet_ratio": 4.0},
        "adapter.loraplus_unet_ratio",
    ),
    "a_block_turns_two_outputs_at_least": ({"adapter.algorithm": "boft", "adapter.rank": 1}, "adapter.rank"),
    "dylora_ranks_are_whole_blocks": (
        {"adapter.algorithm": "dylora", "adapter.rank": 6, "adapter.block_size": 4},
        "adapter.rank",
    ),
    "tlora_s_least_rank_is_within_the_rank": (
        {"adapter.algorithm": "tlora", "adapter.min_rank": 16},
        "adapter.min_rank",
    ),
    "tlora_is_for_the_unet": (
        {"adapter.algorithm": "tlora", "adapter.text_encoder_1": True, "captions.cache_text": False},
        "adapter.text_encoder_1",
    ),
    "lokr_factor_is_a_size": ({"adapter.algorithm": "lokr", "adapter.factor": 0}, "adapter.factor"),
    "lokr_matrices_are_whole_or_decomposed": (
        {"adapter.algorithm": "lokr", "adapter.full_matrix": True, "adapter.decompose_both": True},
        "adapter.decompose_both",
    ),
    "paths_can_be_looked_up": ({"model.base": "~nobody-here/x"}, "model.base"),
    "hub_repo_is_a_repo": ({"sharing.hub_repo": "a b/c"}, "sharing.hub_repo"),
    "hub_settings_have_a_repo": ({"sharing.hub_folder": "loras"}, "sharing.hub_folder"),
    "hub_folder_stays_in_the_repo": ({"sharing.hub_repo": "a/b", "sharing.hub_folder": "../x"}, "sharing.hub_folder"),
    "presets_hold_no_secrets": ({"sharing.comment": "hf_" + "a" * 34}, "sharing.comment"),
    "tracker_settings_have_a_tracker": ({"logging.run_name": "x"}, "logging.run_name"),
    "tracker_names_are_names": ({"logging.tracker": "wandb", "logging.project": "a/b"}, "logging.project"),
    "numbers_are_finite": ({"optimizer.weight_decay": float("nan")}, "optimizer.weight_decay"),
}  # fmt: skip


def problems_of(action):
    with pytest.raises(PresetError) as caught:
        action()
    return caught.value.problems


def test_every_rule_has_a_case_here():
    assert set(BROKEN) == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_told_where_it_can_be_mended(name):
    values, where = BROKEN[name]
    problems = problems_of(lambda: Preset().changed(values))
    assert where in [problem.where for problem in problems]
    assert all(problem.message.endswith((".", ")")) for problem in problems)


def test_defaults_break_no_rule():
    assert build({}) == Preset()


def test_all_faults_are_told_at_once_with_the_nearest_name():
    faulty = {"adapter": {"rnk": 4, "rank": 0}, "modle": {}, "noise": {"min_timestep": 9, "max_timestep": 3}}
    told = {problem.where: problem.message for problem in problems_of(lambda: build(faulty))}
    assert set(told) == {"adapter.rnk", "adapter.rank", "modle", "noise.min_timestep"}
    assert "adapter.rank?" in told["adapter.rnk"]
    assert "from 1 to 1024 (got 0)" in told["adapter.rank"]
    assert "model?" in told["modle"]


def test_an_unknown_assignment_names_the_nearest_setting():
    (problem,) = problems_of(lambda: Preset().changed({"optimiser.unet_rate": "1e-3"}))
    assert "optimizer.unet_rate" in problem.message


def test_an_assignment_without_equals_is_refused():
    (problem,) = problems_of(lambda: parse_assignments(["adapter.rank"]))
    assert "section.name=value" in problem.message


def test_text_from_the_command_line_becomes_the_setting_s_type():
    values = {"adapter.rank": "32", "optimizer.unet_rate": "1e-3", "data.flip": "true", "run.name": "7"}
    preset = Preset().changed(values)
    assert (preset.adapter.rank, preset.optimizer.unet_rate, preset.data.flip, preset.run.name) == (32, 1e-3, True, "7")


def value_of(item):
    if item.choices:
        return st.sampled_from(item.choices)
    if item.type is bool:
        return st.booleans()
    if item.type is int:
        step = int(item.multiple_of or 1)
        return st.integers(-(-int(item.low) // step), int(item.high) // step).map(lambda number: number * step)
    if item.type is float:
        return st.floats(item.low, item.high, exclude_min=item.exclusive_low)
    return st.text(max_size=20).map(lambda text: text.replace("\x00", ""))


@pytest.mark.slow
@given(st.data())
def test_a_saved_preset_reads_back_the_same(tmp_path_factory, data):
    chosen = data.draw(st.lists(st.sampled_from(SETTINGS), max_size=6, unique=True))
    try:
        preset = Preset().changed({item.path: data.draw(value_of(item)) for item in chosen})
    except PresetError as error:
        assert error.problems
        return
    path = tmp_path_factory.mktemp("preset") / "p.json"
    preset.save(path)
    assert load(path) == preset


def test_presets_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        Preset().adapter.rank = 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"{'a': 1}", "line 1, column 2"),
        (b"[1]", "JSON object"),
        (b"\xff\xfe\x00x", "not text"),
        (json.dumps({"version": VERSION + 1}).encode(), "newer Atelier"),
        (json.dumps({"version": "x"}).encode(), "whole number"),
        (json.dumps({"version": True}).encode(), "whole number"),
    ],
)
def test_files_that_are_no_presets_are_refused_in_a_sentence(tmp_path, content, words):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        load(path)


def test_a_missing_preset_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no such preset"):
        load(tmp_path / "none.json")


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(b"\xef\xbb\xbf" + b'{"adapter": {"rank": 4}}')
    assert load(path).adapter.rank == 4


def test_relative_paths_start_at_atelier_s_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve("demo") == ROOT / "demo"
    assert resolve(str(tmp_path / "x")) == tmp_path / "x"


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_presets_load_and_describe_themselves(path):
    preset = load(path)
    assert len(preset.about) > 40
    assert set(preset.values()) == set(BY_PATH)
