"""All adapter parameters of one part of the model as one flat vector, with a view for each matrix.

Zeroing, clipping, averaging, copying and the optimizer's step are then a few kernels instead of thousands. An
elementwise optimizer (SGD, Adam, Lion …) computes exactly what it would on the single matrices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from engine.adapter_shapes import NO_MATRICES, PRECISE

BLOCK = 256
"""Every matrix starts at a multiple of this many numbers: the block of 8-bit optimizers, and aligned for any GEMM.
The gaps hold zeros and get zero gradients; only 8-bit optimizers move them a little, and nobody reads them."""


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The length of all gradients of flat vectors together, 0-dim, on their device.

    Summed block by block: one sum over tens of millions of fp32 numbers is wrong in the third digit on a CPU.
    """
    blocks = [torch.linalg.vector_norm(gradient.view(-1, BLOCK), dim=1, dtype=torch.float32) for gradient in gradients]
    return torch.linalg.vector_norm(torch.cat(blocks))


@dataclass(frozen=True)
class Slot:
    """The place of one matrix in the vector: `size` numbers from `offset` on, contiguous."""

    offset: int
    size: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, vector: Tensor) -> Tensor:
        """The matrix as a view of `vector`."""
        return vector.as_strided(self.shape, self.stride, self.offset)


def _slot(offset: int, shape: Sequence[int]) -> Slot:
    stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Slot(offset, math.prod(shape), tuple(shape), stride)


def _is_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether the numbers are a map from one space to another: flattened after the first axis, both sides above one."""
    return len(shape) > 1 and shape[0] > 1 and math.prod(shape[1:]) > 1 and not name.endswith(NO_MATRICES)


@dataclass(frozen=True)
class View:
    """Some numbers of a flat vector as a parameter of their own: the same memory, so stepping it steps the vector.

    `is_matrix`: it is one, and may be turned and made orthogonal as a whole.
    """

    flat: FlatParameters
    parameter: nn.Parameter
    slot: Slot | None = None  # None: it is the vector itself
    is_matrix: bool = False

    def take_gradient(self) -> None:
        """Give the parameter its part of the vector's gradient, as a view."""
        if self.slot is not None:
            gradient = self.flat.vector.grad
            self.parameter.grad = None if gradient is None else self.slot.of(gradient)


class FlatParameters:
    """`vector` [n], fp32, is the parameter to optimize; `matrices()` are its parts in the dtype of the computation.

    `to` may make the vector bf16 (see engine/rounding.py). The cast to that dtype is one kernel, made when the first
    layer asks for it and used by all layers until the gradient has come back; so is the way back. Nothing is made
    twice for layers that run more than once in a graph.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], compute_dtype: torch.dtype) -> None:
        """Names that end in one of PRECISE stay fp32 in the computation."""
        self.slots: dict[str, Slot] = {}
        offset = 0
        for name in sorted(shapes):  # the order is part of saved states: it must not depend on the model's code
            self.slots[name] = _slot(offset, shapes[name])
            offset += -(-self.slots[name].size // BLOCK) * BLOCK
        self.vector = nn.Parameter(torch.zeros(offset))
        self.index = {name: index for index, name in enumerate(self.slots)}
        self.compute_dtype = compute_dtype
        self.precise = frozenset(name for name in self.slots if name.endswith(PRECISE))
        self._tracked: tuple[int, Sequence[Tensor]] | None = None
        self._plain: tuple[int, Sequence[Tensor]] | None = None

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Move the vector, and keep it in another dtype."""
        self.vector.data = self.vector.data.to(device, dtype)
        self.changed()

    def view(self, name: str) -> Tensor:
        """One matrix, a view of the vector, fp32, outside the graph."""
        return self.slots[name].of(self.vector.detach())

    def views(self) -> dict[str, Tensor]:
        """{name: matrix}, views of the vector, fp32, outside the graph."""
        data = self.vector.detach()
        return {name: slot.of(data) for name, slot in self.slots.items()}

    def matrices(self) -> Sequence[Tensor]:
        """The matrices in the compute dtype, in the order of `slots`; in the graph if gradients are on."""
        version = self.vector._version
        if torch.is_grad_enabled() and self.vector.requires_grad:
            if self._tracked is None or self._tracked[0] != version:
                self._tracked = (version, _Unpack.apply(self.vector, self))  # pyright: ignore[reportAssignmentType]
            return self._tracked[1]  # pyright: ignore[reportOptionalSubscript]
        if self._plain is None or self._plain[0] != version:
            self._plain = (version, self._cut())
        return self._plain[1]

    def optimized(self, shaped: bool) -> list[View]:
        """What an optimizer steps: the vector, or every matrix by itself and in its shape.

        The latter for optimizers that look at rows and columns or at the size of a whole matrix. Make them when the
        vector is on its device: `to` moves it away from under them.
        """
        if not shaped:
            return [View(self, self.vector)]
        data = self.vector.detach()
        return [
            View(self, nn.Parameter(slot.of(data)), slot, _is_matrix(name, slot.shape))
            for name, slot in self.slots.items()
        ]

    def changed(self) -> None:
        """Forget casts made before: the vector was written to in a way that torch does not count (some optimizers)."""
        self._tracked = self._plain = None

    def _cut(self) -> tuple[Tensor, ...]:
        exact = self.vector.detach()
        buffer = exact.to(self.compute_dtype)
        return tuple(slot.of(exact if name in self.precise else buffer) for name, slot in self.slots.items())

    def _join(self, gradients: Sequence[Tensor | None]) -> Tensor:
        pieces: list[Tensor] = []
        zeros = self.vector.new_zeros(max(self._gaps(gradients), default=0), dtype=self.compute_dtype)
        for slot, gradient in zip(self.slots.values(), gradients, strict=True):
            padding = -slot.size % BLOCK
            if gradient is None:
                pieces.append(zeros[: slot.size + padding])
            else:
                pieces.append(gradient.reshape(-1).to(self.compute_dtype))
                if padding:
                    pieces.append(zeros[:padding])
        return torch.cat(pieces).to(self.vector.grad_dtype or self.vector.dtype)

    def _gaps(self, gradients: Sequence[Tensor | None]) -> list[int]:
        sizes = [slot.size for slot in self.slots.values()]
        return [-size % BLOCK + (size if found is None else 0) for size, found in zip(sizes, gradients, strict=True)]


class _Unpack(Function):
    """Vector → matrices in the compute dtype; backward one concatenation and one cast."""

    @staticmethod
    def forward(ctx: Any, vector: Tensor, owner: FlatParameters):
        ctx.owner = owner
        ctx.set_materialize_grads(False)
        return owner._cut()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):
        owner: FlatParameters = ctx.owner
        owner.changed()
        return owner._join(gradients), None
