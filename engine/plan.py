"""Everything that is derived from preset and data before a run: images, buckets, steps, problems. Torch-free.

`check`, the page and the run itself use this one function, so that what was announced is what happens.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.data import buckets, order
from engine.data.scan import Item, Scan, Subset, scan
from engine.errors import DatasetError, ModelError, Problem
from engine.preset import Preset, resolve
from engine.prompts import SamplePrompt, parse_prompts
from engine.rules import bucket_rules
from engine.sdxl.configs import ModelConfig
from engine.sdxl.detect import ModelFacts, Prediction, identify
from engine.sdxl.layers import LayerShape, text_layers, unet_attention_layers, unet_conv_layers

BYTES_OF = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class SubsetPlan:
    name: str
    folder: Path
    repeats: int
    images: int
    captioned: int
    is_regularization: bool


@dataclass(frozen=True)
class ImagePlan:
    """One image and its way to its bucket. `repeats` is how often an epoch draws it (0: surplus regularization)."""

    path: Path
    subset: str
    caption: str
    size_px: tuple[int, int]
    bucket_px: tuple[int, int]
    resized_px: tuple[int, int]
    crop_left_top_px: tuple[int, int]
    repeats: int
    is_regularization: bool

    @property
    def placement(self) -> buckets.Placement:
        return buckets.Placement(self.bucket_px, self.resized_px, self.crop_left_top_px)


@dataclass(frozen=True)
class BucketPlan:
    """A bucket's size, its images (repeats counted) and its batches per epoch."""

    size_px: tuple[int, int]
    images: int
    batches: int


@dataclass(frozen=True)
class Plan:
    """What a run will do. `decided_by` tells which setting ends it: run.epochs or run.steps."""

    model: ModelFacts | None
    subsets: tuple[SubsetPlan, ...]
    images: tuple[ImagePlan, ...]
    buckets: tuple[BucketPlan, ...]
    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    decided_by: Literal["epochs", "steps"]
    prompts: tuple[SamplePrompt, ...]
    save_steps: tuple[int, ...]
    sample_steps: tuple[int, ...]
    adapter_parameters: int
    disk_bytes: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    @property
    def entries(self) -> tuple[order.Entry, ...]:
        """The images as the order sees them."""
        return tuple(order.Entry(image.bucket_px, image.repeats) for image in self.images)

    @property
    def checkpoints(self) -> int:
        return len(self.save_steps)

    @property
    def samples(self) -> int:
        return len(self.sample_steps) * len(self.prompts)

    def to_json(self) -> str:
        """The plan as `check --json` prints it and plan.json holds it."""
        content: dict[str, Any] = dataclasses.asdict(self)
        content["checkpoints"], content["samples"] = self.checkpoints, self.samples
        if self.model is not None:
            content["model"] = {
                name: getattr(self.model, name)
                for name in ("path", "layout", "kind", "prediction", "zero_terminal_snr", "size_bytes", "evidence")
            }
        return json.dumps(content, ensure_ascii=False, indent=1, default=str)


