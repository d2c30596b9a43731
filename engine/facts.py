"""What a saved LoRA tells about its making: preset and plan in the words of the files' metadata."""

from __future__ import annotations

import dataclasses
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.adapter_shapes import ALPHALESS
from engine.adapters import ADAPTERS
from engine.adapters.metadata import (
    ModelCard,
    TrainingFacts,
    base_model_hash,
    buckets,
    build_metadata,
    file_sha256,
    folders,
    only_needed,
    tags,
)
from engine.changes import Changes
from engine.merges import read_merges
from engine.optimizer_kinds import OPTIMIZERS
from engine.plan import Plan
from engine.plan_model import model_kind
from engine.preset import Preset, resolve
from engine.schedules import shape_of
from engine.sdxl.noise import Prediction
from engine.sections.adapter import Adapter
from engine.thumbnail import thumbnail_url

VERSION = "0.1.0"
_OPTIMIZERS = {name: kind.source.replace(":", ".") for name, kind in OPTIMIZERS.items()}
_OPTIMIZERS |= {"adamw": "torch.optim.adamw.AdamW", "adamw_8bit": "bitsandbytes.optim.adamw.AdamW8bit"}


class Biography:
    """The metadata of the run's checkpoints. Hashes of the model files are made beside the training.

    Reading a 7 GB file takes some seconds; they are waited for at the first save only.
    """

    def __init__(self, preset: Preset, plan: Plan, prediction: Prediction) -> None:
        self.preset = preset
        self.plan = plan
        self.prediction: Prediction = prediction
        self.facts = training_facts(preset, plan)
        self.card = model_card(preset)
        self.changes: Changes | None = None
        self._hashes: dict[str, Future[str]] = {}

    def begin_hashing(self) -> None:
        """Start to hash the model files in the background."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="hashes")
        for prefix, path in (("sd_model", self.preset.model.base), ("vae", self.preset.model.vae)):
            file = resolve(path) if path else None
            if file is not None and file.is_file():
                self._hashes[f"{prefix}_hash"] = pool.submit(base_model_hash, file)
                self._hashes[f"new_{prefix}_hash"] = pool.submit(file_sha256, file)
        pool.shutdown(wait=False)

    def at(self, step: int) -> dict[str, str]:
        """The metadata of a checkpoint saved now, at this step."""
        facts = dataclasses.replace(
            self.facts,
            steps=step,
            epoch=max(1, -(-step // self.plan.steps_per_epoch)),
            training_finished_at=time.time(),
            **{name: future.result() for name, future in self._hashes.items()},
        )
        metadata = build_metadata(facts, self.prediction, self.card, VERSION)
        if told := self.changes_at(step):
            metadata["atelier_changes"] = json.dumps(told, ensure_ascii=False)
        return metadata if self.preset.sharing.training_facts else only_needed(metadata)

    def changes_at(self, step: int) -> list[dict[str, Any]]:
        """What was changed in the run up to this step."""
        return self.changes.told(step) if self.changes else []


def model_card(preset: Preset) -> ModelCard:
    """What people read in the file."""
    sharing = preset.sharing
    return ModelCard(
        title=sharing.title,
        author=sharing.author or preset.author,
        description=sharing.description or preset.about,
        license=sharing.license,
        tags=sharing.tags,
        trigger_phrase=sharing.trigger_phrase or preset.captions.trigger,
        usage_hint=sharing.usage_hint,
        merged_from=sharing.merged_from,
        thumbnail=thumbnail_url(preset),
    )


def training_facts(preset: Preset, plan: Plan) -> TrainingFacts:
    """All that is known before the first step."""
    run, data, adapter, optimizer, noise, loss = (
        preset.run, preset.data, preset.adapter, preset.optimizer, preset.noise, preset.loss,
    )  # fmt: skip
    text_rates = [
        rate
        for on, rate in (
            (adapter.text_encoder_1, optimizer.text_encoder_1_rate),
            (adapter.text_encoder_2, optimizer.text_encoder_2_rate),
        )
        if on
    ]
    now = time.time()
    return TrainingFacts(
        output_name=run.name,
        training_started_at=now,
        training_finished_at=now,
        session_id=int(now * 1000) % 2**32,
        steps=0,
        epoch=1,
        max_train_steps=plan.steps,
        num_epochs=plan.epochs,
        num_batches_per_epoch=plan.batches_per_epoch,
        num_train_images=_shown(plan, regularization=False),
        num_reg_images=_shown(plan, regularization=True),
        batch_size_per_device=run.batch_size,
        total_batch_size=run.batch_size * run.gpus,
        gradient_accumulation_steps=run.accumulation,
        gradient_checkpointing=preset.memory.gradient_checkpointing,
        learning_rate=optimizer.unet_rate if adapter.unet else text_rates[0],
        unet_lr=optimizer.unet_rate if adapter.unet else None,
        text_encoder_lr=text_rates or None,
        network_dim=adapter.rank,
        network_alpha=adapter.alpha,
        network_dropout=adapter.network_dropout or None,
        scale_weight_norms=adapter.norm_limit or None,
        network_weights=Path(adapter.start_from).name or None,
        base_weights=", ".join(f"{merge.path.name}: {merge.strength:g}" for merge in read_merges(preset)) or None,
        network_module=ADAPTERS[adapter.algorithm].NETWORK_MODULE,
        network_args=network_args(adapter) or None,
        resolution=(data.width_px, data.height_px),
        seed=run.seed,
        mixed_precision="no" if preset.memory.precision == "fp32" else preset.memory.precision,
        optimizer=_OPTIMIZERS[optimizer.name],
        lr_scheduler=optimizer.schedule,
        lr_warmup_steps=shape_of(optimizer, plan.steps).warmup_steps,
        max_grad_norm=optimizer.clip_norm,
        dataset_dirs=_folders(plan, regularization=False),
        reg_dataset_dirs=_folders(plan, regularization=True),
        tag_frequency=_tags(plan),
        bucket_info=buckets({bucket.size_px: bucket.images for bucket in plan.buckets}, _aspect_error(plan)),
        enable_bucket=data.bucketing,
        bucket_no_upscale=not data.upscale_small_images,
        min_bucket_reso=data.bucket_min_px,
        max_bucket_reso=data.bucket_max_px,
        cache_latents=data.cache_latents,
        flip_aug=data.flip,
        color_aug=data.color_jitter,
        random_crop=data.random_crop,
        shuffle_caption=preset.captions.shuffle,
        keep_tokens=preset.captions.keep_tokens,
        caption_dropout_rate=preset.captions.dropout,
        caption_dropout_every_n_epochs=preset.captions.dropout_every_epochs,
        caption_tag_dropout_rate=preset.captions.tag_dropout,
        clip_skip=preset.captions.clip_skip if preset.captions.clip_skip != 2 else None,
        max_token_length=preset.captions.max_tokens if preset.captions.max_tokens != 75 else None,
        loss_type=loss.kind,
        huber_c=loss.huber_threshold,
        huber_schedule=loss.huber_schedule,
        huber_scale=loss.huber_scale,
        min_snr_gamma=loss.min_snr_gamma or None,
        debiased_estimation=loss.debiased,
        prior_loss_weight=loss.prior_weight,
        noise_offset=noise.offset or None,
        noise_offset_random_strength=noise.offset_random,
        adaptive_noise_scale=noise.offset_adaptive or None,
        multires_noise_iterations=noise.pyramid_levels or None,
        multires_noise_discount=noise.pyramid_discount,
        ip_noise_gamma=noise.perturbation or None,
        ip_noise_gamma_random_strength=noise.perturbation_random,
        zero_terminal_snr=model_kind(preset, plan.model)[1] if plan.model else False,
        sd_model_name=Path(preset.model.base).name,
        vae_name=Path(preset.model.vae).name if preset.model.vae else None,
        training_comment=preset.sharing.comment or None,
        **_validation_facts(preset, plan),
    )


def _validation_facts(preset: Preset, plan: Plan) -> dict[str, Any]:
    validation = preset.validation
    if not plan.validation:
        return {}
    return {
        "num_validation_images": len(plan.validation),
        "validation_seed": validation.seed,
        "validation_split": validation.share,
        "validate_every_n_epochs": validation.every_epochs or None,
        "validate_every_n_steps": validation.every_steps or None,
        "max_validation_steps": validation.most_batches or None,
    }


# Options by their names there; those of an algorithm are told where it is the one that is trained
_OPTIONS = {
    "lokr": {"factor": "factor", "decompose_both": "decompose_both", "full_matrix": "full_matrix"},
    "oft": {"constraint": "constraint", "rescaled": "rescaled"},
    "boft": {"constraint": "constraint", "rescaled": "rescaled"},
    "ia3": {"on_input": "train_on_input"},
    "dylora": {"block_size": "unit"},
}


def network_args(adapter: Adapter) -> dict[str, str | None]:
    """`ss_network_args`: what sd-scripts would have been told beside rank and alpha, as LyCORIS and kohya name it."""
    algorithm = ADAPTERS[adapter.algorithm].NETWORK_ALGORITHM
    found: dict[str, str | None] = {"algo": algorithm} if algorithm else {}
    if adapter.algorithm == "dora":
        found |= {"dora_wd": "True", "wd_on_output": str(adapter.dora_norm == "output")}
    if adapter.conv_rank:
        found["conv_dim"] = str(adapter.conv_rank)
        if adapter.algorithm not in ALPHALESS:
            found["conv_alpha"] = str(adapter.conv_alpha)
    found |= {theirs: str(getattr(adapter, ours)) for ours, theirs in _OPTIONS.get(adapter.algorithm, {}).items()}
    found |= {"rs_lora": "True"} if adapter.rank_stabilised else {}
    return found | ({"train_norm": "True"} if adapter.norms else {})


def _shown(plan: Plan, regularization: bool) -> int:
    return sum(image.repeats for image in plan.images if image.is_regularization == regularization)


def _folders(plan: Plan, regularization: bool) -> dict[str, dict[str, int]]:
    return folders(
        (subset.folder.name, subset.repeats, subset.images)
        for subset in plan.subsets
        if subset.is_regularization == regularization
    )


def _tags(plan: Plan) -> dict[str, dict[str, int]]:
    captions: dict[str, list[str]] = {}
    for image in plan.images:
        captions.setdefault(Path(image.subset).name, []).extend(image.caption.splitlines() or [""])
    return tags(captions)


def _aspect_error(plan: Plan) -> float:
    """Mean difference of aspect ratio between image and bucket, repeats counted."""
    errors = [
        (abs(image.size_px[0] / image.size_px[1] - image.bucket_px[0] / image.bucket_px[1]), image.repeats)
        for image in plan.images
    ]
    total = sum(repeats for _, repeats in errors)
    return sum(error * repeats for error, repeats in errors) / total if total else 0.0
