"""Timing of contenders that take turns, so that what disturbs the machine disturbs each of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch


def seconds_in_turns(steps: Mapping[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each step, round by round; on a GPU the device's work is waited for."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            _wait(device)
            start = time.perf_counter()
            step()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
