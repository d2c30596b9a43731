"""Training numbers that lie in bf16: each step is made in fp32, and its result is rounded up or down by chance.

bf16 holds 8 significant bits, so that rounding to the nearest would lose every update smaller than 1/256 of its weight.
Rounded up with the probability of the distance to the number below (Gupta et al. 2015, arXiv 1502.02551, section 3), an
update is right on average. Chance is a function of (seed, step). Gradients are bf16 too, but for sums over several
batches; weights and moments are widened a segment at a time, so that no fp32 copy of all of them ever exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.draws import draw_below

if TYPE_CHECKING:
    from engine.adapters.attach import Adapter

SEGMENT = 1 << 23  # numbers that are widened at once; a multiple of the block of 8-bit optimizers


def round_stochastic(values: Tensor, generator: torch.Generator) -> Tensor:
    """fp32 → bf16 of the same shape; on average the same numbers, and exactly these where bf16 can hold them."""
    bits = torch.empty(values.shape, dtype=torch.int16, device=values.device)
    bits.random_(-(2**15), 2**15, generator=generator)
    raised = bits.to(torch.int32).add_(2**15).add_(values.view(torch.int32))
    return raised.bitwise_and_(-(2**16)).view(torch.float32).to(torch.bfloat16)


def segments(vector: Tensor) -> list[nn.Parameter]:
    """What an optimizer works on in place of a flat bf16 vector [n]: views of its numbers, SEGMENT at a time."""
    return [nn.Parameter(part) for part in vector.detach().split(SEGMENT)]


class RoundedStep:
    """Steps of an optimizer over the segments of bf16 vectors. For optimizers that treat each number by itself."""

    def __init__(self, vectors: Iterable[nn.Parameter], seed: int, sums: bool = False) -> None:
        """`parts`: the segments of each vector, for the optimizer's groups. `sums`: a step adds up the gradients of
        several batches, which is done in fp32: added in bf16 the later ones would be rounded away.
        """
        self.vectors = list(vectors)
        self.parts = [segments(vector) for vector in self.vectors]
        for each in (*self.vectors, *chain.from_iterable(self.parts)) if sums else ():
            each.grad_dtype = torch.float32
        self.seed = seed

    def take_gradients(self) -> None:
        """Hand the gradients of the vectors over to their segments."""
        for vector, parts in zip(self.vectors, self.parts, strict=True):
            if vector.grad is not None:
                for part, gradient in zip(parts, vector.grad.split(SEGMENT), strict=True):
                    part.grad = gradient
                vector.grad = None

    def step(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Step number `step`: widen, let the optimizer work, round; one segment after the other."""
        every = [part for parts in self.parts for part in parts]
        gradients = [part.grad for part in every]
        for part in every:
            part.grad = None
        generator = torch.Generator(every[0].device)
        generator.manual_seed(draw_below(2**63, "rounding", self.seed, step))
        for part, gradient in zip(every, gradients, strict=True):
            if gradient is not None:
                self._step_one(optimizer, part, gradient, generator)

    def _step_one(
        self, optimizer: torch.optim.Optimizer, part: nn.Parameter, gradient: Tensor, generator: torch.Generator
    ) -> None:
        stored, moments = part.data, optimizer.state.get(part, {})
        narrow = {key: value for key, value in moments.items() if _is_bf16(value)}
        moments.update({key: value.float() for key, value in narrow.items()})
        part.data = stored.float()
        part.grad = gradient.float()
        optimizer.step()
        part.grad = None
        stored.copy_(round_stochastic(part.data, generator))
        part.data = stored
        moments = optimizer.state[part]
        for key, value in moments.items():
            if isinstance(value, Tensor) and value.dtype == torch.float32 and value.numel() == stored.numel() > 1:
                rounded = round_stochastic(value, generator)
                moments[key] = narrow[key].copy_(rounded) if key in narrow else rounded


def make_rounded(adapter: Adapter, precision: str, seed: int, sums: bool) -> RoundedStep | None:
    """Let the adapter's numbers lie in bf16 and step so, if `precision` is "bf16", `sums` as there; else None."""
    if precision != "bf16":
        return None
    adapter.to(None, torch.bfloat16)
    return RoundedStep(adapter.vectors.values(), seed, sums)


def _is_bf16(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16
