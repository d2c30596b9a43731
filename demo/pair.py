"""Two processes that train one model: each computes the gradients of one half of a batch and, from the sum of both,
updates one half of the weights.

torch's own threads wait for each other dozens of times a step and stand still on a busy machine; two processes meet
three times a step.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from demo.shared import Group

MALLOPT = {"M_TRIM_THRESHOLD": -1, "M_MMAP_THRESHOLD": -3}  # malloc.h of glibc
BETAS = (0.9, 0.99)
MOST_NORM = 1.0  # of the gradients


def be_quick() -> None:
    """This process, and those forked from it, keep freed memory for the next step instead of giving it back to the
    system each time, and take numbers that are too small for normal digits for 0: the averages of gradients of words
    that are not seen for long become such, and a processor computes with them a hundred times more slowly."""
    torch.set_flush_denormal(True)
    if platform.libc_ver()[0] == "glibc":
        for parameter in MALLOPT.values():
            ctypes.CDLL(None).mallopt(parameter, 1 << 30)


@dataclass(frozen=True)
class Training:
    """What both processes do in steps first … last − 1.

    loss_of(step, half): half the loss of one half (0 or 1) of that step's batch, a 0-dim tensor: of both halves'
    losses, so taken, the sum is the batch's, and so are the gradients.
    """

    groups: list[Group]
    loss_of: Callable[[int, int], Tensor]
    rate_of: Callable[[int], float]
    average_of: Callable[[int], float]  # how much of the old average remains in a step
    first: int
    last: int


def train(training: Training, after_step: Callable[[int, float], None]) -> tuple[float, float]:
    """Train in this process and a second one. `after_step` gets each step and its loss, with all weights up to date.

    Returns the processor seconds of both processes.
    """
    processes = multiprocessing.get_context("fork")
    line, theirs = processes.Pipe()
    process = processes.Process(target=_second, args=(training, theirs, line), daemon=True)
    process.start()
    theirs.close()
    seconds = _run(training, 0, line, after_step), line.recv()
    process.join()
    return seconds


def _second(training: Training, line: Connection, theirs: Connection) -> None:
    theirs.close()
    line.send(_run(training, 1, line, lambda step, loss: None))


def _run(training: Training, half: int, line: Connection, after_step: Callable[[int, float], None]) -> float:
    started = time.process_time()
    counts = [torch.tensor(float(training.first)) for _ in training.groups]
    own = [pair for group in training.groups for pair in zip(group.parameters, group.gradients_of(half), strict=True)]
    for step in range(training.first, training.last):
        loss = training.loss_of(step, half)
        loss.backward()
        _move_gradients(own)
        value = _sum(line, loss.item())
        _update(training, step, half, line, counts)
        _sum(line, 0.0)  # now the other's half is up to date as well
        after_step(step, value)
    return time.process_time() - started


def _sum(line: Connection, value: float) -> float:
    """This process's value and the other's: also where the two wait for each other."""
    line.send(value)
    return value + line.recv()


def _move_gradients(own: list[tuple[nn.Parameter, Tensor]]) -> None:
    """Move this process's gradients to where the other sees them. Weights that nothing depends on have none."""
    found = [(place, parameter.grad) for parameter, place in own if parameter.grad is not None]
    torch._foreach_copy_([place for place, _ in found], [gradient for _, gradient in found])
    for parameter, _ in own:
        parameter.grad = None


def _update(training: Training, step: int, half: int, line: Connection, counts: list[Tensor]) -> None:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with clipped gradients for one half of the weights."""
    parts = [(group, group.part(half)) for group in training.groups]
    gradients = [group.gradients[0][part].add_(group.gradients[1][part]) for group, part in parts]
    norm = _sum(line, sum(float(g.dot(g)) for g in gradients)) ** 0.5
    for (group, part), gradient, count in zip(parts, gradients, counts, strict=True):
        if norm > MOST_NORM:
            gradient.mul_(MOST_NORM / (norm + 1e-6))
        state = ([group.weights[part]], [gradient], [group.exp_avg[part]], [group.exp_avg_sq[part]], [], [count])
        constants = {"amsgrad": False, "beta1": BETAS[0], "beta2": BETAS[1], "eps": 1e-8, "maximize": False}
        adamw(*state, fused=True, lr=training.rate_of(step), weight_decay=group.decay, **constants)
        group.averages[part].lerp_(group.weights[part], 1 - training.average_of(step))
