"""From another trainer's key to our settings: one dict, `CONVERSIONS`, for the keys whose meaning or form differs.

All other keys go by the names that the settings themselves carry (`kohya` and `sd_scripts` in engine/sections/), are
`COVERED` by what Atelier always does, or are told as ignored. A rule is a pure function of the values in force.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.kohya import adapter, inputs
from engine.kohya.arguments import network_args, optimizer_args
from engine.kohya.length import epochs, max_train_epochs, max_train_steps, warmup_percent, warmup_steps
from engine.kohya.plain import NO_EFFECT, plain
from engine.kohya.receipt import Outcome
from engine.kohya.values import PRESET_KEYS, Values
from engine.preset import SETTINGS
from engine.settings import Setting

Rule = Callable[[Values, str], Outcome]

CONVERSIONS: dict[str, Rule] = {
    "pretrained_model_name_or_path": inputs.model, "vae": inputs.model,
    "v_parameterization": inputs.prediction, "zero_terminal_snr": inputs.zero_terminal_snr, "sdxl": inputs.for_sdxl,
    "max_resolution": inputs.resolution, "resolution": inputs.resolution, "bucket_no_upscale": inputs.no_upscale,
    "cache_latents": inputs.cache_latents, "clip_skip": inputs.clip_skip,
    "sdxl_cache_text_encoder_outputs": inputs.cache_text, "cache_text_encoder_outputs": inputs.cache_text,
    "LoRA_type": adapter.adapter_type, "network_module": adapter.adapter_module, "network_args": network_args,
    "network_dim": adapter.rank, "network_alpha": adapter.alpha,
    "conv_dim": adapter.conv_rank, "conv_alpha": adapter.conv_alpha,
    "unet_lr": adapter.unet_rate, "text_encoder_lr": adapter.text_encoder_rate, "learning_rate": adapter.learning_rate,
    "network_train_unet_only": adapter.one_part_only, "network_train_text_encoder_only": adapter.one_part_only,
    "optimizer": adapter.optimizer, "optimizer_type": adapter.optimizer, "optimizer_args": optimizer_args,
    "lr_scheduler": adapter.scheduler,
    "lr_scheduler_num_cycles": adapter.scheduler_shape, "lr_scheduler_power": adapter.scheduler_shape,
    "lr_warmup": warmup_percent, "lr_warmup_steps": warmup_steps,
    "noise_offset": inputs.noise_offset, "max_timestep": inputs.max_timestep,
    "epoch": epochs, "max_train_epochs": max_train_epochs, "max_train_steps": max_train_steps,
    "output_dir": inputs.output_folder, "seed": inputs.seed, "save_precision": inputs.save_precision,
    "save_model_as": inputs.save_as,
    "mixed_precision": inputs.precision, "sdxl_no_half_vae": inputs.vae_precision, "no_half_vae": inputs.vae_precision,
    "sample_sampler": inputs.sampler, "sample_prompts": inputs.prompts, "sample_at_first": inputs.sample_at_first,
    "num_cpu_threads_per_process": inputs.threads,
    "caption_extention": inputs.older_name, "use_8bit_adam": inputs.older_name, "dataset_config": inputs.data_set,
    "wandb_api_key": inputs.secret, "huggingface_token": inputs.secret,
}  # fmt: skip

_READING = "Atelier chooses how many images are read at once; only speed differs"
_ATTENTION = "Atelier always computes attention with PyTorch's own fast kernels"
_STATE = "a run always keeps what a resume needs"
_CACHES = "cached features always lie on disk, in the cache folder"
# What Atelier always does, or does better without being asked
COVERED: dict[str, str] = {
    "xformers": _ATTENTION, "sdpa": _ATTENTION, "mem_eff_attn": _ATTENTION,
    "cache_latents_to_disk": _CACHES, "cache_text_encoder_outputs_to_disk": _CACHES,
    "skip_cache_check": "caches are found by content, so there is nothing to check",
    "save_state": _STATE, "save_state_on_train_end": _STATE,
    "max_data_loader_n_workers": _READING, "persistent_data_loader_workers": _READING,
    "disable_mmap_load_safetensors": "the model is memory-mapped; only speed and memory differ",
    "highvram": "Atelier watches the memory itself; only speed differs",
    "lowram": "models are loaded memory-mapped; only memory differs",
    "tokenizer_cache_dir": "the tokenizers are in the package",
}  # fmt: skip

_OTHER = "belongs to another model family; " + NO_EFFECT + " for SDXL"
_FINETUNING = "of full fine-tuning or DreamBooth; " + NO_EFFECT + " for a LoRA"
_HUB = "Atelier uploads nothing"
_LAUNCH = "how the trainer was started; Atelier runs on one GPU for now"
_TRACKER = "Atelier has no tracker yet; losses are in the run's events.jsonl and on the page"
# More exact words than NOT_YET for keys that are ignored with another value than their default
NOT_YET = "it had an effect there; Atelier has no setting for it yet"
NOTES: dict[str, str] = {
    **{name: _OTHER for name, fact in PRESET_KEYS.items() if fact.family not in ("sdxl", "legacy")},
    **dict.fromkeys(("flux1_clip_l", "flux1_t5xxl"), _OTHER),
    **dict.fromkeys(
        ("block_lr", "fused_backward_pass", "fused_optimizer_groups", "flux_fused_backward_pass", "no_token_padding",
         "blockwise_fused_optimizers", "learning_rate_te", "learning_rate_te1", "learning_rate_te2"), _FINETUNING),
    **{name: _HUB for name in PRESET_KEYS if name.startswith("huggingface_") or name.endswith("_huggingface")},
    **dict.fromkeys(("async_upload",), _HUB),
    **dict.fromkeys(
        ("multi_gpu", "num_processes", "num_machines", "gpu_ids", "main_process_port", "extra_accelerate_launch_args",
         "dynamo_backend", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic"), _LAUNCH),
    **dict.fromkeys(
        ("log_with", "logging_dir", "wandb_run_name", "log_tracker_name", "log_tracker_config", "log_config",
         "log_prefix"), _TRACKER),
    **dict.fromkeys(("model_list", "lowvram", "save_as", "save_as_bool", "training_preset"), NO_EFFECT),
    **dict.fromkeys(("stop_text_encoder_training",), f"{NO_EFFECT}: its LoRA trainer does not know it"),
    "resume": "to resume a run of Atelier: python -m engine train RUN_FOLDER; states of sd-scripts are not read",
    "lr_scheduler_type": "another schedule took the place of lr_scheduler there; Atelier uses lr_scheduler",
}  # fmt: skip

# Keys that work in a kohya_ss preset only together with another one: then their value did nothing there either
_LYCORIS_KEYS = (
    "LyCORIS_preset", "factor", "bypass_mode", "dora_wd", "use_cp", "use_tucker", "use_scalar", "rank_dropout_scale",
    "constrain", "rescaled", "train_norm", "decompose_both", "train_on_input", "unit",
)  # fmt: skip
GATES: dict[str, Callable[[Values], bool]] = {
    **dict.fromkeys(_LYCORIS_KEYS, lambda values: str(values["LoRA_type"]).lower() not in ("standard", "kohya locon")),
    **dict.fromkeys(
        ("multires_noise_iterations", "multires_noise_discount"),
        lambda values: values["noise_offset_type"] == "Multires",
    ),
    **dict.fromkeys(
        ("noise_offset_random_strength", "adaptive_noise_scale"),
        lambda values: values["noise_offset_type"] != "Multires" and values["noise_offset"],
    ),
    "ip_noise_gamma_random_strength": lambda values: values["ip_noise_gamma"],
    "huber_scale": lambda values: values["loss_type"] in ("huber", "smooth_l1") and values["huber_schedule"] != "snr",
    "scale_v_pred_loss_like_noise_pred": lambda values: values["v_parameterization"],
    "dim_from_weights": lambda values: values["network_weights"],
}


def _by_name(vocabulary: str) -> dict[str, Setting]:
    names = ((getattr(item, vocabulary), item) for item in SETTINGS)
    return {name: item for name, item in names if name and name not in CONVERSIONS}


# Key → the setting that carries its name
PLAIN: dict[str, dict[str, Setting]] = {"kohya": _by_name("kohya"), "sd_scripts": _by_name("sd_scripts")}


def outcome_of(values: Values, key: str) -> Outcome:
    """What becomes of one known key with the values in force."""
    if key in CONVERSIONS:
        return CONVERSIONS[key](values, key)
    known = key in PRESET_KEYS and values.is_kohya
    item = PLAIN["kohya" if known else "sd_scripts"].get(key)
    if item is not None:
        return plain(values, key, item)
    default = values.default(key)
    if values[key] == default or (default is None and values[key] in ("", 0, False)):
        return Outcome("ignored_default")
    if key in COVERED:
        return Outcome("converted", note=COVERED[key])
    if values.is_kohya and key in GATES and not GATES[key](values):
        return Outcome("ignored_effect", note=f"{NO_EFFECT}: the setting that it goes with is off")
    return Outcome("ignored_effect", note=NOTES.get(key, NOT_YET))
