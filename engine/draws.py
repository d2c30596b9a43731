"""Random draws as functions of their arguments: nothing remembers how often it was asked, so a resume needs no state.

Integers are hashed with BLAKE2b and permutations sort a Philox stream; both give the same values on every platform
and in every version of Python and NumPy (`random.shuffle` and `Generator.permutation` do not promise that).
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

Part = int | str


def _hash(parts: tuple[Part, ...], size_bytes: int) -> bytes:
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return blake2b(text.encode("utf-8"), digest_size=size_bytes).digest()


def draw_fraction(*parts: Part) -> float:
    """A number in [0, 1) with 53 random bits, the same for the same parts."""
    return (int.from_bytes(_hash(parts, 8), "little") >> 11) / (1 << 53)


def draw_fractions(count: int, *parts: Part) -> list[float]:
    """`count` numbers in [0, 1) with 53 random bits each, the same for the same parts; more of them begin the same."""
    stream = np.random.Philox(key=int.from_bytes(_hash(parts, 16), "little"))
    return ((stream.random_raw(count) >> np.uint64(11)) / (1 << 53)).tolist() if count else []


def draw_below(count: int, *parts: Part) -> int:
    """An integer in 0 … count - 1, the same for the same parts; the bias of the remainder is below count / 2^64."""
    return int.from_bytes(_hash(parts, 8), "little") % count


def permutation(count: int, *parts: Part) -> list[int]:
    """The integers 0 … count - 1 in an order that depends on the parts only."""
    stream = np.random.Philox(key=int.from_bytes(_hash(parts, 16), "little"))
    return np.argsort(stream.random_raw(count), kind="stable").tolist() if count else []
