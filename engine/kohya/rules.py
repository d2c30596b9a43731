"""From another trainer's key to our settings: one dict, `CONVERSIONS`, for the keys whose meaning or form differs.

All other keys go by the names that the settings themselves carry (`kohya` and `sd_scripts` in engine/sections/), are
covered by what Atelier does anyway, or refused (engine/kohya/fates.py). A rule is a pure function of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engine.kohya import adapter, captions, families, inputs, layers, noise, optimizer, saving
from engine.kohya.arguments import network_args
from engine.kohya.fates import COVERED, REFUSED
from engine.kohya.length import epochs, max_train_epochs, max_train_steps, warmup_percent, warmup_steps
from engine.kohya.plain import plain, unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import PRESET_KEYS, Values
from engine.preset import SETTINGS
from engine.settings import Setting

Rule = Callable[[Values, str], Outcome]

CONVERSIONS: dict[str, Rule] = {
    "pretrained_model_name_or_path": inputs.model, "vae": inputs.model,
    "v_parameterization": inputs.prediction, "zero_terminal_snr": inputs.zero_terminal_snr, "sdxl": inputs.for_sdxl,
    "max_resolution": inputs.resolution, "resolution": inputs.resolution, "bucket_no_upscale": inputs.no_upscale,
    "resize_interpolation": inputs.resampling,
    "cache_latents": inputs.cache_latents, "clip_skip": inputs.clip_skip,
    "sdxl_cache_text_encoder_outputs": inputs.cache_text, "cache_text_encoder_outputs": inputs.cache_text,
    "keep_tokens": captions.keep_tokens, "enable_wildcard": captions.wildcards,
    "caption_separator": captions.separator, "keep_tokens_separator": captions.keep_separator,
    "secondary_separator": captions.skipped_there, "caption_prefix": captions.skipped_there,
    "caption_suffix": captions.skipped_there, "caption_dropout_every_n_epochs": captions.skipped_there,
    "stop_text_encoder_training": captions.text_encoder_stop,
    "LoRA_type": families.adapter_type, "network_module": families.adapter_module,
    "dora_wd": families.decomposed, "network_args": network_args,
    "network_dim": adapter.rank, "network_alpha": adapter.alpha,
    "conv_dim": adapter.conv_rank, "conv_alpha": adapter.conv_alpha,
    **dict.fromkeys(layers.NAMES, layers.layer_key), "LyCORIS_preset": layers.lycoris_preset,
    **dict.fromkeys(("base_weights", "base_weights_multiplier"), layers.base_weights),
    "unet_lr": adapter.unet_rate, "text_encoder_lr": adapter.text_encoder_rate, "learning_rate": adapter.learning_rate,
    "network_train_unet_only": adapter.one_part_only, "network_train_text_encoder_only": adapter.one_part_only,
    "optimizer": optimizer.optimizer, "optimizer_type": optimizer.optimizer,
    "optimizer_args": optimizer.optimizer_args, "use_lion_optimizer": optimizer.older_switch,
    "lr_scheduler": optimizer.scheduler, "lr_scheduler_args": optimizer.scheduler_args,
    "lr_decay_steps": optimizer.decay_steps,
    **dict.fromkeys(optimizer.NUMBERS, optimizer.scheduler_number),
    "lr_warmup": warmup_percent, "lr_warmup_steps": warmup_steps,
    "max_timestep": inputs.max_timestep,
    **noise.RULES,
    "epoch": epochs, "max_train_epochs": max_train_epochs, "max_train_steps": max_train_steps,
    **saving.RULES,
    "output_dir": inputs.output_folder, "seed": inputs.seed, "save_precision": inputs.save_precision,
    "save_model_as": inputs.save_as,
    "full_bf16": inputs.full_bf16, "fp8_base": inputs.fp8_base, "fp8_base_unet": inputs.fp8_base,
    "mixed_precision": inputs.precision, "sdxl_no_half_vae": inputs.vae_precision, "no_half_vae": inputs.vae_precision,
    "sample_sampler": inputs.sampler, "sample_prompts": inputs.prompts, "sample_at_first": inputs.sample_at_first,
    "num_cpu_threads_per_process": inputs.threads,
    "caption_extention": inputs.older_name, "use_8bit_adam": inputs.older_name, "dataset_config": inputs.data_set,
    "wandb_api_key": inputs.secret, "huggingface_token": inputs.secret,
}  # fmt: skip

# Keys that work only together with another one: without it their value did nothing there either
_LYCORIS_KEYS = (
    "LyCORIS_preset", "factor", "bypass_mode", "dora_wd", "use_cp", "use_tucker", "use_scalar", "rank_dropout_scale",
    "constrain", "rescaled", "train_norm", "decompose_both", "train_on_input", "unit",
)  # fmt: skip
GATES: dict[str, Callable[[Values], bool]] = {
    **dict.fromkeys(_LYCORIS_KEYS, lambda values: str(values["LoRA_type"]).lower() not in ("standard", "kohya locon")),
    **{key: partial(families.owns, key=key) for key in families.OWNERS},
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
    if key in GATES and not GATES[key](values):
        settings = {item.path: item.default} if item else {}
        return unused(values, key, settings, "the setting that it goes with is off")
    if item is not None:
        return plain(values, key, item)
    default = values.default(key)
    if values[key] == default or (default is None and values[key] in ("", 0, False)):
        return Outcome("ignored_default")
    if key in COVERED:
        return Outcome("converted", note=COVERED[key])
    return Outcome("ignored_effect", note=REFUSED[key])
