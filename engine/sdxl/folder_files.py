"""What stands in a diffusers folder beside the weights: index, configurations, scheduler, tokenizers. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from engine.sdxl.detect import ModelFacts
from engine.sdxl.folder import PART_FOLDERS
from engine.sdxl.tokenizer import CHUNK_IDS, vocabulary

PIPELINES = {
    "base": "StableDiffusionXLPipeline",
    "inpainting": "StableDiffusionXLInpaintPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
}
CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_1": ("transformers", "CLIPTextModel"),
    "text_2": ("transformers", "CLIPTextModelWithProjection"),
}
_TOKENIZERS = {"text_1": ("tokenizer", "<|endoftext|>"), "text_2": ("tokenizer_2", "!")}
_NOT_THERE = (None, None)


def folder_texts(facts: ModelFacts) -> dict[str, str]:
    """{path below the folder: content} of every file without weights. MissingPackage without CLIP's vocabulary."""
    found = {"model_index.json": _json(_index(facts)), "scheduler/scheduler_config.json": _json(_scheduler(facts))}
    words, merges = vocabulary()
    texts = {
        "vocab.json": json.dumps(words, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
    }
    for part, name in PART_FOLDERS.items():
        config = getattr(facts.config, part)
        if config is None:
            continue
        found[f"{name}/config.json"] = _json(_about(part) | config)
        if part in _TOKENIZERS:
            folder, pad = _TOKENIZERS[part]
            special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
            special["pad_token"] = pad
            about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": CHUNK_IDS, "do_lower_case": True}
            found |= {f"{folder}/{file}": text for file, text in texts.items()}
            found[f"{folder}/special_tokens_map.json"] = _json(special)
            found[f"{folder}/tokenizer_config.json"] = _json(about | special)
    return found


def _about(part: str) -> dict[str, Any]:
    library, name = CLASSES[part]
    if library == "diffusers":
        return {"_class_name": name, "_diffusers_version": version("diffusers")}
    return {"architectures": [name], "model_type": "clip_text_model", "attention_dropout": 0.0}


def _index(facts: ModelFacts) -> dict[str, Any]:
    held = [part for part in PART_FOLDERS if getattr(facts.config, part) is not None]
    found: dict[str, Any] = {
        "_class_name": PIPELINES[facts.kind],
        "_diffusers_version": version("diffusers"),
        "force_zeros_for_empty_prompt": facts.kind != "refiner",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    }
    if facts.kind == "refiner":
        found["requires_aesthetics_score"] = True
    for part, name in PART_FOLDERS.items():
        found[name] = list(CLASSES[part] if part in held else _NOT_THERE)
    for part, (name, _) in _TOKENIZERS.items():
        found[name] = list(("transformers", "CLIPTokenizer") if part in held else _NOT_THERE)
    if facts.kind != "refiner":
        found |= {"feature_extractor": list(_NOT_THERE), "image_encoder": list(_NOT_THERE)}
    return found


def _scheduler(facts: ModelFacts) -> dict[str, Any]:
    """As Stability published SDXL's; with a zero terminal SNR the last timestep must be drawn, so: trailing."""
    return {
        "_class_name": "EulerDiscreteScheduler",
        "_diffusers_version": version("diffusers"),
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
        "prediction_type": facts.prediction,
        "rescale_betas_zero_snr": facts.zero_terminal_snr,
        "steps_offset": 1,
        "timestep_spacing": "trailing" if facts.zero_terminal_snr else "leading",
        "trained_betas": None,
        "use_karras_sigmas": False,
    }


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"
