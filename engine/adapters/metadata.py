"""The metadata of a saved adapter: `ss_*` as kohya's trainer writes them, `modelspec.*` as Stability's ModelSpec asks.

A1111, Forge, ComfyUI and model sites show them and find base model, trigger words and resolution by them. Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"
ARCHITECTURE = "stable-diffusion-xl-v1-base/lora"
MODEL_SPEC_VERSION = "1.0.1"


@dataclass(frozen=True)
class TrainingFacts:
    """What is known about a run. Each field is the metadata entry `ss_<field>`; defaults are what an option that was
    not used is written as there. Times are seconds since 1970 (UTC), sizes (width, height), rates per step.

    Dicts: `dataset_dirs` and `reg_dataset_dirs` {folder name: {"n_repeats", "img_count"}} (`folders()`),
    `bucket_info` (`buckets()`), `tag_frequency` {folder name: {tag: count}} (`tags()`), `network_args` {name: text}.
    """

    output_name: str
    training_started_at: float
    training_finished_at: float
    session_id: int
    steps: int
    epoch: int
    max_train_steps: int
    num_epochs: int
    num_batches_per_epoch: int
    num_train_images: int
    batch_size_per_device: int
    total_batch_size: int
    learning_rate: float
    network_dim: int
    network_alpha: float
    resolution: tuple[int, int]
    seed: int
    mixed_precision: Literal["no", "fp16", "bf16"]
    optimizer: str
    lr_scheduler: str
    network_module: str = "networks.lora"
    network_args: Mapping[str, str | None] | None = None
    network_dropout: float | None = None
    network_weights: str | None = None
    base_weights: str | None = None
    unet_lr: float | None = None
    text_encoder_lr: float | list[float] | None = None
    lr_warmup_steps: int = 0
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    num_reg_images: int = 0
    num_validation_images: int = 0
    # data
    dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reg_dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    bucket_info: Mapping[str, object] | None = None
    enable_bucket: bool = True
    bucket_no_upscale: bool = False
    min_bucket_reso: int | None = None
    max_bucket_reso: int | None = None
    resize_interpolation: str | None = None
    cache_latents: bool = True
    color_aug: bool = False
    flip_aug: bool = False
    random_crop: bool = False
    face_crop_aug_range: str | None = None
    # captions
    clip_skip: int | None = None
    max_token_length: int | None = None
    keep_tokens: int = 0
    shuffle_caption: bool = False
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    # noise and loss
    loss_type: str = "l2"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    huber_schedule: str = "snr"
    min_snr_gamma: float | None = None
    debiased_estimation: bool = False
    scale_weight_norms: float | None = None
    prior_loss_weight: float = 1.0
    noise_offset: float | None = None
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float | None = None
    multires_noise_iterations: int | None = None
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float | None = None
    ip_noise_gamma_random_strength: bool = False
    zero_terminal_snr: bool = False
    # base model
    sd_model_name: str | None = None
    sd_model_hash: str | None = None
    new_sd_model_hash: str | None = None
    vae_name: str | None = None
    vae_hash: str | None = None
    new_vae_hash: str | None = None
    base_model_version: str = "sdxl_base_v1-0"
    v2: bool = False
    fp8_base: bool = False
    fp8_base_unet: bool = False
    full_fp16: bool = False
    lowram: bool = False
    # validation
    validation_seed: int | None = None
    validation_split: float = 0.0
    validate_every_n_epochs: int | None = None
    validate_every_n_steps: int | None = None
    max_validation_steps: int | None = None
    training_comment: str | None = None


_MODEL_FILES = {"sd_model_name", "sd_model_hash", "new_sd_model_hash", "vae_name", "vae_hash", "new_vae_hash"}
_ONLY_WHEN_SET = _MODEL_FILES | {"network_args", "network_weights", "base_weights", "bucket_info"}


@dataclass(frozen=True)
class ModelCard:
    """What people read: entries `modelspec.<field>`, left out where empty. `title` falls back to the file's name."""

    title: str = ""
    author: str = ""
    description: str = ""
    license: str = ""
    tags: str = ""
    trigger_phrase: str = ""
    usage_hint: str = ""
    merged_from: str = ""
    thumbnail: str = ""


