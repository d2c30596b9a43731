"""Tensors of LoRA files as numpy arrays, and norms of the changes they make. No torch: the page shows them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.adapter_header import AdapterHeader
from engine.adapter_names import DOWN, UP
from engine.errors import ModelError
from engine.sdxl.safefile import TensorInfo

Array = NDArray[np.float32]
_PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def read_array(info: TensorInfo) -> Array:
    """A tensor in fp32. ModelError where it cannot be read, or is in a format that numpy does not have."""
    try:
        with info.path.open("rb") as file:
            file.seek(info.start)
            content = file.read(info.end - info.start)
    except OSError as error:
        raise ModelError(f"cannot be read ({error}). Check the disk and the file.", str(info.path)) from error
    if len(content) < info.end - info.start:
        raise ModelError("ends too early: it was changed meanwhile. Look again.", str(info.path))
    if info.dtype == "BF16":
        found = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    elif info.dtype in _PLAIN:
        found = np.frombuffer(content, _PLAIN[info.dtype]).astype("<f4")
    else:
        raise ModelError(f"holds numbers in the format {info.dtype}, which cannot be looked at.", str(info.path))
    return found.reshape(info.shape)


def change_norm(header: AdapterHeader, layer: str) -> float | None:
    """‖ΔW‖ (Frobenius) of a LoRA layer at strength 1, from two small Gram matrices; None for other kinds."""
    pair = _pair(header, layer)
    return None if pair is None else float(np.sqrt(max(0.0, _product(pair, pair))))


def difference_norm(one: AdapterHeader, two: AdapterHeader, layer: str, other: str) -> tuple[float, float] | None:
    """(‖ΔW₁ − ΔW₂‖, ‖ΔW₁‖) of two LoRA layers; None where either is of another kind or another shape."""
    first, second = _pair(one, layer), _pair(two, other)
    if first is None or second is None or first[0].shape[0] != second[0].shape[0]:
        return None
    if first[1].shape[1] != second[1].shape[1]:
        return None
    own, cross, theirs = _product(first, first), _product(first, second), _product(second, second)
    return float(np.sqrt(max(0.0, own - 2 * cross + theirs))), float(np.sqrt(max(0.0, own)))


def _pair(header: AdapterHeader, layer: str) -> tuple[Array, Array] | None:
    """up [out, r] times alpha / rank, and down [r, in · k · k], in fp64 for exact differences."""
    held: Mapping[str, TensorInfo] = header.layers[layer]
    if DOWN not in held or UP not in held or len(held[DOWN].shape) < 2:
        return None
    up, down = read_array(held[UP]), read_array(held[DOWN])
    rank = down.shape[0]
    alpha = header.alpha_of(layer)
    scale = 1.0 if alpha is None or not rank else alpha / rank
    return (up.reshape(up.shape[0], -1).astype("<f8") * scale), down.reshape(rank, -1).astype("<f8")  # pyright: ignore


def _product(one: tuple[Array, Array], two: tuple[Array, Array]) -> float:
    """⟨B₁A₁, B₂A₂⟩ = Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ)."""
    return float(np.sum((one[0].T @ two[0]) * (one[1] @ two[1].T)))


def count_odd(info: TensorInfo) -> tuple[int, bool]:
    """(how many numbers are not finite, whether any is not zero)."""
    found = read_array(info)
    return int(found.size - np.count_nonzero(np.isfinite(found))), bool(np.any(found))
