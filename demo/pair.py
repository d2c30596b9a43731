"""A second process for the demo's training: it computes the gradients of the other half of each batch.

torch's own threads wait for each other dozens of times a step and stand still on a busy machine; two processes meet
once a step.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection

import torch
from torch import Tensor, nn


class OtherHalf:
    """The same weights in shared memory, in a process that is forked before anything is computed.

    loss_of(step): the loss of the other half of that step's batch, a 0-dim tensor.
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
        """Make each weight's gradient the mean of both halves; returns the other half's loss."""
        value = self.line.recv()
        pairs = [
            (own.grad, other) for own, other in zip(self.weights, self.gradients, strict=True) if own.grad is not None
        ]
        gradients = [own for own, _ in pairs]
        torch._foreach_add_(gradients, [other for _, other in pairs])
        torch._foreach_mul_(gradients, 0.5)
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
