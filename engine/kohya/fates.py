"""What becomes of another trainer's keys that no setting carries: covered by something better, or refused, and why.

Every key ends as a setting, in `COVERED` or in `REFUSED`; a test proves it.
"""

from __future__ import annotations

from engine.kohya.plain import NO_EFFECT
from engine.kohya.values import PRESET_KEYS

_READING = "Atelier chooses how many images are read at once; only speed differs"
_ATTENTION = "Atelier always computes attention with PyTorch's own fast kernels"
_STATE = "a run always keeps what a resume needs"
_CACHES = "cached features always lie on disk, in the cache folder"
_LOG = "each run keeps all that it says in its log.txt; the terminal shows one line of progress"
_PRESETS = "a preset is that file: each run keeps its own, and `python -m engine import` reads this one"
_PLACE = "a resumed run goes on at its exact place in the data: python -m engine train RUN_FOLDER"
# What Atelier always does, or does better without being asked
COVERED: dict[str, str] = {
    "help": "`python -m engine train --help`; every setting is in docs/settings.md",
    "xformers": _ATTENTION, "sdpa": _ATTENTION, "mem_eff_attn": _ATTENTION,
    "cache_latents_to_disk": _CACHES, "cache_text_encoder_outputs_to_disk": _CACHES,
    "skip_cache_check": "caches are found by content, so there is nothing to check",
    "cache_info": "only headers are read, at each start: thousands of images a second, and nothing can be out of date",
    "save_state": _STATE, "save_state_on_train_end": _STATE,
    "max_data_loader_n_workers": _READING, "persistent_data_loader_workers": _READING,
    "disable_mmap_load_safetensors": "the model is memory-mapped; only speed and memory differ",
    "highvram": "Atelier watches the memory itself; only speed differs",
    "lowram": "models are loaded memory-mapped; only memory differs",
    "tokenizer_cache_dir": "the tokenizers are in the package",
    "console_log_level": _LOG, "console_log_file": _LOG, "console_log_simple": _LOG,
    "log_prefix": "the tracker's folder is named for the run; logging.run_name gives it another name",
    "async_upload": "uploads always happen beside the training",
    "debug_dataset": "the tab Data set, or `python -m engine check`, shows every image, its bucket and its caption",
    "additional_parameters": "each option is read like the argument of that name",
    "noise_offset_type": "noise.offset and noise.pyramid_levels are settings; the chosen one is taken over",
    "bypass_mode": "Atelier never rebuilds the base weights in a step; the results are the same",
    "rank_dropout_scale": "what rank dropout leaves is always scaled up, so that the strength stays",
    "config_file": _PRESETS, "output_config": _PRESETS,
    "initial_epoch": _PLACE, "initial_step": _PLACE, "skip_until_initial_step": _PLACE,
}  # fmt: skip

_OTHER = "belongs to another model family; " + NO_EFFECT + " for SDXL"
_FINETUNING = "of full fine-tuning or DreamBooth; " + NO_EFFECT + " for a LoRA"
_HUB = "Atelier resumes from a run folder on disk: fetch the state from the hub first"
_LAUNCH = "how the trainer was started; Atelier is started on several GPUs by launchers/, see docs"
_TRACKER = "options of the tracker itself: give them to W&B by its own WANDB_ variables"
_COMPILING = (
    "compiling takes minutes, again for every bucket size; Atelier's step dispatches fewer operations instead, "
    "and computes the same"
)
_SHARDING = (
    "DeepSpeed spreads what is trained over GPUs and disks; of a LoRA that is a few megabytes. For less memory: "
    "gradient checkpointing, cached features, an 8-bit optimizer"
)
_DDP = "an option of PyTorch's DistributedDataParallel, which Atelier does not use; results are the same"
_METADATA_FILE = "Atelier reads captions from text files beside the images: write them out once"
_CODE = "names Python code that would be run; Atelier runs none that is not its own"
# Keys that are told when they are set to something else than their default
REFUSED: dict[str, str] = {
    **{name: _OTHER for name, fact in PRESET_KEYS.items() if fact.family not in ("sdxl", "legacy")},
    **dict.fromkeys(("flux1_clip_l", "flux1_t5xxl"), _OTHER),
    **dict.fromkeys(
        ("block_lr", "fused_backward_pass", "fused_optimizer_groups", "flux_fused_backward_pass", "no_token_padding",
         "blockwise_fused_optimizers", "learning_rate_te", "learning_rate_te1", "learning_rate_te2"), _FINETUNING),
    "resume_from_huggingface": _HUB,
    **dict.fromkeys(
        ("multi_gpu", "num_processes", "num_machines", "gpu_ids", "main_process_port", "extra_accelerate_launch_args"),
        _LAUNCH),
    **dict.fromkeys(
        ("torch_compile", "dynamo_backend", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic"), _COMPILING),
    **dict.fromkeys(("ddp_timeout", "ddp_gradient_as_bucket_view", "ddp_static_graph"), _DDP),
    **dict.fromkeys(
        ("deepspeed", "zero_stage", "offload_optimizer_device", "offload_optimizer_nvme_path", "offload_param_device",
         "offload_param_nvme_path", "zero3_init_flag", "zero3_save_16bit_model", "fp16_master_weights_and_gradients"),
        _SHARDING),
    "log_tracker_config": _TRACKER,
    "metadata_preprocessor": "of ControlNets and the like; a LoRA has none",
    "metadata_is_negative_embedding": "of textual inversion; Atelier trains LoRAs",
    **dict.fromkeys(("model_list", "lowvram", "save_as", "save_as_bool", "training_preset"), NO_EFFECT),
    **dict.fromkeys(("in_json", "dataset_repeats"), _METADATA_FILE),
    **dict.fromkeys(("dataset_class", "lr_scheduler_type"), _CODE),
    "face_crop_aug_range": "reads a face's place from each file's name and works without buckets only; cut such "
    "pictures beforehand, or use data.random_crop",
    "v2": "Stable Diffusion 2; Atelier trains SDXL only",
    "resume": "to resume a run of Atelier: python -m engine train RUN_FOLDER; states of sd-scripts are not read",
    "cpu_offload_checkpointing":
    "copies activations to main memory and back at every block; with gradient checkpointing they are a tenth already; "
    "memory.unet_storage spares more",
    "full_fp16": "fp16 rounds small updates away; memory.adapter_precision=bf16 takes as little, unbiased",
    **dict.fromkeys(
        ("use_cp", "use_tucker"), "a core matrix between those of a convolution; Atelier trains the two without it"),
    "use_scalar": "a learned factor in the place of a start at zero; Atelier starts at zero",
    "train_inpainting": "for inpainting models, which Atelier does not train",
}  # fmt: skip
