"""Weights, gradients and AdamW's averages as vectors in memory that two processes share, and their state file."""

from __future__ import annotations

import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

ALIGNED_TO = 16  # numbers: a cache line


def shared_zeros(count: int) -> Tensor:
    """A vector that this process and those forked from it read and write. Not torch's shared memory: that is a file in
    /dev/shm, which containers keep small."""
    return torch.frombuffer(mmap.mmap(-1, max(1, count) * 4), dtype=torch.float32, count=count)


def views(vector: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Parts of the vector in the shapes and memory layouts of the weights, one after the other."""
    found, start = [], 0
    for weight in weights:
        found.append(vector.as_strided(weight.shape, weight.stride(), start))
        start += -(-weight.numel() // ALIGNED_TO) * ALIGNED_TO
    return found


@dataclass
class Group:
    """Weights of one decay as one vector, with what AdamW knows of them. All vectors are of one length and shared."""

    parameters: list[nn.Parameter]
    decay: float
    weights: Tensor
    gradients: tuple[Tensor, Tensor]  # of either process
    exp_avg: Tensor
    exp_avg_sq: Tensor
    averages: Tensor  # of the weights over time

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter], decay: float) -> Group:
        """Moves the parameters into shared memory: they become views of `weights`."""
        count = sum(-(-p.numel() // ALIGNED_TO) * ALIGNED_TO for p in parameters)
        weights, one, other, exp_avg, exp_avg_sq, averages = (shared_zeros(count) for _ in range(6))
        for parameter, view in zip(parameters, views(weights, parameters), strict=True):
            view.copy_(parameter.data)
            parameter.data = view
        averages.copy_(weights)
        return cls(list(parameters), decay, weights, (one, other), exp_avg, exp_avg_sq, averages)

    def averaged(self) -> list[Tensor]:
        """The averages of the parameters, in their shapes."""
        return views(self.averages, self.parameters)

    def part(self, half: int) -> slice:
        """What a process updates."""
        middle = len(self.weights) // 2
        return slice(0, middle) if half == 0 else slice(middle, None)

    def gradients_of(self, half: int) -> list[Tensor]:
        """Where a process puts its gradients of the parameters, in their shapes."""
        return views(self.gradients[half], self.parameters)

    def saved(self) -> list[Tensor]:
        return [self.weights, self.exp_avg, self.exp_avg_sq, self.averages]


def save_state(path: Path, groups: list[Group], step: int) -> None:
    """All of a training after `step` steps, whole or not at all."""
    unfinished = path.with_suffix(".unfinished")
    torch.save({"step": step, "groups": [group.saved() for group in groups]}, unfinished)
    unfinished.rename(path)


def load_state(path: Path, groups: list[Group]) -> int:
    """Put back what was saved; returns the step to go on from: 0 without a file."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for group, saved in zip(groups, state["groups"], strict=True):
        for vector, values in zip(group.saved(), saved, strict=True):
            vector.copy_(values)
    return state["step"]


class Progress:
    """A line now and then."""

    def __init__(self, name: str, first: int, steps: int, every_steps: int = 100) -> None:
        self.name, self.first, self.steps, self.every_steps = name, first, steps, every_steps
        self.started, self.smooth = time.monotonic(), 0.0

    def report(self, step: int, loss: float) -> None:
        self.smooth = loss if self.smooth == 0 else 0.98 * self.smooth + 0.02 * loss
        if step % self.every_steps == 0:
            seconds = (time.monotonic() - self.started) / (step - self.first + 1)
            print(f"{self.name} {step}/{self.steps}: loss {self.smooth:.4f}, {seconds:.3f} s/step", flush=True)
