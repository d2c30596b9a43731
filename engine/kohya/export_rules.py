"""From our settings back to the keys of kohya_ss: one function for each group of settings whose form differs there.

Every other setting goes over under the name that it carries (`kohya`, else `sd_scripts`). Nothing here need be
complete: engine/kohya/export.py reads the result back and tells what did not survive.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.adapter_shapes import ALPHALESS, RANKLESS
from engine.errors import ModelError
from engine.kohya.inputs import SAMPLERS
from engine.kohya.layers import PRESETS
from engine.plan_model import model_kind
from engine.preset import Preset, resolve
from engine.sdxl.detect import identify
from engine.sdxl.layers import BLOCKS


@dataclass
class Sheet:
    """What is written: keys of the form, and options of sd-scripts for additional_parameters (True: a bare switch)."""

    keys: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


Rule = Callable[[Preset, Sheet], None]

TYPES = {
    "lora_fa": "LoRA-FA", "dora": "LyCORIS/LoCon", "loha": "LyCORIS/LoHa", "lokr": "LyCORIS/LoKr",
    "oft": "LyCORIS/Diag-OFT", "boft": "LyCORIS/BOFT", "dylora": "Kohya DyLoRA", "ia3": "LyCORIS/iA3",
    "glora": "LyCORIS/GLoRA", "full": "LyCORIS/Native Fine-Tuning",
}  # fmt: skip
_LAYERS = {ours: theirs for theirs, ours in PRESETS.items()}
_SAMPLERS = {ours: theirs for theirs, ours in reversed(SAMPLERS.items())}
_WHOLE_MATRICES = 100000  # LyCORIS' convention: a rank that no layer reaches


def model(preset: Preset, sheet: Sheet) -> None:
    prediction, has_zero_snr = _kind_of_model(preset)
    sheet.keys["v_parameterization"] = prediction == "v_prediction"
    if has_zero_snr:
        sheet.options["zero_terminal_snr"] = True
    lines = [line.strip() for line in preset.model.merged_adapters.splitlines() if line.strip()]
    pairs = [re.fullmatch(r"(.+?)(?::\s*([-+.\de]+))?", line) for line in lines]
    if lines:
        sheet.options["base_weights"] = [pair[1].strip() for pair in pairs if pair]
        sheet.options["base_weights_multiplier"] = [pair[2] or "1" for pair in pairs if pair]


def _kind_of_model(preset: Preset) -> tuple[str, bool]:
    """What "auto" finds in the model's file; the usual kind where there is no such file."""
    settings = preset.model
    prediction, snr = settings.prediction, settings.zero_terminal_snr
    if settings.base and "auto" in (prediction, snr):
        try:
            return model_kind(preset, identify(resolve(settings.base)))
        except ModelError:
            return prediction, snr == "yes"
    return prediction, snr == "yes"


def data(preset: Preset, sheet: Sheet) -> None:
    settings = preset.data
    sheet.keys["max_resolution"] = f"{settings.width_px},{settings.height_px}"
    sheet.keys["bucket_no_upscale"] = not settings.upscale_small_images
    if settings.resampling != "auto":
        sheet.options["resize_interpolation"] = settings.resampling
    if preset.captions.wildcards or preset.captions.lines == "random":
        sheet.options["enable_wildcard"] = True


def adapter(preset: Preset, sheet: Sheet) -> None:
    settings = preset.adapter
    is_lora = settings.algorithm in ("lora", "tlora")
    needs_lycoris = settings.norms or (settings.blocks in _LAYERS and settings.blocks != "all")
    convolutions = settings.conv_rank or settings.conv_block_ranks
    plain = "LyCORIS/LoCon" if needs_lycoris else "Kohya LoCon" if convolutions else "Standard"
    sheet.keys["LoRA_type"] = plain if is_lora else TYPES[settings.algorithm]
    sheet.keys["dora_wd"] = settings.algorithm == "dora"
    sheet.keys["LyCORIS_preset"] = _LAYERS.get(settings.blocks, "full")
    sheet.keys["conv_dim"] = settings.conv_rank
    sheet.keys["conv_alpha"] = settings.conv_alpha
    if settings.algorithm not in RANKLESS:
        whole = settings.algorithm == "lokr" and settings.full_matrix
        sheet.keys["network_dim"] = _WHOLE_MATRICES if whole else settings.rank
    if settings.algorithm not in ALPHALESS:
        sheet.keys["network_alpha"] = settings.alpha
    for ratio, key in (
        (settings.loraplus_unet_ratio, "loraplus_unet_lr_ratio"),
        (settings.loraplus_text_ratio, "loraplus_text_encoder_lr_ratio"),
    ):
        sheet.keys[key] = 0 if ratio == 1 else ratio
    _block_rates(settings.block_rates, sheet)


def _block_rates(text: str, sheet: Sheet) -> None:
    """Factors of the 9, 3 and 9 blocks; those of both ends are 1 there."""
    rates = [word for word in re.split(r"[,\s]+", text.strip()) if word]
    if rates:
        rates = rates * BLOCKS if len(rates) == 1 else rates
        for key, start, end in (("down_lr_weight", 1, 10), ("mid_lr_weight", 10, 13), ("up_lr_weight", 13, 22)):
            sheet.keys[key] = ",".join(rates[start:end])


