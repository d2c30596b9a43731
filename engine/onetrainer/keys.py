"""The keys of OneTrainer's presets: documented defaults, names that older versions used, and keys without effect here.

A key inside a group is written with a dot: "unet.learning_rate".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Key → default. A missing key means this, as there.
DEFAULTS: dict[str, Any] = {
    "training_method": "FINE_TUNE", "model_type": "STABLE_DIFFUSION_15",
    "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5", "vae.model_name": "",
    "output_model_destination": "models/model.safetensors", "output_dtype": "FLOAT_32",
    "concepts": None, "samples": None, "aspect_ratio_bucketing": True, "image_caching": True, "text_caching": True,
    "resolution": "512",
    "learning_rate_scheduler": "CONSTANT", "learning_rate": 3e-6, "learning_rate_warmup_steps": 200.0,
    "learning_rate_cycles": 1.0, "learning_rate_min_factor": 0.0,
    "epochs": 100, "batch_size": 1, "gradient_accumulation_steps": 1,
    "ema": "OFF", "ema_decay": 0.999, "train_device": "cuda", "train_dtype": "FLOAT_16",
    "mse_strength": 1.0, "mae_strength": 0.0, "loss_weight_fn": "CONSTANT", "loss_weight_strength": 5.0,
    "dropout_probability": 0.0, "clip_grad_norm": 1.0,
    "offset_noise_weight": 0.0, "rescale_noise_scheduler_to_zero_terminal_snr": False, "force_v_prediction": False,
    "force_epsilon_prediction": False, "timestep_distribution": "UNIFORM", "noising_weight": 0.0, "noising_bias": 0.0,
    "min_noising_strength": 0.0, "max_noising_strength": 1.0,
    "unet.train": True, "unet.learning_rate": None, "unet.weight_dtype": "FLOAT_32",
    "unet.gradient_checkpointing": True, "unet.stop_training_after": 0, "unet.stop_training_after_unit": "NEVER",
    "text_encoder.train": True, "text_encoder.learning_rate": None, "text_encoder.stop_training_after": 30,
    "text_encoder.stop_training_after_unit": "EPOCH", "text_encoder.dropout_probability": 0.0,
    "text_encoder_2.train": True, "text_encoder_2.learning_rate": None, "text_encoder_2.stop_training_after": 30,
    "text_encoder_2.stop_training_after_unit": "EPOCH", "text_encoder_2.dropout_probability": 0.0,
    "vae.weight_dtype": "FLOAT_32", "lora_weight_dtype": "FLOAT_32", "layer_filter": "",
    "peft_type": "LORA", "lora_model_name": "", "lora_rank": 16, "lora_alpha": 1.0, "lora_decompose": False,
    "lora_decompose_output_axis": False, "lokr_dim": 16, "lokr_decompose_both": False, "lokr_decompose_factor": -1,
    "lokr_full_matrix": False, "oft_block_size": 32,
    "optimizer.optimizer": "ADAMW", "optimizer.weight_decay": None, "optimizer.beta1": None, "optimizer.beta2": None,
    "optimizer.eps": None, "optimizer.is_paged": False, "optimizer.relative_step": False,
    "sample_after": 10, "sample_after_unit": "MINUTE", "save_every": 0, "save_every_unit": "NEVER",
}  # fmt: skip
# Keys that no setting carries, with their defaults: told when they stand otherwise
OTHER_DEFAULTS: dict[str, Any] = {
    "workspace_dir": "workspace/run", "cache_dir": "workspace-cache/run", "debug_dir": "debug", "tensorboard": True,
    "tensorboard_port": 6006, "validate_after": 1, "validate_after_unit": "EPOCH", "include_train_config": "NONE",
    "fused_gradient_reduce": True, "async_gradient_reduce": True, "async_gradient_reduce_buffer": 100,
    "gradient_reduce_precision": "FLOAT_32_STOCHASTIC", "async_offloading": True,
    "output_model_format": ("SAFETENSORS", "LEGACY_LORA"), "concept_file_name": "training_concepts/concepts.json",
    "sample_definition_file_name": "training_samples/samples.json", "clear_cache_before_training": True,
    "ema_update_step_interval": 5, "caching_threads": 2, "prefetch_next_batch": True, "temp_device": "cpu",
    "fallback_train_dtype": "BFLOAT_16", "enable_autocast_cache": True, "frames": "25", "attention_mechanism": "SDP",
    "huber_delta": 1.0, "vb_loss_strength": 1.0, "loss_scaler": "NONE", "learning_rate_scaler": "NONE",
    "timestep_shift": 1.0, "unmasked_probability": 0.1, "unmasked_weight": 0.1, "layer_filter_preset": "full",
    "embedding_weight_dtype": "FLOAT_32", "lora_decompose_norm_epsilon": True, "bundle_additional_embeddings": True,
    "oft_clipped_norm": 0.95, "lokr_dora_on_output": True, "lokr_vec_trick": True, "sample_image_format": "JPG",
    "sample_video_format": "MP4", "sample_audio_format": "MP3", "samples_to_tensorboard": True,
    "non_ema_sampling": True, "backup_after": 30, "backup_after_unit": "MINUTE", "rolling_backup_count": 3,
    "backup_before_save": True, "text_encoder_sequence_length": 512, "text_encoder_2_sequence_length": 77,
    "unet.guidance_scale": 1.0, "latent_caching_epochs": 1, "token_count": 1, "initial_embedding_text": "*",
    "text_encoder.weight_dtype": "FLOAT_32", "text_encoder_2.weight_dtype": "FLOAT_32",
    "optimizer.orthogonal_gradient": "disabled", "optimizer.centered_wd_mode": "full",
    "optimizer.state_precision": "auto",
}  # fmt: skip
# Keys of whole groups that decide nothing for an SDXL LoRA
WITHOUT_EFFECT = (
    "prior.", "transformer.", "unconditional_transformer.", "text_encoder_3", "text_encoder_4", "effnet_encoder.",
    "decoder.", "decoder_text_encoder.", "decoder_vqgan.", "embedding.", "optimizer_defaults", "quantization.",
    "secrets.", "__version",
)  # fmt: skip
_PART = ("include", "train_embedding", "attention_mask", "guidance_scale", "gradient_checkpointing", "train")
TRUE_OF_PARTS = tuple(f"{part}.{name}" for part in ("unet", "text_encoder", "text_encoder_2", "vae") for name in _PART)
# Switches of optimizers that are on by default
TRUE_OF_OPTIMIZERS = (
    "stochastic_rounding", "weight_decay_by_lr", "split_groups", "split_groups_mean", "factored", "factored_fp32",
    "use_stableadamw", "d_limiter", "use_schedulefree", "rms_rescaling", "fused", "block_wise",
)  # fmt: skip
# Names of older versions → today's
OLDER: dict[str, tuple[str, ...]] = {
    "train_unet": ("unet.train",), "unet_learning_rate": ("unet.learning_rate",),
    "unet_weight_dtype": ("unet.weight_dtype",), "train_unet_epochs": ("unet.stop_training_after",),
    "train_text_encoder": ("text_encoder.train",),
    "train_text_encoder_epochs": ("text_encoder.stop_training_after",),
    "text_encoder_learning_rate": ("text_encoder.learning_rate",), "train_text_encoder_2": ("text_encoder_2.train",),
    "train_text_encoder_2_epochs": ("text_encoder_2.stop_training_after",),
    "text_encoder_2_learning_rate": ("text_encoder_2.learning_rate",), "vae_model_name": ("vae.model_name",),
    "vae_weight_dtype": ("vae.weight_dtype",), "optimizer": ("optimizer.optimizer",),
    "optimizer_weight_decay": ("optimizer.weight_decay",), "optimizer_beta1": ("optimizer.beta1",),
    "optimizer_beta2": ("optimizer.beta2",), "optimizer_eps": ("optimizer.eps",),
    "gradient_checkpointing": ("unet.gradient_checkpointing",), "save_after": ("save_every",),
    "save_after_unit": ("save_every_unit",), "lora_layers": ("layer_filter",),
    "latent_caching": ("image_caching", "text_caching"), "dataloader_threads": ("caching_threads",),
}  # fmt: skip
# Why a key is not taken over, where there is more to say than that Atelier has no such setting
REASONS: dict[str, str] = {
    "masked_training": "masks lie beside the pictures there; here loss.mask takes them from transparency or a folder",
    "perturbation_noise_weight": "it goes into the target as well there; noise.perturbation adds to the input alone",
    "learning_rate_scaler": "set the learning rates themselves",
    "loss_scaler": "set the learning rates themselves",
    "huber_strength": "a sum of losses; Atelier takes one, loss.kind",
    "log_cosh_strength": "a sum of losses; Atelier takes one, loss.kind",
    "concept_file_name": "the pictures are named in a file of their own: choose the training folder here",
    "sample_definition_file_name": "the prompts are in a file of their own: write them into sample.prompts",
    "validation": "choose a folder of pictures in validation.folder, or a share of them in validation.share",
    "text_encoder_layer_skip": "captions.clip_skip counts from the end, and SDXL was made with 2",
    "text_encoder_2_layer_skip": "captions.clip_skip counts from the end, and SDXL was made with 2",
    "multi_gpu": "run.gpus says how many take part; Atelier is started on them by launchers/",
}
_SAVED = "what a resume needs is saved with every checkpoint; run.keep_states says how many stay"
_FASTER = "only speed and memory differ"
# What Atelier does anyway, or better without being asked
COVERED: dict[str, str] = {
    "attention_mechanism": "Atelier always computes attention with PyTorch's own fast kernels",
    "workspace_dir": "each run has a folder of its own here, in run.folder",
    "cache_dir": "caches lie in data.cache_folder",
    "clear_cache_before_training": "caches never go stale here",
    **dict.fromkeys(
        ("backup_after", "backup_after_unit", "backup_before_save", "rolling_backup", "rolling_backup_count"), _SAVED
    ),
    "continue_last_backup": "to resume a run: python -m engine train RUN_FOLDER",
    "tensorboard": "the page shows the curves; logging.tracker writes for TensorBoard as well",
    "output_model_format": "always .safetensors, with the names that all programs read",
    "weight_dtype": "frozen weights lie as they are computed with; memory.unet_storage packs them",
    **dict.fromkeys(("compile", "caching_threads", "dataloader_threads", "prefetch_next_batch"), _FASTER),
    "include_train_config": "every run folder holds its preset; sharing.training_facts writes it into the file",
}
NO_SUCH = "Atelier has no such setting, or its meaning is not known for sure"


def older_value(old: str, value: Any) -> Any:
    """An old name's value as today's: gradient checkpointing was "ON", "OFF" or "CPU_OFFLOADED"."""
    if old == "gradient_checkpointing" and isinstance(value, str):
        return value.upper() not in ("OFF", "FALSE")
    return value


def is_default(key: str, value: Any) -> bool:
    """Whether a key that no setting carries stands at its default. Where that is not known, nothing at all is."""
    if key in OTHER_DEFAULTS:
        known = OTHER_DEFAULTS[key]
        return value in known if isinstance(known, tuple) else value == known or str(value) == str(known)
    if key in TRUE_OF_PARTS or key.removeprefix("optimizer.") in TRUE_OF_OPTIMIZERS:
        return value in (True, False, 1.0, None)
    return value in (None, False, "", 0, "NONE", "NEVER", [], {})


def flat(content: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """The keys of all groups, joined by dots; lists stay whole."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{start}{name}."))
        else:
            found[f"{start}{name}"] = value
    return found