def make_plan(
    preset: Preset, without: frozenset[Path] = frozenset(), run_folder: Path | None = None
) -> Plan:
    """Derive the plan of a preset. Never raises for what the user can mend: that is in `problems`.

    `without`: images that turned out to be unreadable when they were decoded. `run_folder`: where the run is written,
    when that is not below run.folder.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    model = _look_at_model(preset, problems)
    warnings += _prediction_warnings(preset, model)
    problems += _late_problems(preset, model)
    subsets, images = _look_at_images(preset, without, problems, warnings)
    prompts, prompt_problems = parse_prompts(preset.sample)
    problems += prompt_problems

    entries = [order.Entry(image.bucket_px, image.repeats) for image in images]
    counts = order.batch_counts(entries, preset.run.batch_size)
    bucket_plans = tuple(BucketPlan(size, *count) for size, count in counts.items())
    batches = sum(bucket.batches for bucket in bucket_plans)
    per_epoch = order.steps_per_epoch(batches, preset.run.accumulation) if batches else 0
    steps, epochs = _length(preset, batches)
    warnings += _batch_warnings(preset, bucket_plans)

    run, sample = preset.run, preset.sample
    save_steps = _due(steps, per_epoch, run.save_every_steps, run.save_every_epochs)
    sample_steps = _due(steps, per_epoch, sample.every_steps, sample.every_epochs) if prompts else ()
    if prompts and sample.at_start and steps:
        sample_steps = (0, *sample_steps)
    parameters = adapter_parameters(model.config, preset) if model else 0
    disk_bytes = _disk_bytes(preset, parameters, images, len(save_steps))
    problems += _disk_problems(run_folder or resolve(preset.run.folder), disk_bytes)
    return Plan(
        model=model,
        subsets=subsets,
        images=images,
        buckets=bucket_plans,
        batches_per_epoch=batches,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        steps=steps,
        decided_by=run.length,
        prompts=prompts,
        save_steps=save_steps,
        sample_steps=sample_steps,
        adapter_parameters=parameters,
        disk_bytes=disk_bytes,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def sentence(preset: Preset, plan: Plan) -> str:
    """What will be trained, in one line, for the page and the terminal."""
    adapter, run = preset.adapter, preset.run
    parts = [
        name
        for name, on in (
            ("UNet", adapter.unet),
            ("text encoder 1", adapter.text_encoder_1),
            ("text encoder 2", adapter.text_encoder_2),
        )
        if on
    ]
    what = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    rank = f"rank {adapter.rank}" + (f", conv rank {adapter.conv_rank}" if adapter.conv_rank else "")
    shown = sum(bucket.images for bucket in plan.buckets)
    batch = run.batch_size * run.accumulation
    files = f"{_count(plan.checkpoints, 'checkpoint')}, {_count(plan.samples, 'sample')}"
    return (
        f"{what}, {rank}: {_count(len(plan.images), 'image')}, {shown} shown per epoch ÷ batch {batch} = "
        f"{_count(plan.steps_per_epoch, 'step')} an epoch × {_count(plan.epochs, 'epoch')} → {plan.steps} steps; "
        f"{files}, about {size_text(plan.disk_bytes)} of disk."
    )


def size_text(size_bytes: float) -> str:
    """A number of bytes for people: "1.2 GB"."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if size_bytes >= 10 or unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _look_at_model(preset: Preset, problems: list[Problem]) -> ModelFacts | None:
    if not preset.model.base:
        problems.append(Problem("model.base", "no base model is given. Choose an SDXL .safetensors file or folder."))
        return None
    vae = resolve(preset.model.vae) if preset.model.vae else None
    try:
        facts = identify(resolve(preset.model.base), vae)
    except ModelError as error:
        problems += [_named(problem, preset) for problem in error.problems]
        return None
    if facts.kind != "base":
        what = f"this is an SDXL {facts.kind} model; a LoRA is trained on an SDXL base model. Choose another file."
        problems.append(Problem("model.base", what))
    return facts


def _named(problem: Problem, preset: Preset) -> Problem:
    """A fault of a model file under the setting that names the file."""
    is_vae = preset.model.vae and problem.where.startswith(str(resolve(preset.model.vae)))
    where = "model.vae" if is_vae else "model.base"
    return Problem(where, f"{problem.where} {problem.message}".strip())


def model_kind(preset: Preset, model: ModelFacts) -> tuple[Prediction, bool]:
    """Prediction and whether the schedule ends in pure noise: the preset's word, else the file's."""
    prediction = model.prediction if preset.model.prediction == "auto" else preset.model.prediction
    wanted = preset.model.zero_terminal_snr
    return prediction, model.zero_terminal_snr if wanted == "auto" else wanted == "yes"


