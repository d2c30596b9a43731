"""For each setting: a changed value, what else it needs, and everything that it then changes in a run of two steps.

What may change, in the order in which a run makes it: "plan" (buckets, steps, when files are due), "data" (what the
batches hold), "loss" (of the first step), "rates", "weights" (after the last step), "samples" (pixels), "validation",
"files" (their names), "numbers" (format and count of the saved ones), "card" (what the saved file tells; most settings
are told there, which is not asked for) and "work" (how often the VAE is called). `plan()` rows end there: that a run
follows its plan is another test's matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PLAN, DATA, LOSS, RATES, WEIGHTS = "plan", "data", "loss", "rates", "weights"
SAMPLES, VALIDATION, FILES, NUMBERS, CARD, WORK = "samples", "validation", "files", "numbers", "card", "work"
SHOWN = frozenset({DATA, LOSS, WEIGHTS})
LEARNED = frozenset({LOSS, WEIGHTS})
ALL_DATA = SHOWN | {PLAN}


@dataclass(frozen=True)
class Row:
    """`value` instead of the base's, beside `needs`; `changes` is all that then differs. `proof`: where a run of two
    steps cannot show it, the test that does ("test_x.py::test_name")."""

    value: Any = None
    changes: frozenset[str] = frozenset()
    needs: dict[str, Any] = field(default_factory=dict)
    proof: str = ""


def row(value: Any, changes: frozenset[str] | set[str], **needs: Any) -> Row:
    return Row(value, frozenset(changes), {name.replace("__", "."): other for name, other in needs.items()})


def plan(value: Any, **needs: Any) -> Row:
    return row(value, {PLAN}, **needs)


def proven(by: str) -> Row:
    return Row(proof=by)


TE = {"adapter__text_encoder_1": True, "adapter__text_encoder_2": True, "captions__cache_text": False}
UNRANKED = {"adapter__rank": 16, "adapter__alpha": 16.0}
PROMPT = {"sample__prompts": "a sks thing"}
HELD_OUT = {"validation__share": 0.5, "validation__every_steps": 1}
TAGS = {"captions__shuffle": True}
MASK = {"loss__mask": "folder", "loss__mask_folder": "{masks}"}
DORA = {"adapter__algorithm": "dora", "model__base": "demo/model.safetensors"}
V = {"model__prediction": "v_prediction"}

ROWS: dict[str, Row] = {
    # model
    "model.base": proven("test_resume.py::test_another_base_model_is_told_on_resume"),
    "model.vae": proven("test_sdxl_checkpoint.py::test_a_separate_vae_in_every_layout"),
    "model.prediction": row("v_prediction", LEARNED),
    "model.zero_terminal_snr": row("yes", LEARNED),
    "model.merged_adapters": proven("test_adapters_merging.py::test_a_run_trains_on_the_merged_model_and_says_so"),
    # data
    "data.folder": row("{others}", ALL_DATA),
    "data.regularization_folder": row("{others}", ALL_DATA),
    "data.width_px": row(80, ALL_DATA),
    "data.height_px": row(80, ALL_DATA),
    "data.bucketing": row(False, ALL_DATA),
    "data.bucket_min_px": plan(64),
    "data.bucket_max_px": plan(64),
    "data.bucket_step_px": plan(32, data__upscale_small_images=False),
    "data.upscale_small_images": row(False, ALL_DATA),
    "data.random_crop": row(True, SHOWN, data__cache_latents=False, data__bucketing=False),
    "data.flip": row(True, SHOWN, run__seed=3),
    "data.color_jitter": row(True, SHOWN, data__cache_latents=False, run__seed=3),
    "data.resampling": row("nearest", SHOWN),
    "data.background": row("#ff0000", SHOWN),
    "data.broken_images": proven("test_train.py::test_a_truncated_image_is_left_out_with_a_warning_or_stops_the_run"),
    "data.cache_latents": proven("test_train.py::test_cached_and_uncached_features_give_the_same_losses"),
    "data.cache_folder": row("{other cache}", {FILES}),
    # captions
    "captions.extension": row(".caption", ALL_DATA),
    "captions.second_extension": row(".caption", ALL_DATA),
    "captions.lines": row("all", ALL_DATA),
    "captions.trigger": row("sks", SHOWN),
    "captions.prefix": row("a photo of", SHOWN),
    "captions.suffix": row("in oil", SHOWN),
    "captions.shuffle": row(True, SHOWN),
    "captions.keep_tokens": row(3, SHOWN, **TAGS),
    "captions.keep_separator": row("|||", SHOWN, **TAGS),
    "captions.separator": row(";", SHOWN, **TAGS),
    "captions.secondary_separator": row(";;", SHOWN, **TAGS),
    "captions.wildcards": row(True, SHOWN),
    "captions.tag_dropout": row(0.5, SHOWN),
    "captions.never_dropped": row("red square", SHOWN, captions__tag_dropout=0.9),
    "captions.dropout": row(1.0, SHOWN),
    "captions.dropout_every_epochs": row(1, SHOWN),
    "captions.token_warmup": row(100.0, SHOWN, **TAGS),
    "captions.token_warmup_min": row(3, SHOWN, captions__token_warmup=100.0, **TAGS),
    "captions.weighted": row(True, LEARNED),
    "captions.max_tokens": row(150, LEARNED),
    "captions.clip_skip": row(1, LEARNED),
    "captions.cache_text": proven("test_train.py::test_cached_and_uncached_features_give_the_same_losses"),
    "captions.variants": row(2, {DATA, WEIGHTS}, run__steps=6, **TAGS),
    # adapter
    "adapter.algorithm": row("full", {PLAN, WEIGHTS, NUMBERS}, **UNRANKED),
    "adapter.rank": row(4, {PLAN, WEIGHTS, NUMBERS}),
    "adapter.alpha": row(1.0, {WEIGHTS}),
    "adapter.conv_rank": row(2, {PLAN, WEIGHTS, NUMBERS}),
    "adapter.conv_alpha": row(2.0, {WEIGHTS}, adapter__conv_rank=2),
    "adapter.rank_stabilised": row(True, {WEIGHTS}),
    "adapter.norms": row(True, {PLAN, WEIGHTS, NUMBERS}),
    "adapter.blocks": row("up_blocks", {PLAN, WEIGHTS, NUMBERS}),
    "adapter.include_layers": row("*attn1*", {PLAN, WEIGHTS, NUMBERS}),
    "adapter.exclude_layers": row("*attn1*", {PLAN, WEIGHTS, NUMBERS}),
    "adapter.layer_settings": row("*attn1*: rank 1", {PLAN, WEIGHTS, NUMBERS}),
    "adapter.outer_layers": row(True, {PLAN, WEIGHTS, NUMBERS}),
    "adapter.block_ranks": row("1", {PLAN, WEIGHTS, NUMBERS}),
    "adapter.block_alphas": row("1", {WEIGHTS}),
    "adapter.conv_block_ranks": row("1", {PLAN, WEIGHTS, NUMBERS}, adapter__conv_rank=2),
    "adapter.conv_block_alphas": row("2", {WEIGHTS}, adapter__conv_rank=2),
    "adapter.block_rates": row("0.5", {RATES, WEIGHTS}),
    "adapter.network_dropout": row(0.5, {WEIGHTS}),
    "adapter.rank_dropout": row(0.5, {WEIGHTS}),
    "adapter.module_dropout": row(0.5, {WEIGHTS}),
    "adapter.loraplus_unet_ratio": row(4.0, {RATES, WEIGHTS}),
    "adapter.loraplus_text_ratio": row(4.0, {RATES, WEIGHTS}, **TE),
    "adapter.dora_norm": row("output", {PLAN, LOSS, WEIGHTS, NUMBERS}, **DORA),  # loss: rounding
    "adapter.factor": row(4, {PLAN, WEIGHTS, NUMBERS}, adapter__algorithm="lokr"),
    "adapter.decompose_both": row(True, {PLAN, WEIGHTS, NUMBERS}, adapter__algorithm="lokr"),
    "adapter.full_matrix": row(True, {PLAN, WEIGHTS, NUMBERS}, adapter__algorithm="lokr"),
    "adapter.block_size": row(2, {WEIGHTS}, adapter__algorithm="dylora"),
    "adapter.min_rank": row(1, {WEIGHTS}, adapter__algorithm="tlora", adapter__rank=4, adapter__min_rank=2),
    "adapter.constraint": row(1e-7, {WEIGHTS}, adapter__algorithm="oft", adapter__alpha=16.0),
    "adapter.rescaled": row(True, {PLAN, WEIGHTS, NUMBERS}, adapter__algorithm="oft", adapter__alpha=16.0),
    "adapter.on_input": row(True, {PLAN, WEIGHTS, NUMBERS}, adapter__algorithm="ia3", **UNRANKED),
    "adapter.full_convolutions": row(True, {PLAN, WEIGHTS, NUMBERS}, adapter__algorithm="full", **UNRANKED),
    "adapter.start_from": proven("test_adapters_starting.py::test_without_a_step_the_same_numbers_are_saved"),
    "adapter.rank_from_file": proven("test_adapters_starting.py::test_without_a_step_the_same_numbers_are_saved"),
    "adapter.norm_limit": row(1e-4, {WEIGHTS}),
    "adapter.unet": row(False, {PLAN, RATES, WEIGHTS, NUMBERS}, **TE),
    "adapter.text_encoder_1": row(True, {PLAN, RATES, WEIGHTS, NUMBERS}, captions__cache_text=False),
    "adapter.text_encoder_2": row(True, {PLAN, RATES, WEIGHTS, NUMBERS}, captions__cache_text=False),
    "adapter.text_encoder_stop": row(1.0, {RATES, WEIGHTS}, **TE),
    # optimizer
    "optimizer.name": row("adamw_8bit", {PLAN, WEIGHTS}),
    "optimizer.unet_rate": row(1e-2, {RATES, WEIGHTS}),
    "optimizer.text_encoder_1_rate": row(1e-2, {RATES, WEIGHTS}, **TE),
    "optimizer.text_encoder_2_rate": row(1e-2, {RATES, WEIGHTS}, **TE),
    "optimizer.schedule": row("constant", {RATES, WEIGHTS}),
    "optimizer.warmup_steps": row(1, {RATES, WEIGHTS}),
    "optimizer.warmup_share": row(0.5, {RATES, WEIGHTS}),
    "optimizer.min_ratio": row(0.9, {RATES, WEIGHTS}),
    "optimizer.cycles": row(2, {RATES, WEIGHTS}, optimizer__schedule="cosine_with_restarts"),
    "optimizer.power": row(0.5, {RATES, WEIGHTS}, optimizer__schedule="polynomial"),
    "optimizer.timescale_steps": row(
        5, {RATES, WEIGHTS}, optimizer__schedule="inverse_sqrt", optimizer__warmup_steps=1, run__steps=4
    ),
    "optimizer.decay_steps": row(2, {RATES, WEIGHTS}, optimizer__schedule="warmup_stable_decay"),
    "optimizer.decay_share": row(1.0, {RATES, WEIGHTS}, optimizer__schedule="warmup_stable_decay"),
    "optimizer.decay_shape": row(
        "sqrt", {RATES, WEIGHTS}, optimizer__schedule="warmup_stable_decay", optimizer__decay_share=1.0
    ),
    "optimizer.points": row("1:0.1", {RATES, WEIGHTS}, optimizer__schedule="piecewise_constant"),
    "optimizer.extra": row("amsgrad=True", {WEIGHTS}),
    "optimizer.weight_decay": row(1.0, {WEIGHTS}),
    "optimizer.beta1": row(0.5, {WEIGHTS}),
    "optimizer.beta2": row(0.5, {WEIGHTS}),
    "optimizer.epsilon": row(1e-2, {WEIGHTS}),
    "optimizer.clip_norm": row(1e-6, {WEIGHTS}, optimizer__epsilon=1e-3),
    # noise
    "noise.offset": row(0.1, SHOWN),
    "noise.offset_random": row(True, SHOWN, noise__offset=0.1),
    "noise.offset_adaptive": row(0.5, SHOWN, noise__offset=0.1),
    "noise.pyramid_levels": row(4, SHOWN),
    "noise.pyramid_discount": row(0.8, SHOWN, noise__pyramid_levels=4),
    "noise.perturbation": row(0.1, SHOWN),
    "noise.perturbation_random": row(True, SHOWN, noise__perturbation=0.1),
    "noise.timesteps": row("logit_normal", SHOWN),
    "noise.logit_mean": row(2.0, SHOWN, noise__timesteps="logit_normal"),
    "noise.logit_deviation": row(2.0, SHOWN, noise__timesteps="logit_normal"),
    "noise.beta_a": row(6.0, SHOWN, noise__timesteps="beta"),
    "noise.beta_b": row(6.0, SHOWN, noise__timesteps="beta"),
    "noise.timestep_curve": row("0:1, 500:0", SHOWN, noise__timesteps="curve"),
    "noise.timestep_spread": row("stratified", SHOWN),
    "noise.min_timestep": row(900, SHOWN),
    "noise.max_timestep": row(100, SHOWN, run__seed=3),
    # loss
    "loss.kind": row("l1", LEARNED),
    "loss.huber_threshold": row(0.01, LEARNED, loss__kind="huber"),
    "loss.huber_schedule": row("constant", LEARNED, loss__kind="huber"),
    "loss.huber_scale": row(0.1, LEARNED, loss__kind="huber", loss__huber_schedule="constant"),
    "loss.min_snr_gamma": row(1.0, LEARNED),
    "loss.soft_min_snr_gamma": row(1.0, LEARNED),
    "loss.debiased": row(True, LEARNED),
    "loss.p2_gamma": row(1.0, LEARNED),
    "loss.p2_k": row(3.0, LEARNED, loss__p2_gamma=1.0),
    "loss.scale_v_like_noise": row(True, LEARNED, **V),
    "loss.v_like": row(0.5, LEARNED),
    "loss.prior_weight": row(0.1, SHOWN, data__regularization_folder="{others}"),
    "loss.image_weights": row("2_sks thing: 3", ALL_DATA),
    "loss.mask": row("alpha", ALL_DATA),
    "loss.mask_folder": row("{other masks}", ALL_DATA, **MASK),
    "loss.mask_outside": row(0.5, SHOWN, **MASK),
    # run
    "run.name": row("other", {FILES}),
    "run.folder": row("{other runs}", {FILES}),
    "run.length": plan("epochs", run__epochs=3),
    "run.epochs": plan(3, run__length="epochs"),
    "run.steps": plan(3),
    "run.batch_size": row(1, ALL_DATA),
    "run.accumulation": row(2, ALL_DATA),
    "run.gpus": row(2, ALL_DATA),
    "run.seed": row(7, SHOWN),
    "run.save_every_epochs": plan(1, run__steps=20),
    "run.save_every_steps": row(1, {PLAN, FILES}),
    "run.save_precision": row("fp32", {NUMBERS}),
    "run.save_every_minutes": proven("test_saving.py::test_checkpoints_by_the_clock"),
    "run.keep_last": proven("test_saving.py::test_the_last_and_the_newest_on_the_way_stay"),
    "run.file_names": row("epoch", {FILES}, run__save_every_epochs=1, run__length="epochs", run__epochs=2),
    "run.state_saves": row("at_end", {FILES}, run__save_every_steps=1),
    "run.state_every_steps": row(1, {FILES}),
    "run.keep_states": row(1, {FILES}, run__save_every_steps=1),
    "run.ema_decay": proven("test_average.py::test_checkpoints_hold_the_average_and_a_resume_goes_on_with_it"),
    "run.ema_warmup": proven("test_average.py::test_the_warm_up_lets_decay_rise_to_its_value"),
    "run.ema_start_step": proven("test_average.py::test_before_its_start_it_is_the_weights_themselves"),
    "run.ema_device": proven("test_average.py::test_each_step_is_weighted_by_the_powers_of_the_decay"),
    # validation
    "validation.share": row(0.5, {*ALL_DATA, VALIDATION, FILES}, validation__every_steps=1),
    "validation.folder": row("{others}", {PLAN, VALIDATION, FILES}, validation__every_steps=1),
    "validation.every_epochs": plan(2, run__steps=20, validation__folder="{others}"),
    "validation.every_steps": plan(1, validation__folder="{others}"),
    "validation.bands": row(2, {VALIDATION}, **HELD_OUT),
    "validation.most_batches": row(1, {VALIDATION}, **HELD_OUT),
    "validation.seed": row(8, {*ALL_DATA, VALIDATION}, **HELD_OUT),
    "validation.keep_best": row(False, {FILES}, **HELD_OUT),
    "validation.patience": proven("test_validation.py::test_patience_ends_the_run_with_the_reason"),
    "validation.least_improvement": proven("test_validation.py::test_a_course_counts_what_brought_nothing_better"),
    # samples
    "sample.prompts": row("a sks thing", {PLAN, FILES, SAMPLES}),
    "sample.negative": row("blurry", {PLAN, SAMPLES}, **PROMPT),
    "sample.at_start": row(False, {PLAN, FILES, SAMPLES}, **PROMPT),
    "sample.every_epochs": plan(1, run__steps=20, **PROMPT),
    "sample.every_steps": plan(1, **PROMPT),
    "sample.sampler": row("ddim", {PLAN, SAMPLES}, **PROMPT),
    "sample.steps": row(3, {PLAN, SAMPLES}, **PROMPT),
    "sample.cfg_scale": row(2.0, {PLAN, SAMPLES}, **PROMPT),
    "sample.width_px": row(96, {PLAN, SAMPLES}, **PROMPT),
    "sample.height_px": row(96, {PLAN, SAMPLES}, **PROMPT),
    "sample.seed": row(8, {PLAN, SAMPLES}, **PROMPT),
    # memory
    "memory.precision": proven("test_train.py::test_half_precision_follows_full_precision"),
    "memory.gradient_checkpointing": proven("test_train.py::test_gradient_checkpointing_changes_no_number"),
    "memory.unet_storage": row("int8", {PLAN, *LEARNED}, memory__precision="bf16"),
    "memory.text_encoder_storage": row("int8", {PLAN, *LEARNED}, memory__precision="bf16", captions__cache_text=False),
    "memory.adapter_precision": proven(
        "test_rounding.py::test_a_run_in_bf16_follows_one_in_fp32_and_resumes_bit_for_bit"
    ),
    "memory.vae_batch_size": row(4, {WORK, *SHOWN}, data__cache_folder="{fresh}", data__bucketing=False),
    "memory.vae_precision": proven("test_every_setting.py::test_the_vae_computes_in_fp32_where_asked"),
    "memory.device": proven("test_every_setting.py::test_the_device_is_the_one_asked_for"),
    "memory.threads": proven("test_every_setting.py::test_the_threads_are_those_asked_for"),
    # logging
    "logging.every_steps": proven("test_every_setting.py::test_losses_are_read_every_so_many_steps"),
    **dict.fromkeys(
        ("logging.tracker", "logging.folder", "logging.project", "logging.run_name"),
        proven("test_trackers.py::test_tensorboard_has_every_step_once_also_after_a_resume_and_no_key_is_in_any_file"),
    ),
    "logging.settings": proven("test_trackers.py::test_settings_are_given_only_when_asked_for"),
    # sharing
    **{
        f"sharing.{name}": row("some words", {CARD})
        for name in ("title", "author", "description", "license", "tags", "trigger_phrase", "usage_hint", "merged_from")
    },
    "sharing.thumbnail": row("{images}/2_sks thing/0.png", {CARD}),
    "sharing.comment": row("some words", {CARD}),
    "sharing.training_facts": row(False, {CARD}),
    "sharing.hub_files": proven("test_uploads.py::test_what_is_asked_for_is_uploaded"),
    **dict.fromkeys(
        ("sharing.hub_repo", "sharing.hub_folder", "sharing.hub_visibility"),
        proven("test_uploads.py::test_the_process_uploads_by_the_hub_s_own_protocol_with_the_token_of_the_environment"),
    ),
}  # fmt: skip
