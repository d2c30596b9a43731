"""Computing in fp32 with weights that stay in half precision: each is widened into one shared buffer when it is used.

For CPUs. Most have no instructions for bf16 or fp16, and a half-precision convolution is then 100 times slower than one
in fp32, while an fp32 copy of SDXL's UNet takes 10 GB. Half-precision numbers are fp32 numbers, so widening is exact:
the results are those of an fp32 copy, and gradients too, up to the order of summation (linears: bit for bit). A pass
over the UNet widens 2.6 G weights, which takes about a second.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from engine.sdxl.frozen import frozen_conv2d, frozen_linear

LEAST_NUMBERS = 1 << 16
HALF = (torch.bfloat16, torch.float16)
_buffers = threading.local()


def cpu_computes_fast_in(dtype: torch.dtype) -> bool:
    """Whether this CPU has instructions for `dtype`; without them half precision is 10 to 100 times slower."""
    known = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
    question = known.get(str(dtype).removeprefix("torch."))
    return question is None or (torch.backends.mkldnn.is_available() and getattr(torch.ops.mkldnn, question)())


def _widened(weight: Tensor) -> Tensor:
    """`weight` in fp32, in this thread's buffer and valid until the next call (an fp32 weight comes back itself)."""
    if weight.dtype == torch.float32:
        return weight
    buffer: Tensor | None = getattr(_buffers, "buffer", None)
    if buffer is None or buffer.numel() < weight.numel():
        buffer = _buffers.buffer = torch.empty(weight.numel())
    return buffer[: weight.numel()].view(weight.shape).copy_(weight)


class NarrowLinear(nn.Linear):
    """A linear in fp32 whose frozen weight is stored in half precision (its bias in fp32)."""

    compute_dtype = torch.float32

    def forward(self, input: Tensor) -> Tensor:
        """x fp32 [..., in] → fp32 [..., out]."""
        return frozen_linear(input, self)

    def dense_weight(self) -> Tensor:
        """The weight in fp32, valid until the next call for any layer of this thread."""
        return _widened(self.weight)


class NarrowConv2d(nn.Conv2d):
    """A convolution in fp32 whose frozen weight is stored in half precision (its bias in fp32)."""

    compute_dtype = torch.float32

    def forward(self, input: Tensor) -> Tensor:
        """x fp32 [B, in, h, w] → fp32 [B, out, h', w']."""
        return frozen_conv2d(input, self)

    def dense_weight(self) -> Tensor:
        """The weight in fp32, valid until the next call for any layer of this thread."""
        return _widened(self.weight)


def make_narrow(module: nn.Module, least_numbers: int = LEAST_NUMBERS) -> set[str]:
    """Let the large linears and convolutions of `module` compute from half-precision weights; → these weights' names.

    Small layers are left as they are: they are quick to copy, and the first of them tells the precision of the model.
    """
    names: set[str] = set()
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.numel() >= least_numbers:
            kind: Any = NarrowLinear if isinstance(layer, nn.Linear) else NarrowConv2d
            layer.__class__ = kind  # the same parameters, the same names, another forward
            names.add(f"{name}.weight")
    return names
