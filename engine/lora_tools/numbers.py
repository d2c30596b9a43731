"""Tensors of LoRA files as numpy arrays, and norms of the changes they make. No torch: the page shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.adapter_header import AdapterHeader
from engine.adapter_names import DOWN, MAGNITUDE, MID, UP
from engine.errors import ModelError
from engine.sdxl.safefile import TensorInfo

Array = NDArray[np.floating[Any]]
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
    """‖ΔW‖ (Frobenius) of a layer at strength 1, from its factors; None where only the base model's weights tell it.

    Those are DoRA, OFT, BOFT, GLoRA and (IA)³, and kinds that are not known. Of a full difference: the weight's.
    ModelError where the factors do not fit each other.
    """
    try:
        return _change_norm(header, layer)
    except ValueError as error:
        raise _misfit(header, layer) from error


def _misfit(header: AdapterHeader, layer: str) -> ModelError:
    what = f"holds matrices that do not fit each other, in {layer}. The file is damaged: choose another one."
    return ModelError(what, str(header.path))


def _change_norm(header: AdapterHeader, layer: str) -> float | None:
    held = header.layers[layer]
    for families, norm in _NORMS:
        if families <= held.keys() <= families | _BESIDE:
            return norm({name: read_array(info) for name, info in held.items()})
    if _is_kronecker(held):
        return _kronecker_norm({name: read_array(info) for name, info in held.items()})
    pair = None if MAGNITUDE in held else _pair(header, layer)
    return None if pair is None else _root(_product(pair, pair))


Arrays = Mapping[str, Array]
_BESIDE = {"alpha", "diff_b", "b_norm"}
_BLOCK_ROWS = 256


def _hadamard_norm(held: Arrays) -> float:
    """‖(A₁B₁) ∘ (A₂B₂)‖: by Gram matrices of r² columns, or a few rows at a time where that is less."""
    (one, two), (three, four) = ((held[f"hada_w{n}_a"], held[f"hada_w{n}_b"]) for n in (1, 2))
    rank, rows, columns = len(two), len(one), two.shape[1]
    scale = _scale(held, rank)
    if rank**4 * (rows + columns) < 4 * rank * rows * columns:
        left = np.einsum("oa,ob->oab", one, three).reshape(rows, -1).astype("<f8")
        right = np.einsum("ai,bi->abi", two, four).reshape(-1, columns).astype("<f8")
        return scale * _root(_product((left, right), (left, right)))
    total = 0.0
    for start in range(0, rows, _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        total += float(np.square((one[part] @ two) * (three[part] @ four), dtype="<f8").sum())
    return scale * float(np.sqrt(total))


def _hadamard_core_norm(held: Arrays) -> float:
    """Of a LoHa with cores (Tucker): that of the LoHa whose lower matrices have them in."""
    plain = dict(held)
    for number in (1, 2):
        core, lower = held[f"hada_t{number}"], held[f"hada_w{number}_b"]
        plain[f"hada_w{number}_a"] = held[f"hada_w{number}_a"].T
        plain[f"hada_w{number}_b"] = _with_core(core, lower)
    return _hadamard_norm(plain)


def _with_core(core: Array, down: Array) -> Array:
    """Σ core[a, b, k …] down[b, i] as [a, i · k …]."""
    return np.einsum("ab...,bi->ai...", core, down).reshape(len(core), -1)


def _is_kronecker(held: Mapping[str, object]) -> bool:
    return any(name.startswith("lokr_") for name in held) and all(
        f"lokr_{w}" in held or {f"lokr_{w}_a", f"lokr_{w}_b"} <= held.keys() for w in ("w1", "w2")
    )


def _kronecker_norm(held: Arrays) -> float:
    """‖W₁ ⊗ W₂‖ = ‖W₁‖ · ‖W₂‖; alpha / rank where one of them is a product."""
    ranks = [len(held[f"lokr_{w}_b"]) for w in ("w2", "w1") if f"lokr_{w}_b" in held]
    norms = [_factor_norm(held, w) for w in ("w1", "w2")]
    return norms[0] * norms[1] * (_scale(held, ranks[0]) if ranks else 1.0)


def _factor_norm(held: Arrays, factor: str) -> float:
    whole = held.get(f"lokr_{factor}")
    if whole is not None:
        return _plain_norm(whole)
    one, two, core = held[f"lokr_{factor}_a"], held[f"lokr_{factor}_b"], held.get("lokr_t2")
    if factor == "w2" and core is not None:
        return tucker_norm(one.T, core, two)
    pair = one.astype("<f8"), two.astype("<f8")
    return _root(_product(pair, pair))


def tucker_norm(up: Array, core: Array, down: Array) -> float:
    """‖Σ up[o, a] core[a, b, k …] down[b, i]‖ = √Σₖ tr(UᵀU Cₖ DDᵀ Cₖᵀ), with up [o, a] and down [b, i]."""
    left, right = up.T.astype("<f8") @ up, down.astype("<f8") @ down.T
    pages = core.reshape(*core.shape[:2], -1).astype("<f8").transpose(2, 0, 1)
    return _root(float(np.sum((left @ pages) * (pages @ right))))


def _root(square: float) -> float:
    """Of a sum of squares, which rounding may have made negative; NaN stays NaN."""
    return float(np.sqrt(np.maximum(0.0, square)))


def _plain_norm(array: Array) -> float:
    return float(np.sqrt(np.square(array, dtype="<f8").sum()))


def _scale(held: Arrays, rank: int) -> float:
    return abs(float(held["alpha"].reshape(-1)[0])) / rank if rank and "alpha" in held else 1.0


def _locon_norm(held: Arrays) -> float:
    """Of a LoCon with a core between its matrices (Tucker)."""
    down = held[DOWN].reshape(len(held[DOWN]), -1)
    up = held[UP].reshape(len(held[UP]), -1)
    return _scale(held, len(down)) * tucker_norm(up, held[MID], down)


_NORMS: tuple[tuple[set[str], Callable[[Arrays], float]], ...] = (
    ({DOWN, UP, MID}, _locon_norm),
    ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}, _hadamard_norm),
    ({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"}, _hadamard_core_norm),
    ({"diff"}, lambda held: _plain_norm(held["diff"])),
    ({"w_norm"}, lambda held: _plain_norm(held["w_norm"])),
)


def difference_norm(one: AdapterHeader, two: AdapterHeader, layer: str, other: str) -> tuple[float, float] | None:
    """(‖ΔW₁ − ΔW₂‖, ‖ΔW₁‖) of two LoRA layers; None where either is of another kind or another shape.

    ModelError where the matrices of one do not fit each other.
    """
    first, second = _pair(one, layer), _pair(two, other)
    if first is None or second is None or first[0].shape[0] != second[0].shape[0]:
        return None
    if first[1].shape[1] != second[1].shape[1]:
        return None
    own, cross, theirs = _product(first, first), _product(first, second), _product(second, second)
    return _root(own - 2 * cross + theirs), _root(own)


def _pair(header: AdapterHeader, layer: str) -> tuple[Array, Array] | None:
    """up [out, r] times alpha / rank, and down [r, in · k · k], in fp64 for exact differences."""
    held: Mapping[str, TensorInfo] = header.layers[layer]
    if DOWN not in held or UP not in held or len(held[DOWN].shape) < 2:
        return None
    up, down = read_array(held[UP]), read_array(held[DOWN])
    rank = down.shape[0]
    alpha = header.alpha_of(layer)
    scale = 1.0 if alpha is None or not rank else alpha / rank
    down = down.reshape(rank, -1)
    if MID in held:
        down = _with_core(read_array(held[MID]), down)
    up = up.reshape(up.shape[0], -1)
    if up.shape[1] != down.shape[0]:
        raise _misfit(header, layer)
    return up.astype("<f8") * scale, down.astype("<f8")


def are_alike(one: Mapping[str, TensorInfo], two: Mapping[str, TensorInfo]) -> bool:
    """Whether two layers hold the same tensors, number by number."""
    if one.keys() != two.keys() or any(one[name].shape != two[name].shape for name in one):
        return False
    return all(np.array_equal(read_array(one[name]), read_array(two[name]), equal_nan=True) for name in one)


def _product(one: tuple[Array, Array], two: tuple[Array, Array]) -> float:
    """⟨B₁A₁, B₂A₂⟩ = Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ)."""
    return float(np.sum((one[0].T @ two[0]) * (one[1] @ two[1].T)))


def count_odd(info: TensorInfo) -> tuple[int, bool]:
    """(how many numbers are not finite, whether any is not zero)."""
    found = read_array(info)
    return int(found.size - np.count_nonzero(np.isfinite(found))), bool(np.any(found))
