"""Everything that is derived from preset and data before a run: images, buckets, steps, problems. Torch-free.

`check`, the page and the run itself use this one function, so that what was announced is what happens.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.caption_source import cached_texts
from engine.data import order
from engine.data.scan import scan
from engine.errors import Problem
from engine.layer_choice import layer_problems
from engine.plan_adapter import reader_warnings, split_problems
from engine.plan_captions import caption_warnings
from engine.plan_idle import idle_warnings, late_warnings
from engine.plan_images import ImagePlan, Scanning, SubsetPlan, look_at_images
from engine.plan_loss import weighting_problems, with_weights_and_masks
from engine.plan_memory import MemoryForecast, average_problems, forecast_memory
from engine.plan_model import look_at_model, prediction_warnings
from engine.plan_sizes import DiskForecast, DiskRoom, adapter_parameters, disk_problems, disk_rooms, estimate_disk
from engine.plan_start import start_problems
from engine.preset import Preset, resolve
from engine.prompts import SamplePrompt, parse_prompts
from engine.rules.optimizer import rate_warnings
from engine.schedules import schedule_problems
from engine.sdxl.detect import ModelFacts
from engine.thumbnail import thumbnail_problems
from engine.trackers import tracker_problems


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
    validation: tuple[ImagePlan, ...]
    buckets: tuple[BucketPlan, ...]
    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    decided_by: Literal["epochs", "steps"]
    prompts: tuple[SamplePrompt, ...]
    save_steps: tuple[int, ...]
    sample_steps: tuple[int, ...]
    validation_steps: tuple[int, ...]
    adapter_parameters: int
    disk_bytes: int
    disk: DiskForecast
    rooms: tuple[DiskRoom, ...]
    memory: MemoryForecast
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
        content["memory"]["total_bytes"] = self.memory.total_bytes
        if self.model is not None:
            content["model"] = {
                name: getattr(self.model, name)
                for name in ("path", "layout", "kind", "prediction", "zero_terminal_snr", "size_bytes", "evidence")
            }
        return json.dumps(content, ensure_ascii=False, indent=1, default=str)


def make_plan(
    preset: Preset,
    without: frozenset[Path] = frozenset(),
    run_folder: Path | None = None,
    scanning: Scanning = scan,
) -> Plan:
    """Derive the plan of a preset. Never raises for what the user can mend: that is in `problems`.

    `without`: images that turned out to be unreadable when they were decoded. `run_folder`: where the run is written,
    when that is not below run.folder. `scanning`: what reads the folders.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    model = look_at_model(preset, problems)
    warnings += prediction_warnings(preset, model)
    problems += _late_problems(preset, model)
    problems += tracker_problems(preset) + thumbnail_problems(preset)
    pictures = look_at_images(preset, without, problems, warnings, scanning)
    images = with_weights_and_masks(preset, pictures.images, problems, warnings)
    problems += weighting_problems(preset, model)
    prompts, prompt_problems = parse_prompts(preset.sample)
    problems += prompt_problems

    entries = [order.Entry(image.bucket_px, image.repeats) for image in images]
    counts = order.batch_counts(entries, images_at_once(preset))
    bucket_plans = tuple(BucketPlan(size, *count) for size, count in counts.items())
    batches = sum(bucket.batches for bucket in bucket_plans)
    per_epoch = order.steps_per_epoch(batches, preset.run.accumulation) if batches else 0
    steps, epochs = _length(preset, batches)
    warnings += _batch_warnings(preset, bucket_plans)
    problems += average_problems(preset, steps)
    warnings += caption_warnings(preset, images, steps)
    warnings += [*rate_warnings(preset), *idle_warnings(preset, images), *late_warnings(preset, steps, epochs)]
    problems += schedule_problems(preset.optimizer, steps) if steps else ()

    run, sample = preset.run, preset.sample
    save_steps = _due(steps, per_epoch, run.save_every_steps, run.save_every_epochs)
    sample_steps = due_samples(preset, steps, per_epoch) if prompts else ()
    if prompts and sample.at_start and steps:
        sample_steps = (0, *sample_steps)
    every = preset.validation
    measured = _due(steps, per_epoch, every.every_steps, every.every_epochs) if pictures.validation else ()
    parameters = adapter_parameters(model.config, preset) if model else 0
    problems += layer_problems(model.config, preset.adapter) if model else []
    problems += split_problems(model.config, preset.adapter) if model else []
    warnings += reader_warnings(model.config, preset.adapter) if model else []
    problems += start_problems(model.config, preset) if model else []
    texts = cached_texts(preset, images, epochs, steps) + len(pictures.validation)
    disk = estimate_disk(preset, parameters, (*images, *pictures.validation), texts, len(save_steps))
    rooms = disk_rooms(run_folder or resolve(preset.run.folder), resolve(preset.data.cache_folder), disk)
    problems += disk_problems(rooms)
    return Plan(
        model=model,
        subsets=pictures.subsets,
        images=images,
        validation=pictures.validation,
        buckets=bucket_plans,
        batches_per_epoch=batches,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        steps=steps,
        decided_by=run.length,
        prompts=prompts,
        save_steps=save_steps,
        sample_steps=sample_steps,
        validation_steps=(0, *measured) if measured else (),
        adapter_parameters=parameters,
        disk_bytes=disk.total_bytes,
        disk=disk,
        rooms=rooms,
        memory=forecast_memory(preset, model, parameters, images),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def images_at_once(preset: Preset) -> int:
    """Images in one batch of all GPUs together."""
    return preset.run.batch_size * preset.run.gpus


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


def due_samples(preset: Preset, steps: int, per_epoch: int) -> tuple[int, ...]:
    """The steps at which a run with prompts draws them, the start aside."""
    return _due(steps, per_epoch, preset.sample.every_steps, preset.sample.every_epochs)


def _batch_warnings(preset: Preset, plans: tuple[BucketPlan, ...]) -> list[Problem]:
    size = images_at_once(preset)
    small = [bucket for bucket in plans if bucket.images < size]
    if not small:
        return []
    names = ", ".join(f"{bucket.size_px[0]}×{bucket.size_px[1]} ({bucket.images})" for bucket in small[:5])
    more = f" and {len(small) - 5} more" if len(small) > 5 else ""
    what = f"the batch size {size} is larger than these buckets, which give smaller batches: {names}{more}."
    return [Problem("run.batch_size", what)]


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
    runs = resolve(preset.run.folder)
    if not preset.run.folder:
        found.append(Problem("run.folder", "is empty. Choose the folder that runs are written to, such as runs."))
    elif runs.exists() and not runs.is_dir():
        found.append(Problem("run.folder", f"is a file, not a folder (got {runs}). Choose another one."))
    return found