def rates(preset: Preset, sheet: Sheet) -> None:
    """kohya_ss has one rate for both text encoders; 0 leaves a part out."""
    parts, optimizer = preset.adapter, preset.optimizer
    text = optimizer.text_encoder_1_rate if parts.text_encoder_1 else optimizer.text_encoder_2_rate
    unet_rate = optimizer.unet_rate if parts.unet else 0
    text_rate = text if parts.text_encoder_1 or parts.text_encoder_2 else 0
    sheet.keys.update(unet_lr=unet_rate, text_encoder_lr=text_rate, learning_rate=unet_rate or text_rate)
    share = parts.text_encoder_stop
    sheet.keys["stop_text_encoder_training"] = _number(share * 100) if share < 1 else 0


def length(preset: Preset, sheet: Sheet) -> None:
    run = preset.run
    by_epochs = run.length == "epochs"
    sheet.keys["epoch"] = run.epochs
    sheet.keys["max_train_epochs"] = run.epochs if by_epochs else 0
    sheet.keys["max_train_steps"] = 0 if by_epochs else run.steps


def noise(preset: Preset, sheet: Sheet) -> None:
    """The form passes on one kind of noise offset; a second one goes over as an option."""
    settings = preset.noise
    pyramid = {
        "multires_noise_iterations": settings.pyramid_levels,
        "multires_noise_discount": settings.pyramid_discount,
    }
    sheet.keys["noise_offset_type"] = "Original" if settings.offset or not settings.pyramid_levels else "Multires"
    if settings.offset and settings.pyramid_levels:
        sheet.options.update(pyramid)


def loss(preset: Preset, sheet: Sheet) -> None:
    settings = preset.loss
    sheet.keys["masked_loss"] = settings.mask != "none"
    if settings.mask == "alpha":
        sheet.options["alpha_mask"] = True


def saving(preset: Preset, sheet: Sheet) -> None:
    run = preset.run
    sheet.keys["save_precision"] = {"fp32": "float"}.get(run.save_precision, run.save_precision)
    _keep(sheet, preset, run.keep_last, "")
    if run.keep_states != 2:
        sheet.keys["save_state"] = True
        _keep(sheet, preset, run.keep_states, "_state")


def _keep(sheet: Sheet, preset: Preset, count: int, ending: str) -> None:
    """Files to keep: counted by epochs, and by the steps between which so many lie."""
    every = preset.run.save_every_steps
    if count and preset.run.save_every_epochs:
        sheet.keys[f"save_last_n_epochs{ending}"] = count
    if count and every:
        steps = count if count // every + 1 == count else (count - 1) * every
        sheet.keys[f"save_last_n_steps{ending}"] = steps


def sharing(preset: Preset, sheet: Sheet) -> None:
    logging, settings = preset.logging, preset.sharing
    if not settings.training_facts:
        sheet.options["no_metadata"] = True
    sheet.keys["log_with"] = "" if logging.tracker == "none" else logging.tracker
    sheet.keys["log_tracker_name"] = "" if logging.tracker == "none" else logging.project
    if settings.hub_repo and settings.hub_files == "checkpoints_and_states":
        sheet.keys["save_state_to_huggingface"] = True


def sample(preset: Preset, sheet: Sheet) -> None:
    sheet.keys["sample_sampler"] = _SAMPLERS[preset.sample.sampler]
    if preset.sample.at_start:
        sheet.options["sample_at_first"] = True


def memory(preset: Preset, sheet: Sheet) -> None:
    settings = preset.memory
    sheet.keys["mixed_precision"] = {"fp32": "no"}.get(settings.precision, settings.precision)
    sheet.keys["full_bf16"] = settings.adapter_precision == "bf16"
    sheet.keys["sdxl_no_half_vae"] = settings.vae_precision == "fp32"
    sheet.keys["num_cpu_threads_per_process"] = settings.threads or 2
    if settings.unet_storage == "fp8":
        sheet.keys["fp8_base"] = preset.captions.cache_text or settings.text_encoder_storage == "fp8"
        if not sheet.keys["fp8_base"]:
            sheet.options["fp8_base_unet"] = True


def _number(value: float) -> int | float:
    """The number without the dust of binary fractions, whole where it is: 10.000000000000002 is 10."""
    rounded = round(value, 9)
    return int(rounded) if rounded == int(rounded) else rounded


RULES: tuple[Rule, ...] = (model, data, adapter, rates, length, noise, loss, saving, sharing, sample, memory)
# Settings that the rules here and in export_optimizer.py write; all others go over by name
WRITTEN = frozenset((
    "model.prediction", "model.zero_terminal_snr", "model.merged_adapters", "data.width_px", "data.height_px",
    "data.upscale_small_images", "data.resampling", "captions.lines", "captions.wildcards", "adapter.algorithm",
    "adapter.rank", "adapter.alpha", "adapter.conv_rank", "adapter.conv_alpha", "adapter.blocks",
    "adapter.block_rates", "adapter.loraplus_unet_ratio", "adapter.loraplus_text_ratio", "adapter.unet",
    "adapter.text_encoder_1", "adapter.text_encoder_2", "adapter.text_encoder_stop", "optimizer.name",
    "optimizer.unet_rate", "optimizer.text_encoder_1_rate", "optimizer.text_encoder_2_rate", "optimizer.schedule",
    "optimizer.warmup_steps", "optimizer.warmup_share", "optimizer.min_ratio", "optimizer.decay_steps",
    "optimizer.decay_share", "optimizer.points", "optimizer.weight_decay", "optimizer.beta1", "optimizer.beta2",
    "optimizer.epsilon", "optimizer.extra", "run.epochs", "run.steps", "run.keep_last", "run.save_precision",
    "run.keep_states", "loss.mask", "sample.at_start", "sample.sampler", "memory.precision", "memory.unet_storage",
    "memory.text_encoder_storage", "memory.adapter_precision", "memory.vae_precision", "memory.threads",
    "logging.tracker", "logging.project", "sharing.training_facts",
))  # fmt: skip