# What loading programs go by; all that is left where a run's facts are not to be told, as in sd-scripts
NEEDED = (
    "ss_v2",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
)


def only_needed(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata without how the LoRA was trained: what programs need, and what people were meant to read."""
    return {key: text for key, text in metadata.items() if key in NEEDED or key.startswith("modelspec.")}


def build_metadata(
    facts: TrainingFacts,
    prediction: Literal["epsilon", "v_prediction"],
    card: ModelCard | None = None,
    version: str = "",
) -> dict[str, str]:
    """All metadata but the hashes, which `save_adapter` adds. `version` names this program, e.g. "0.1.0"."""
    found = {f"ss_{each.name}": _text(getattr(facts, each.name)) for each in fields(facts)}
    for name in _ONLY_WHEN_SET:
        if getattr(facts, name) is None:
            del found[f"ss_{name}"]
    return found | _model_spec(facts, prediction, card or ModelCard(), version)


def _model_spec(facts: TrainingFacts, prediction: str, card: ModelCard, version: str) -> dict[str, str]:
    date = datetime.fromtimestamp(int(facts.training_finished_at), timezone.utc).replace(tzinfo=None)
    found = {each.name: getattr(card, each.name) for each in fields(card)} | {
        "sai_model_spec": MODEL_SPEC_VERSION,
        "architecture": ARCHITECTURE,
        "implementation": IMPLEMENTATION,
        "implementation_version": f"atelier/{version}" if version else "atelier",
        "title": card.title or facts.output_name,
        "resolution": "{}x{}".format(*facts.resolution),
        "date": date.isoformat(),
        "prediction_type": "v" if prediction == "v_prediction" else "epsilon",
        "encoder_layer": "" if facts.clip_skip is None else str(facts.clip_skip),
    }
    return {f"modelspec.{name}": text for name, text in found.items() if text}


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def folders(subsets: Iterable[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
    """`dataset_dirs` from (folder name, repeats, images); folders of one name are added up."""
    found: dict[str, dict[str, int]] = {}
    for name, repeats, images in subsets:
        earlier = found.get(name, {"img_count": 0})
        found[name] = {"n_repeats": repeats, "img_count": earlier["img_count"] + images}
    return found


def buckets(counts: Mapping[tuple[int, int], int], mean_aspect_error: float) -> dict[str, object]:
    """`bucket_info` from {(width, height): images, repeats counted} and the mean error of the aspect ratio."""
    rows = {
        str(place): {"resolution": list(size), "count": counts[size]}
        for place, size in enumerate(sorted(counts))
        if counts[size]
    }
    return {"buckets": rows, "mean_img_ar_error": mean_aspect_error}


def tags(captions: Mapping[str, Iterable[str]]) -> dict[str, dict[str, int]]:
    """`tag_frequency`: for each folder how often each part between commas occurs, in small letters."""
    found: dict[str, dict[str, int]] = {}
    for folder, texts in captions.items():
        counts = found.setdefault(folder, {})
        for tag in (part.strip().lower() for text in texts for part in text.split(",")):
            if tag:
                counts[tag] = counts.get(tag, 0) + 1
    return found


def base_model_hash(path: Path) -> str:
    """`sd_model_hash`: the first 8 digits of the SHA-256 of 64 KiB from the first MiB on (A1111's old model hash)."""
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def file_sha256(path: Path) -> str:
    """`new_sd_model_hash`: the SHA-256 of the whole file. Reads all of it: some 5 s for SDXL from a fast disk."""
    digest, buffer = hashlib.sha256(), bytearray(1 << 22)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()
