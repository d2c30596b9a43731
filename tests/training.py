"""Small real runs for tests: the micro model, a few tiny pictures, in this process or as a user would start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine import event_log, events, run
from engine.preset import ROOT, Preset
from engine.report import Reporter
from engine.run import RunFolder
from engine.stopping import Stopping
from engine.train import train
from tests.micro_model import micro_model

DEMO = "demo/model.safetensors"  # for tests that need a model which was really trained, or all of its layers
SMALL: dict[str, Any] = {
    "data.width_px": 64,
    "data.height_px": 64,
    "data.bucket_min_px": 32,
    "data.bucket_max_px": 128,
    "data.bucket_step_px": 16,
    "adapter.rank": 2,
    "adapter.alpha": 2.0,
    "optimizer.unet_rate": 1e-3,
    "run.name": "tiny",
    "run.length": "steps",
    "run.steps": 4,
    "run.save_every_epochs": 0,
    "sample.every_epochs": 0,
    "sample.steps": 2,
    "sample.width_px": 64,
    "sample.height_px": 64,
    "memory.precision": "fp32",
    "memory.threads": 1,
    "memory.device": "cpu",
}


def make_images(folder: Path, sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64), (96, 64), (64, 96))) -> Path:
    """A training folder with one subset of random pictures and captions."""
    subset = folder / "2_sks thing"
    subset.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(5)
    for index, (width, height) in enumerate(sizes):
        pixels = numbers.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(subset / f"{index}.png")
        (subset / f"{index}.txt").write_text(f"a sks thing number {index}")
    return folder


def small_preset(folder: Path, **changes: Any) -> Preset:
    """A preset of a run of seconds, with its pictures, cache and runs in `folder`; `adapter__rank=4` sets a value."""
    images = folder / "images"
    if not images.exists():
        make_images(images)
    places = {
        "model.base": str(micro_model()),
        "data.folder": str(images),
        "data.cache_folder": str(folder / "cache"),
        "run.folder": str(folder / "runs"),
    }
    return Preset().changed({**SMALL, **places, **{key.replace("__", "."): value for key, value in changes.items()}})


def train_here(preset: Preset, folder: Path | None = None) -> RunFolder:
    """Train in this process; returns the run."""
    made = run.create(preset, folder)
    with run.held(made):
        train(preset, Reporter(made), Stopping())
    return made


def resume_here(made: RunFolder) -> RunFolder:
    """Go on with a run in this process."""
    folder, preset = run.open_run(made.path)
    with run.held(folder):
        train(preset, Reporter(folder), Stopping())
    return folder


def steps_of(made: RunFolder) -> list[events.Step]:
    """The step events of a run; of steps done twice the later one."""
    entries, _ = event_log.read(made.events)
    found = {entry.event.step: entry.event for entry in entries if isinstance(entry.event, events.Step)}
    return [found[step] for step in sorted(found)]


def losses_of(made: RunFolder) -> list[float | None]:
    return [step.loss for step in steps_of(made)]


def events_of(made: RunFolder, kind: type[events.Event]) -> list[Any]:
    return [entry.event for entry in event_log.read(made.events)[0] if isinstance(entry.event, kind)]


def engine(*words: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python -m engine` to its end."""
    return subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def start_engine(*words: object) -> subprocess.Popen[str]:
    """Start `python -m engine` and go on."""
    return subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "engine", *map(str, words)]


os.environ.setdefault("OMP_NUM_THREADS", "1")
