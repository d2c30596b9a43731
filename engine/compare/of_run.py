"""What a run tells a comparison: how its samples are drawn, and its checkpoints in their order. Torch-free."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import event_log, events
from engine.drawing.settings import BY_PATH
from engine.errors import UserError
from engine.preset import Preset
from engine.prompts import SamplePrompt, parse_prompts
from engine.run import RunFolder, open_run, step_of_checkpoint

_SAMPLERS = {"dpmpp_2m_karras": ("dpmpp_2m", "karras")}
_EPOCH = re.compile(r"-epoch(\d{4,})$")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run. `step` is None where neither its name nor the run's events tell it."""

    path: Path
    label: str
    step: int | None = None


def drawing_of_run(folder: Path, prompt: SamplePrompt | None = None) -> dict[str, Any]:
    """Drawing settings by "group.name" with which the run's samples are drawn. UserError where there is no run."""
    _, preset = open_run(folder)
    found: dict[str, Any] = {
        "model.base": preset.model.base,
        "model.vae": preset.model.vae,
        "model.prediction": preset.model.prediction,
        "model.precision": preset.memory.precision,
    }
    known = prompt or next(iter(prompts_of(preset)), None)
    if known is not None:
        sampler, sigmas = _SAMPLERS.get(known.sampler, (known.sampler, "normal"))
        found |= {
            "picture.prompt": known.prompt,
            "picture.negative": known.negative,
            "picture.width_px": known.width_px,
            "picture.height_px": known.height_px,
            "picture.seed": known.seed,
            "sampling.sampler": sampler,
            "sampling.sigmas": sigmas,
            "sampling.steps": known.steps,
            "sampling.cfg_scale": known.cfg_scale,
        }
    allowed = {path: BY_PATH[path].choices for path in found}
    return {path: value for path, value in found.items() if not allowed[path] or value in allowed[path]}


def prompts_of(preset: Preset) -> list[SamplePrompt]:
    """The sample prompts of a run that can be read."""
    return list(parse_prompts(preset.sample)[0])


def checkpoints_of(folder: Path) -> list[Checkpoint]:
    """All checkpoints of a run by step, the last one at its end; that of the best validation is left out where it is a
    copy. UserError where there are none.
    """
    run, _ = open_run(folder)
    told = _steps_told(run)
    found = [_checkpoint(path, told) for path in run.checkpoints.glob("*.safetensors")]
    steps = {one.step for one in found if not one.path.stem.endswith("-best")}
    found = [one for one in found if not one.path.stem.endswith("-best") or one.step not in steps]
    if not found:
        raise UserError("this run has no checkpoints yet. Wait for the first one.", str(folder))
    last = max((one.step for one in found if one.step is not None), default=0)
    return sorted(found, key=lambda one: (last + 1 if one.step is None else one.step, one.path.name))


def files_in(folder: Path) -> list[Checkpoint]:
    """All LoRA files in a plain folder, by name with numbers as numbers."""
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: _natural(path.name))
    return [Checkpoint(path, path.stem, step_of_checkpoint(path)) for path in paths]


def _checkpoint(path: Path, told: dict[str, int]) -> Checkpoint:
    """With the step that its name tells, else the run's events; of two the later event counts."""
    step = step_of_checkpoint(path)
    step = told.get(path.name) if step is None else step
    if epoch := _EPOCH.search(path.stem):
        return Checkpoint(path, f"epoch {int(epoch[1])}", step)
    mark = "best, " if path.stem.endswith("-best") else ""
    return Checkpoint(path, path.stem if step is None else f"{mark}step {step:,}", step)


def _steps_told(run: RunFolder) -> dict[str, int]:
    entries, _ = event_log.read(run.events)
    saved = [entry.event for entry in entries if isinstance(entry.event, events.Saved)]
    return {Path(event.path).name: event.step for event in saved if event.what == "checkpoint"}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]
