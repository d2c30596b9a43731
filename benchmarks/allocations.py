"""Counts the memory that tensors take, operation by operation, so that a peak is exact everywhere."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Inside this block: `now_bytes` of the storages that operations made and that still live, and their `peak_bytes`.

    What an operation takes for itself while it runs is not seen; meta tensors take nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_bytes = 0
        self.peak_bytes = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = {storage_of(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta" and storage_of(leaf) not in given:
                self._add(leaf.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size_bytes = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.now_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        self._known[key] = weakref.finalize(storage, self._gone, key, size_bytes)

    def _gone(self, key: int, size_bytes: int) -> None:
        self.now_bytes -= size_bytes
        del self._known[key]


def storage_of(tensor: torch.Tensor) -> int:
    """What tells one storage from another while it lives."""
    return tensor.untyped_storage()._cdata