def _late_problems(preset: Preset, model: ModelFacts | None) -> list[Problem]:
    """What would stop the run only after the model was loaded, told before the start."""
    found: list[Problem] = []
    texts = [text for text in (model.config.text_1, model.config.text_2) if text is not None] if model else []
    layers = min((text["num_hidden_layers"] for text in texts), default=preset.captions.clip_skip)
    if preset.captions.clip_skip > layers:
        what = f"this model's text encoders have {layers} layers (got {preset.captions.clip_skip}). Use 1 to {layers}."
        found.append(Problem("captions.clip_skip", what))
    cache = resolve(preset.data.cache_folder)
    if cache.exists() and not cache.is_dir():
        found.append(Problem("data.cache_folder", f"is a file, not a folder (got {cache}). Choose another one."))
    return found


def _prediction_warnings(preset: Preset, model: ModelFacts | None) -> list[Problem]:
    if model is None or model_kind(preset, model) != ("epsilon", True):
        return []
    what = "a model that predicts the noise learns nothing from steps of pure noise. Use it with v-prediction models."
    return [Problem("model.zero_terminal_snr", what)]


def _look_at_images(
    preset: Preset, without: frozenset[Path], problems: list[Problem], warnings: list[Problem]
) -> tuple[tuple[SubsetPlan, ...], tuple[ImagePlan, ...]]:
    """Scan the training and regularization folders and place every image."""
    data = preset.data
    if not data.folder:
        problems.append(Problem("data.folder", "no training folder is given. Choose the folder that holds 10_name."))
        return (), ()
    scans = [_scan(preset, data.folder, False)]
    if data.regularization_folder and _is_within(data.regularization_folder, data.folder):
        what = "lies in the training folder, so its pictures would be trained as the subject too. Move one of the two."
        problems.append(Problem("data.regularization_folder", what))
    elif data.regularization_folder:
        scans.append(_scan(preset, data.regularization_folder, True))
    for found in scans:
        problems += found.problems
        warnings += found.warnings
        (problems if data.broken_images == "stop" else warnings).extend(found.broken)
    placed = [
        [
            (subset, item, placement)
            for subset, item in _items(found)
            if item.path not in without and (placement := _place(item, preset, problems))
        ]
        for found in scans
    ]
    train_total = sum(subset.repeats for subset, _, _ in placed[0])
    repeats = [[subset.repeats for subset, _, _ in placed[0]]]
    if len(placed) > 1:
        repeats.append(list(order.regularization_repeats(train_total, [subset.repeats for subset, _, _ in placed[1]])))
    images = tuple(
        _image_plan(subset, item, placement, count)
        for rows, counts in zip(placed, repeats, strict=True)
        for (subset, item, placement), count in zip(rows, counts, strict=True)
    )
    if not images and not problems:
        problems.append(Problem("data.folder", "no image could be used; see the warnings. Mend or replace the images."))
    return tuple(_subset_plan(subset) for found in scans for subset in found.subsets), images


def _is_within(folder: str, outer: str) -> bool:
    """Whether one of the folders is the other or lies in it."""
    first, second = resolve(folder), resolve(outer)
    return first.is_relative_to(second) or second.is_relative_to(first)


def _scan(preset: Preset, folder: str, regularization: bool) -> Scan:
    return scan(resolve(folder), caption_extension=preset.captions.extension, regularization=regularization)


def _items(found: Scan) -> list[tuple[Subset, Item]]:
    return [(subset, item) for subset in found.subsets for item in subset.items]


def _place(item: Item, preset: Preset, problems: list[Problem]) -> buckets.Placement | None:
    try:
        return buckets.place(item.size_px, bucket_rules(preset))
    except DatasetError as error:
        problems += [Problem(str(item.path), problem.message) for problem in error.problems]
        return None


