"""Tensors as the bytes of a record, and back as views of the memory map."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping

import torch

from engine.data.packs import ALIGNMENT_BYTES, Part


def packed(tensors: Mapping[str, torch.Tensor]) -> tuple[bytes, tuple[Part, ...]]:
    """The tensors' bytes one behind the other, each at a multiple of 64, and where each lies."""
    payload, parts = bytearray(), []
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        parts.append(Part(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), len(payload)))
        payload += flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        payload += bytes(-len(payload) % ALIGNMENT_BYTES)
    return bytes(payload) or bytes(ALIGNMENT_BYTES), tuple(parts)


def view(mapped: mmap.mmap, at: int, part: Part) -> torch.Tensor:
    """The tensor of a part, without copying."""
    dtype = getattr(torch, part.dtype)
    count = math.prod(part.shape)
    if not count:
        return torch.empty(part.shape, dtype=dtype)
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=at).reshape(part.shape)
