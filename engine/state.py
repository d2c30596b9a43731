"""What a resume needs, in one file: adapter weights in fp32, optimizer moments, loss scale, and the step.

Random numbers are functions of (seed, step), so no generator is stored. The file is written whole or not at all; the
last two are kept unless the preset says otherwise, so that a damaged one has a substitute.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.atomic import whole_file
from engine.errors import UserError

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{8})\.safetensors")


@dataclass(frozen=True)
class State:
    """`adapter`, `optimizer` and `average` (of the adapter, where one is kept) tensors by name.

    `about` is plain JSON: optimizer groups, fingerprint and so on.
    """

    step: int
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    about: dict[str, Any]
    average: dict[str, torch.Tensor] = field(default_factory=dict)


def save_state(folder: Path, state: State, kept: int = KEPT) -> Path:
    """Write a state and remove all but the last `kept`. Raises UserError where the disk refuses."""
    tensors = {f"adapter.{name}": tensor for name, tensor in state.adapter.items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in state.optimizer.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    about = {"format": FORMAT, "step": state.step, "about": state.about}
    path = folder / f"step-{state.step:08d}.safetensors"
    with whole_file(path) as part:
        save_file(tensors, part, metadata={"atelier_state": json.dumps(about)})
    for old in list_states(folder)[kept:]:
        old.unlink(missing_ok=True)
    return path


def list_states(folder: Path) -> list[Path]:
    """The states of a run, the last first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def step_of_state(path: Path) -> int:
    """The step in a state's file name."""
    return int(path.stem.rpartition("-")[2])


def load_last_state(folder: Path) -> tuple[State | None, list[str]]:
    """The last state that can be read, and a sentence for each that could not. None where there is no state at all.

    Raises UserError when there are states and none can be read.
    """
    faults: list[str] = []
    paths = list_states(folder)
    for path in paths:
        try:
            return load_state(path), faults
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            faults.append(f"{path.name} cannot be read ({error}); the one before it is used.")
    if faults:
        what = "none of the saved states can be read. Start the run anew, or restore the files from a backup."
        raise UserError(what, str(folder))
    return None, faults


def load_state(path: Path) -> State:
    """Read one state. Raises SafetensorError, OSError, ValueError or KeyError where the file is damaged."""
    parts: dict[str, dict[str, torch.Tensor]] = {"adapter": {}, "optimizer": {}, "average": {}}
    with safe_open(path, framework="pt") as file:
        content = json.loads((file.metadata() or {})["atelier_state"])
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']} is not known")
        for name in file.keys():  # noqa: SIM118 - not a dict
            part, rest = name.split(".", 1)
            parts[part][rest] = file.get_tensor(name)
    return State(content["step"], parts["adapter"], parts["optimizer"], content["about"], parts["average"])