def _image_plan(subset: Subset, item: Item, placement: buckets.Placement, repeats: int) -> ImagePlan:
    return ImagePlan(
        path=item.path,
        subset=subset.name,
        caption=item.caption,
        size_px=item.size_px,
        bucket_px=placement.bucket_px,
        resized_px=placement.resized_px,
        crop_left_top_px=placement.crop_left_top_px,
        repeats=repeats,
        is_regularization=subset.is_regularization,
    )


def _subset_plan(subset: Subset) -> SubsetPlan:
    captioned = sum(item.caption_path is not None for item in subset.items)
    return SubsetPlan(
        subset.name, subset.folder, subset.repeats, len(subset.items), captioned, subset.is_regularization
    )


def _length(preset: Preset, batches: int) -> tuple[int, int]:
    """Steps and epochs of the run; exactly one of the two settings decides."""
    run = preset.run
    if not batches:
        return 0, 0
    if run.length == "epochs":
        return order.steps_for_epochs(run.epochs, batches, run.accumulation), run.epochs
    return run.steps, order.epochs_for_steps(run.steps, batches, run.accumulation)


def _due(steps: int, per_epoch: int, every_steps: int, every_epochs: int) -> tuple[int, ...]:
    """The steps at which something that comes every so often is due; the last step always is."""
    if not steps:
        return ()
    found = {steps}
    for every in (every_steps, every_epochs * per_epoch):
        if every:
            found.update(range(every, steps + 1, every))
    return tuple(sorted(found))


def adapter_parameters(config: ModelConfig, preset: Preset) -> int:
    """How many numbers a LoRA of this preset has on a model of this configuration."""
    adapter = preset.adapter
    linears: list[LayerShape] = []
    if adapter.unet:
        linears += unet_attention_layers(config.unet)
        if adapter.conv_rank:
            linears += unet_conv_layers(config.unet)
    for wanted, text in ((adapter.text_encoder_1, config.text_1), (adapter.text_encoder_2, config.text_2)):
        if wanted and text is not None:
            linears += text_layers(text)
    return sum(
        (adapter.conv_rank if layer.kernel > 1 else adapter.rank) * (layer.inputs * layer.kernel**2 + layer.outputs)
        for layer in linears
    )


def _batch_warnings(preset: Preset, plans: tuple[BucketPlan, ...]) -> list[Problem]:
    size = preset.run.batch_size
    small = [bucket for bucket in plans if bucket.images < size]
    if not small:
        return []
    names = ", ".join(f"{bucket.size_px[0]}×{bucket.size_px[1]} ({bucket.images})" for bucket in small[:5])
    more = f" and {len(small) - 5} more" if len(small) > 5 else ""
    what = f"the batch size {size} is larger than these buckets, which give smaller batches: {names}{more}."
    return [Problem("run.batch_size", what)]


def _disk_bytes(preset: Preset, parameters: int, images: tuple[ImagePlan, ...], saves: int) -> int:
    """Checkpoints, two states (weights and both AdamW moments in fp32), and caches of latents and text features."""
    total = saves * parameters * BYTES_OF[preset.run.save_precision] + 2 * 3 * 4 * parameters
    kept = BYTES_OF["fp32" if preset.memory.precision == "fp32" else "fp16"]
    if preset.data.cache_latents:
        cells = sum(image.bucket_px[0] * image.bucket_px[1] // 64 for image in images)
        total += cells * 8 * kept * (2 if preset.data.flip else 1)
    if preset.captions.cache_text:
        rows = 2 + preset.captions.max_tokens
        total += len({image.caption for image in images}) * rows * 2048 * kept
    return total


def _disk_problems(folder: Path, disk_bytes: int) -> list[Problem]:
    """Too little room where the run is written; asked of the nearest folder that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free_bytes = shutil.disk_usage(folder).free
    if disk_bytes <= free_bytes:
        return []
    what = (
        f"the run needs about {size_text(disk_bytes)} of disk and {size_text(free_bytes)} are free in {folder}. "
        "Free some space, choose another folder, or save fewer checkpoints."
    )
    return [Problem("run.folder", what)]
