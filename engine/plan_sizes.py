"""How large a run gets: numbers of the adapter, disk. Torch-free."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
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


@dataclass(frozen=True)
class DiskForecast:
    """Bytes on the disk: checkpoints and states, which go into the run folder, and caches."""

    checkpoints_bytes: int = 0
    states_bytes: int = 0
    latents_bytes: int = 0
    text_bytes: int = 0

    @property
    def run_bytes(self) -> int:
        return self.checkpoints_bytes + self.states_bytes

    @property
    def cache_bytes(self) -> int:
        return self.latents_bytes + self.text_bytes

    @property
    def total_bytes(self) -> int:
        return self.run_bytes + self.cache_bytes


def estimate_disk(
    preset: Preset, parameters: int, images: tuple[ImagePlan, ...], texts: int, saves: int
) -> DiskForecast:
    """Checkpoints and states at their most, and caches of latents and `texts` texts.

    A state holds the weights in fp32 and what the optimizer keeps. While files are written there is one more than are
    kept.
    """
    run, validation = preset.run, preset.validation
    checkpoints = min(saves, run.keep_last + 2) if run.keep_last else saves
    checkpoints += validation.keep_best and bool(validation.share or validation.folder)
    states = min(saves, run.keep_states) if run.keep_states > 2 else run.keep_states
    state_bytes = round((4 + OPTIMIZERS[preset.optimizer.name].memory_bytes) * parameters)
    kept = BYTES_OF["fp32" if preset.memory.precision == "fp32" else "fp16"]
    latents = text = 0
    if preset.data.cache_latents:
        cells = [image.bucket_px[0] * image.bucket_px[1] // 64 for image in images]
        cells += [count for count, image in zip(cells, images, strict=True) if image.value(preset, "data.flip")]
        latents = sum(cells) * 8 * kept
    if preset.captions.cache_text:
        rows = 2 + preset.captions.max_tokens
        text = texts * rows * 2048 * kept
    return DiskForecast(
        checkpoints_bytes=checkpoints * parameters * BYTES_OF[run.save_precision],
        states_bytes=states * state_bytes,
        latents_bytes=latents,
        text_bytes=text,
    )


@dataclass(frozen=True)
class DiskRoom:
    """What a run needs on one disk, and what is free there."""

    folder: Path
    needed_bytes: int
    free_bytes: int


def disk_rooms(run_folder: Path, cache_folder: Path, disk: DiskForecast) -> tuple[DiskRoom, ...]:
    """The needs of a run on each disk that it writes to: one where runs and caches lie together, else two."""
    (run, run_free), (cache, cache_free) = free_room(run_folder), free_room(cache_folder)
    if not disk.cache_bytes or run.stat().st_dev == cache.stat().st_dev:
        return (DiskRoom(run, disk.total_bytes, run_free),)
    return DiskRoom(run, disk.run_bytes, run_free), DiskRoom(cache, disk.cache_bytes, cache_free)


def disk_problems(rooms: tuple[DiskRoom, ...]) -> list[Problem]:
    """Too little room where the run or its caches are written."""
    found = []
    for where, room in zip(("run.folder", "data.cache_folder"), rooms, strict=False):
        if room.needed_bytes > room.free_bytes:
            what = (
                f"the run needs about {size_text(room.needed_bytes)} of disk and {size_text(room.free_bytes)} are free "
                f"in {room.folder}. Free some space, choose another folder, or save fewer checkpoints."
            )
            found.append(Problem(where, what))
    return found


def free_room(folder: Path) -> tuple[Path, int]:
    """The nearest folder that exists, and the bytes that are free there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free


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
