"""Tensors of files read one at a time, and their bytes to write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from engine.errors import ModelError
from engine.finite import is_finite
from engine.lora_tools.stream import Entry, copied
from engine.sdxl.safefile import TensorInfo
from engine.sdxl.weights import TORCH_DTYPES

WHOLE_NUMBERS = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
                 "BOOL": torch.bool}  # fmt: skip

_NUMBERS_AT_ONCE = 1 << 18


def read_tensor(info: TensorInfo) -> Tensor:
    """A tensor in the file's own format. ModelError where it cannot be read, or is packed in a way not known here."""
    dtype = TORCH_DTYPES.get(info.dtype) or WHOLE_NUMBERS.get(info.dtype)
    if dtype is None:
        raise ModelError(f"holds numbers in the format {info.dtype}, which cannot be computed with.", str(info.path))
    content = torch.empty(info.end - info.start, dtype=torch.uint8)
    try:
        with info.path.open("rb", buffering=0) as file:
            file.seek(info.start)
            view, done = content.numpy().data, 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    raise ModelError("ends too early: it was changed meanwhile. Start again.", str(info.path))
                done += count
    except OSError as error:
        raise ModelError(f"cannot be read ({error}). Check the disk and the file.", str(info.path)) from error
    return content.view(dtype).view(info.shape)


def row_blocks(info: TensorInfo) -> Iterator[TensorInfo]:
    """A tensor in pieces of whole rows, of 2¹⁸ numbers at most where a row has fewer: what is done to a piece stays in
    the processor's cache, and needs no memory that the system would have to give anew for each large tensor."""
    if not info.shape or info.end == info.start:
        yield info
        return
    rows, row_bytes = info.shape[0], (info.end - info.start) // info.shape[0]
    at_once = max(1, _NUMBERS_AT_ONCE * rows // math.prod(info.shape))
    for first in range(0, rows, at_once):
        count = min(at_once, rows - first)
        start = info.start + first * row_bytes
        yield TensorInfo(info.path, info.dtype, (count, *info.shape[1:]), start, start + count * row_bytes)


def wide(tensor: Tensor) -> Tensor:
    """In fp32, or as it is where it is wider."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def narrowed(tensor: Tensor, dtype: str, name: str, where: str) -> list[Any]:
    """The bytes in a format. ModelError where a number is not finite, or too large for it."""
    found = tensor.to(TORCH_DTYPES[dtype]).contiguous()
    if not is_finite(found):
        if is_finite(tensor):
            what = f"holds numbers that are too large for {dtype} ({name}). Choose the precision bf16 or fp32."
        else:
            what = f"holds numbers that are not finite (NaN or infinite), at {name}. Choose another file."
        raise ModelError(what, where)
    return [found.view(-1).view(torch.uint8).numpy().data] if found.numel() else []


def in_format(info: TensorInfo, dtype: str, name: str) -> Entry:
    """A tensor of a file in a format; byte by byte where that is its own."""
    if dtype == info.dtype:
        return copied(info)

    def content() -> Iterable[Any]:
        for block in row_blocks(info):
            yield from narrowed(read_tensor(block), dtype, name, str(info.path))

    return Entry(dtype, info.shape, content)
