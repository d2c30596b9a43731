"""Number formats that a tool can write, and how large a file gets. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from engine.sdxl.safefile import DTYPE_BYTES, TensorInfo

Precision = Literal["same", "fp16", "bf16", "fp32"]
DTYPES = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
FLOATING = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def dtype_in(info: TensorInfo, precision: Precision) -> str:
    """The format that a tensor gets; whole numbers stay what they are."""
    return DTYPES[precision] if precision != "same" and info.dtype in FLOATING else info.dtype


def size_in(infos: Iterable[TensorInfo], precision: Precision) -> int:
    return sum(math.prod(info.shape) * DTYPE_BYTES[dtype_in(info, precision)] for info in infos)
