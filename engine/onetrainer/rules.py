"""One rule for each key of OneTrainer that a setting carries: what becomes of its value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from engine.kohya.receipt import Outcome
from engine.onetrainer.adapter import decompose, layers, lora_precision, peft, rank
from engine.onetrainer.keys import DEFAULTS
from engine.onetrainer.learning import (
    cycles,
    learning_rate,
    min_factor,
    optimizer,
    optimizer_number,
    paged,
    rate,
    scheduler,
    stop_text,
    stop_unet,
    warmup,
    weight_decay,
)
from engine.onetrainer.shared import Rule, Values, chosen, fixed, straight, told_by
from engine.preset import resolve

_PRECISIONS = {"FLOAT_16": "fp16", "BFLOAT_16": "bf16", "FLOAT_32": "fp32", "TFLOAT_32": "fp32"}
_STORAGES = {"FLOAT_8": "fp8", "INT_8": "int8", "NFLOAT_4": "nf4"}


def path(setting: str, values: Values, key: str) -> Outcome:
    text = str(values[key] or "")
    if text in ("", DEFAULTS[key]):
        return Outcome("ignored_default", setting=setting)
    is_file = text.endswith((".safetensors", ".ckpt")) or resolve(text).exists()
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not is_file:
        what = "a name on the Hugging Face hub; Atelier downloads nothing: choose the file on your disk"
        return Outcome("ignored_effect", note=what, setting=setting)
    return Outcome("honoured", {setting: text})


def destination(values: Values, key: str) -> Outcome:
    name = PurePosixPath(str(values[key]).replace("\\", "/")).stem
    if values[key] == DEFAULTS[key] or not name:
        return Outcome("ignored_default", setting="run.name")
    return Outcome("converted", {"run.name": name}, "the file's name; it lies in the run's own folder")


def resolution(values: Values, key: str) -> Outcome:
    sizes = [int(float(part)) for part in str(values[key]).split(",") if re.fullmatch(r"\s*\d+(\.0)?\s*", part)]
    if not sizes:
        return Outcome("ignored_effect", note="is not a number of pixels such as 1024", setting="data.width_px")
    settings = {"data.width_px": max(sizes), "data.height_px": max(sizes)}
    if len(sizes) > 1:
        return Outcome("ignored_effect", settings, "several sizes at once; the largest is used")
    return Outcome("converted", settings)


def text_cache(values: Values, key: str) -> Outcome:
    if values[key] and (values["text_encoder.train"] or values["text_encoder_2.train"]):
        return Outcome("converted", {"captions.cache_text": False}, "off, because text encoders are trained")
    return Outcome("honoured", {"captions.cache_text": bool(values[key])})


def caption_dropout(values: Values, key: str) -> Outcome:
    both = [values["text_encoder.dropout_probability"], values["text_encoder_2.dropout_probability"]]
    if not any(both):
        return Outcome("honoured", {"captions.dropout": 0.0})
    if both[0] != both[1]:
        what = "each text encoder for itself; Atelier leaves a caption out for both"
        return Outcome("ignored_effect", {"captions.dropout": float(min(both))}, what)
    return Outcome("converted", {"captions.dropout": float(both[0])}, "the caption is left out for both at once")


def ema(values: Values, key: str) -> Outcome:
    if values[key] == "OFF":
        return Outcome("ignored_default", {"run.ema_decay": 0.0})
    device = "cpu" if values[key] == "CPU" else "same"
    settings = {"run.ema_decay": float(values["ema_decay"]), "run.ema_device": device}
    return Outcome("converted", settings, "averaged at every step, there every few")


def loss_kind(values: Values, key: str) -> Outcome:
    mse, mae = values["mse_strength"], values["mae_strength"]
    if (mse, mae) in ((1, 0), (0, 1)):
        return Outcome("converted", {"loss.kind": "l2" if mse else "l1"})
    return Outcome("ignored_effect", {"loss.kind": "l2" if mse else "l1"}, "a sum of losses; Atelier takes one")


def loss_weight(values: Values, key: str) -> Outcome:
    strength = float(values["loss_weight_strength"])
    found: dict[str, dict[str, Any]] = {
        "CONSTANT": {}, "MIN_SNR_GAMMA": {"loss.min_snr_gamma": strength}, "P2": {"loss.p2_gamma": strength},
        "DEBIASED_ESTIMATION": {"loss.debiased": True},
    }  # fmt: skip
    if values[key] not in found:
        return Outcome("ignored_effect", note=f"Atelier knows {', '.join(found)}")
    return Outcome("converted" if found[values[key]] else "ignored_default", found[values[key]])


def prediction(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    return Outcome("converted", {"model.prediction": "v_prediction" if key == "force_v_prediction" else "epsilon"})


def zero_snr(values: Values, key: str) -> Outcome:
    if values[key]:
        return Outcome("converted", {"model.zero_terminal_snr": "yes"})
    return Outcome("ignored_default", note="as the model's file says")


def timesteps(values: Values, key: str) -> Outcome:
    if values[key] == "UNIFORM":
        return Outcome("converted", {"noise.timesteps": "uniform"})
    if values[key] == "LOGIT_NORMAL":
        mean, deviation = float(values["noising_bias"]), float(values["noising_weight"]) + 1.0
        settings = {"noise.logit_mean": mean, "noise.logit_deviation": deviation}
        return Outcome("converted", {"noise.timesteps": "logit_normal", **settings})
    return Outcome("ignored_effect", note="Atelier has no such distribution; noise.timestep_curve can draw it")


def strength(setting: str, values: Values, key: str) -> Outcome:
    return Outcome("converted", {setting: int(1000 * values[key])}, "of 1000 timesteps")


def unet_storage(values: Values, key: str) -> Outcome:
    stored = _STORAGES.get(str(values[key]), "same")
    if stored == "same":
        return Outcome("ignored_default", note="frozen weights lie as they are computed with")
    if values["train_dtype"] in ("FLOAT_32", "TFLOAT_32"):
        return Outcome("ignored_effect", note="packed weights need memory.precision = bf16")
    return Outcome("converted", {"memory.unet_storage": stored})


def due(kind: str, values: Values, key: str) -> Outcome:
    """How often samples are drawn or files saved: a number and its unit, told by the number."""
    amount, unit = int(values[key]), str(values[f"{key}_unit"])
    found: dict[str, int] = {f"{kind}_epochs": 0, f"{kind}_steps": 0}
    if unit in ("EPOCH", "STEP"):
        found[f"{kind}_{unit.lower()}s"] = amount
    elif unit in ("MINUTE", "HOUR") and kind.startswith("run"):
        found[f"{kind}_minutes"] = amount * (60 if unit == "HOUR" else 1)
    elif unit != "NEVER" and amount:
        what = f"counts in {unit}; here after every epoch"
        return Outcome("ignored_effect", {**found, f"{kind}_epochs": 1}, what)
    return Outcome("converted", found)


def samples(values: Values, key: str) -> Outcome:
    """The prompts inside the file, with their sizes, seeds and negative prompts as switches."""
    lines: list[str] = []
    for entry in values[key] or ():
        if isinstance(entry, Mapping) and entry.get("enabled", True) and str(entry.get("prompt") or "").strip():
            switches = [("n", "negative_prompt"), ("w", "width"), ("h", "height"), ("s", "diffusion_steps"),
                        ("l", "cfg_scale"), ("d", "seed")]  # fmt: skip
            told = [f"--{letter} {entry[name]}" for letter, name in switches if entry.get(name) not in (None, "")]
            lines.append(" ".join([" ".join(str(entry["prompt"]).split()), *told]))
    if not lines:
        return Outcome("ignored_default", setting="sample.prompts")
    return Outcome("converted", {"sample.prompts": "\n".join(lines)}, "sizes, seeds and negative prompts as switches")


def concepts(values: Values, key: str) -> Outcome:
    """One folder shown once an epoch is our training folder; several must be put together by the user."""
    given = [entry for entry in values[key] or () if isinstance(entry, Mapping) and entry.get("enabled", True)]
    if not given:
        return Outcome("ignored_default", setting="data.folder")
    first = given[0]
    alone = len(given) == 1 and first.get("balancing", 1) == 1 and not first.get("include_subdirectories")
    if alone and first.get("path"):
        what = "the folder; how captions and pictures are changed is set in captions and data"
        return Outcome("ignored_effect", {"data.folder": str(first["path"])}, what)
    what = "put the pictures into one folder with sub-folders named like 10_name, 10 being the repeats"
    return Outcome("ignored_effect", note=what, setting="data.folder")


def device(values: Values, key: str) -> Outcome:
    return Outcome("converted", {"memory.device": "cpu" if values[key] == "cpu" else "auto"})


RULES: dict[str, Rule] = {
    "training_method": fixed("a LoRA is what Atelier trains"), "model_type": fixed("SDXL is what Atelier trains"),
    "base_model_name": partial(path, "model.base"), "vae.model_name": partial(path, "model.vae"),
    "output_model_destination": destination,
    "output_dtype": chosen("run.save_precision", _PRECISIONS), "concepts": concepts, "samples": samples,
    "aspect_ratio_bucketing": straight("data.bucketing", bool), "image_caching": straight("data.cache_latents", bool),
    "text_caching": text_cache, "resolution": resolution, "learning_rate_scheduler": scheduler,
    "learning_rate": learning_rate, "learning_rate_warmup_steps": warmup, "learning_rate_cycles": cycles,
    "learning_rate_min_factor": min_factor, "epochs": straight("run.epochs", int),
    "batch_size": straight("run.batch_size", int), "gradient_accumulation_steps": straight("run.accumulation", int),
    "ema": ema, "ema_decay": told_by("ema", "run.ema_decay"), "train_device": device,
    "train_dtype": chosen("memory.precision", _PRECISIONS), "mse_strength": loss_kind, "mae_strength": loss_kind,
    "loss_weight_fn": loss_weight, "loss_weight_strength": told_by("loss_weight_fn", "loss.min_snr_gamma"),
    "dropout_probability": straight("adapter.network_dropout"), "clip_grad_norm": straight("optimizer.clip_norm"),
    "offset_noise_weight": straight("noise.offset"), "rescale_noise_scheduler_to_zero_terminal_snr": zero_snr,
    "force_v_prediction": prediction, "force_epsilon_prediction": prediction, "timestep_distribution": timesteps,
    "noising_weight": told_by("timestep_distribution", "noise.logit_deviation"),
    "noising_bias": told_by("timestep_distribution", "noise.logit_mean"),
    "min_noising_strength": partial(strength, "noise.min_timestep"),
    "max_noising_strength": partial(strength, "noise.max_timestep"),
    "unet.train": straight("adapter.unet", bool), "unet.learning_rate": partial(rate, "unet", "optimizer.unet_rate"),
    "unet.weight_dtype": unet_storage, "unet.gradient_checkpointing": straight("memory.gradient_checkpointing", bool),
    "unet.stop_training_after": stop_unet,
    "unet.stop_training_after_unit": told_by("unet.stop_training_after", ""),
    "text_encoder.train": straight("adapter.text_encoder_1", bool),
    "text_encoder.learning_rate": partial(rate, "text_encoder", "optimizer.text_encoder_1_rate"),
    "text_encoder.stop_training_after": stop_text,
    "text_encoder.stop_training_after_unit": told_by("stop_training_after", "adapter.text_encoder_stop"),
    "text_encoder.dropout_probability": caption_dropout,
    "text_encoder_2.train": straight("adapter.text_encoder_2", bool),
    "text_encoder_2.learning_rate": partial(rate, "text_encoder_2", "optimizer.text_encoder_2_rate"),
    "text_encoder_2.stop_training_after": stop_text,
    "text_encoder_2.stop_training_after_unit": told_by("stop_training_after", "adapter.text_encoder_stop"),
    "text_encoder_2.dropout_probability": caption_dropout,
    "vae.weight_dtype": chosen("memory.vae_precision", {"FLOAT_32": "fp32", "BFLOAT_16": "auto", "FLOAT_16": "auto"}),
    "lora_weight_dtype": lora_precision, "layer_filter": layers, "peft_type": peft,
    "lora_model_name": partial(path, "adapter.start_from"),
    "lora_rank": partial(rank, ("lora", "dora", "loha"), "adapter.rank", int),
    "lora_alpha": partial(rank, ("lora", "dora", "loha", "lokr"), "adapter.alpha", float),
    "lora_decompose": decompose, "lora_decompose_output_axis": decompose,
    "lokr_dim": partial(rank, ("lokr",), "adapter.rank", int),
    "lokr_decompose_both": partial(rank, ("lokr",), "adapter.decompose_both", bool),
    "lokr_decompose_factor": partial(rank, ("lokr",), "adapter.factor", int),
    "lokr_full_matrix": partial(rank, ("lokr",), "adapter.full_matrix", bool),
    "oft_block_size": partial(rank, ("oft",), "adapter.rank", int),
    "optimizer.optimizer": optimizer, "optimizer.weight_decay": weight_decay,
    "optimizer.beta1": partial(optimizer_number, "beta1"), "optimizer.beta2": partial(optimizer_number, "beta2"),
    "optimizer.eps": partial(optimizer_number, "epsilon"), "optimizer.is_paged": paged,
    "optimizer.relative_step": told_by("learning_rate_scheduler", "optimizer.schedule"),
    "sample_after": partial(due, "sample.every"), "sample_after_unit": told_by("sample_after", "sample.every_epochs"),
    "save_every": partial(due, "run.save_every"), "save_every_unit": told_by("save_every", "run.save_every_epochs"),
}  # fmt: skip
