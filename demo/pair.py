"""A second process for the demo's training: it computes the gradients of the other half of each batch.

torch's own threads wait for each other dozens of times a step and stand still on a busy machine; two processes meet
once a step.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import platform
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn

MALLOPT = {"M_TRIM_THRESHOLD": -1, "M_MMAP_THRESHOLD": -3}  # malloc.h of glibc


def be_quick() -> None:
    """This process, and those forked from it, keep freed memory for the next step instead of giving it back to the
    system each time, and take numbers that are too small for normal digits for 0: the averages of gradients of words
    that are not seen for long become such, and a processor computes with them a hundred times more slowly."""
    torch.set_flush_denormal(True)
    if platform.libc_ver()[0] == "glibc":
        for parameter in MALLOPT.values():
            ctypes.CDLL(None).mallopt(parameter, 1 << 30)


def clip(weights: Sequence[nn.Parameter], most: float) -> None:
    """Scale the gradients to a norm of `most` where theirs is larger."""
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if norm > most:
        torch.nn.utils.clip_grads_with_norm_(weights, most, norm)


class OtherHalf:
    """The same weights in shared memory, in a process that is forked before anything is computed.

    loss_of(step): half the loss of the other half of that step's batch, a 0-dim tensor: of both halves' losses, so
    taken, the sum is the batch's, and so are the gradients.
    """

    def __init__(self, modules: Sequence[nn.Module], loss_of: Callable[[int], Tensor]) -> None:
        for module in modules:
            module.share_memory()
        self.weights = [weight for module in modules for weight in module.parameters()]
        self.gradients = [torch.zeros_like(weight).share_memory_() for weight in self.weights]
        processes = multiprocessing.get_context("fork")
        self.line, theirs = processes.Pipe()
        self.process = processes.Process(target=self._work, args=(loss_of, theirs), daemon=True)
        self.process.start()

    def begin(self, step: int) -> None:
        """Let it compute that step's half."""
        self.line.send(step)

    def add(self) -> float:
        """Add the other half's gradient to each weight's own; returns the other half's loss."""
        value = self.line.recv()
        pairs = [
            (own.grad, other) for own, other in zip(self.weights, self.gradients, strict=True) if own.grad is not None
        ]
        torch._foreach_add_([own for own, _ in pairs], [other for _, other in pairs])
        return value

    def end(self) -> None:
        """Let the process go."""
        self.process.terminate()
        self.process.join()

    def _work(self, loss_of: Callable[[int], Tensor], line: Connection) -> None:
        for weight, gradient in zip(self.weights, self.gradients, strict=True):
            weight.grad = gradient  # backward adds in place
        while True:
            step = line.recv()
            torch._foreach_zero_(self.gradients)
            loss = loss_of(step)
            loss.backward()
            line.send(loss.item())
