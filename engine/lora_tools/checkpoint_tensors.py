"""The weights of checkpoints, of one file or of a folder, under the names of a single file."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from engine.lora_tools.checkpoint_layers import Checkpoint
from engine.lora_tools.foldering import folder_entries, single_metadata
from engine.lora_tools.stream import HASHES, Entry
from engine.lora_tools.tensors import WHOLE_NUMBERS, in_format, narrowed, read_tensor
from engine.sdxl.detect import identify
from engine.sdxl.weights import TORCH_DTYPES


def read_weight(checkpoint: Checkpoint, name: str) -> Tensor:
    """A tensor in its own format, its own memory. ModelError where it cannot be read."""
    if checkpoint.facts.layout == "single_file":
        return read_tensor(checkpoint.header.tensors[name])
    entry = _entries(str(checkpoint.facts.path))[name]
    content = bytearray(b"".join(bytes(piece) for piece in entry.content()))
    dtype = TORCH_DTYPES.get(entry.dtype) or WHOLE_NUMBERS[entry.dtype]
    return (torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)).view(entry.shape)


def weight_entry(checkpoint: Checkpoint, name: str, dtype: str) -> Entry:
    """A tensor to write as it is, in a format."""
    if checkpoint.facts.layout == "single_file":
        return in_format(checkpoint.header.tensors[name], dtype, name)
    entry = _entries(str(checkpoint.facts.path))[name]
    if entry.dtype == dtype:
        return entry
    where = str(checkpoint.facts.path)
    return Entry(dtype, entry.shape, lambda: narrowed(read_weight(checkpoint, name), dtype, name, where))


def metadata_of(checkpoint: Checkpoint) -> dict[str, str]:
    """The metadata that a new file keeps: without hashes; of a folder what one file of it would say."""
    is_file = checkpoint.facts.layout == "single_file"
    found = checkpoint.header.metadata if is_file else single_metadata(checkpoint.facts)
    return {key: text for key, text in found.items() if key not in HASHES}


@lru_cache(maxsize=4)
def _entries(path: str) -> dict[str, Entry]:
    return folder_entries(identify(path), "same")
