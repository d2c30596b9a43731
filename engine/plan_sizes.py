"""How large a run gets: numbers of the adapter, disk. Torch-free."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.adapter_shapes import Place, options_of, trained_count
from engine.errors import Problem
from engine.layer_choice import chosen_layers
from engine.optimizer_kinds import OPTIMIZERS
from engine.plan_images import ImagePlan
from engine.plan_start import file_parameters
from engine.preset import Preset
from engine.sdxl.configs import ModelConfig

BYTES_OF = {"fp32": 4, "bf16": 2, "fp16": 2}


def adapter_parameters(config: ModelConfig, preset: Preset) -> int:
    """How many numbers are trained with this preset on a model of this configuration."""
    adapter = preset.adapter
    if adapter.start_from and adapter.rank_from_file:
        return file_parameters(preset)
    options = options_of(adapter)
    total = 0
    for layer, chosen in chosen_layers(config, adapter):
        place = Place(layer.weight_shape, chosen.rank, layer.has_bias, options)
        total += trained_count(adapter.algorithm if layer.kernel else "full", place)
    return total


def estimate_disk_bytes(preset: Preset, parameters: int, images: tuple[ImagePlan, ...], texts: int, saves: int) -> int:
    """Checkpoints and states at their most, and caches of latents and `texts` texts.

    A state holds the weights in fp32 and what the optimizer keeps. While files are written there is one more than are
    kept.
    """
    run, validation = preset.run, preset.validation
    checkpoints = min(saves, run.keep_last + 2) if run.keep_last else saves
    checkpoints += validation.keep_best and bool(validation.share or validation.folder)
    states = min(saves, run.keep_states) if run.keep_states > 2 else run.keep_states
    state_bytes = round((4 + OPTIMIZERS[preset.optimizer.name].memory_bytes) * parameters)
    total = checkpoints * parameters * BYTES_OF[run.save_precision] + states * state_bytes
    kept = BYTES_OF["fp32" if preset.memory.precision == "fp32" else "fp16"]
    if preset.data.cache_latents:
        cells = sum(image.bucket_px[0] * image.bucket_px[1] // 64 for image in images)
        total += cells * 8 * kept * (2 if preset.data.flip else 1)
    if preset.captions.cache_text:
        rows = 2 + preset.captions.max_tokens
        total += texts * rows * 2048 * kept
    return total


def disk_problems(folder: Path, disk_bytes: int) -> list[Problem]:
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


def size_text(size_bytes: float) -> str:
    """A number of bytes for people: "1.2 GB"."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if size_bytes >= 10 or unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def count_text(number: int) -> str:
    """A large number for people: "28.5 million"."""
    return f"{number / 1e6:.1f} million" if number >= 100_000 else str(number)
