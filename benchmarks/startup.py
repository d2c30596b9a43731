"""From the start of the process to the first finished step, on a full-size SDXL file with random weights.

    python -m benchmarks.make_full_size_model /tmp/sdxl_random.safetensors
    python -m benchmarks.startup /tmp/sdxl_random.safetensors

One picture at 256 px, batch 1, rank 8, bf16, UNet only, cached latents and text features; Atelier's caches are empty at
the start of each round (the system's file cache is left as it is). Prints each stage's time, the first step, the median
of the later steps, and the peak of anonymous memory (what the process owns; mapped files can be dropped by the system).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from engine import event_log, events
from engine.preset import ROOT, Preset
from engine.run import RunFolder

STEPS = 8


@dataclass
class Round:
    """What one start gave; seconds count from the start of the process."""

    stages: dict[str, float] = field(default_factory=dict)
    first_step_seconds: float = 0.0
    later_steps_seconds: list[float] = field(default_factory=list)
    anonymous_bytes: int = 0
    resident_bytes: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a full-size SDXL .safetensors file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the machine has cores")
    parser.add_argument("--set", action="append", default=[], dest="assignments", metavar="SECTION.NAME=VALUE")
    chosen = parser.parse_args()
    rounds = []
    for number in range(1, chosen.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measure(Path(folder), chosen))
        _print_round(f"round {number}", rounds[-1])
    print(
        f"median of {len(rounds)}: first step finished after "
        f"{statistics.median(each.first_step_seconds for each in rounds):.1f} s, "
        f"{statistics.median(statistics.median(each.later_steps_seconds) for each in rounds):.2f} s/step, "
        f"{statistics.median(each.anonymous_bytes for each in rounds) / 1e9:.2f} GB anonymous, "
        f"{statistics.median(each.resident_bytes for each in rounds) / 1e9:.2f} GB resident with the mapped file"
    )


def measure(folder: Path, chosen: argparse.Namespace) -> Round:
    """Start a run and watch it to its end."""
    preset, made = _prepared(folder, chosen)
    command = [sys.executable, "-m", "engine", "train", str(preset), "--run", str(made.path)]
    for assignment in chosen.assignments:
        command += ["--set", assignment]
    begun = time.time()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    result = Round()
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        _note_memory(watched, result)
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the run ended with exit code {process.returncode}: see above")
    _read_times(made, begun, result)
    return result


def _prepared(folder: Path, chosen: argparse.Namespace) -> tuple[Path, RunFolder]:
    subset = folder / "images" / "10_thing"
    subset.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(subset / "one.png")
    (subset / "one.txt").write_text("a photo of a thing")
    preset = Preset().changed(
        {
            "model.base": str(chosen.model.resolve()),
            "data.folder": str(folder / "images"),
            "data.width_px": 256,
            "data.height_px": 256,
            "data.bucket_min_px": 128,
            "data.bucket_max_px": 512,
            "data.cache_folder": str(folder / "cache"),
            "adapter.rank": 8,
            "adapter.alpha": 4.0,
            "run.length": "steps",
            "run.steps": STEPS,
            "run.save_every_epochs": 0,
            "memory.precision": "bf16",
            "memory.threads": chosen.threads or psutil.cpu_count(logical=False) or 1,
            "memory.device": "cpu",
        }
    )
    path = folder / "preset.json"
    preset.save(path)
    return path, RunFolder(folder / "run")


def _note_memory(process: psutil.Process, result: Round) -> None:
    try:
        taken = process.memory_info()
    except psutil.NoSuchProcess:
        return
    result.resident_bytes = max(result.resident_bytes, taken.rss)
    result.anonymous_bytes = max(result.anonymous_bytes, taken.rss - taken.shared)


def _read_times(made: RunFolder, begun: float, result: Round) -> None:
    for entry in event_log.read(made.events)[0]:
        seconds = datetime.fromisoformat(entry.time).timestamp() - begun
        if isinstance(entry.event, events.Stage):
            result.stages[entry.event.name] = seconds
        elif isinstance(entry.event, events.Step) and entry.event.step == 1:
            result.first_step_seconds = seconds
        elif isinstance(entry.event, events.Step):
            result.later_steps_seconds.append(entry.event.seconds_per_step)


def _print_round(name: str, result: Round) -> None:
    stages = ", ".join(f"{stage} at {seconds:.1f} s" for stage, seconds in result.stages.items())
    print(f"{name}: {stages}; first step finished at {result.first_step_seconds:.1f} s")


if __name__ == "__main__":
    main()
