"""Write a .safetensors file straight from the tensors' memory, and the hashes that kohya's trainer puts into it.

The layout is the one the safetensors library writes (larger dtypes first, then by name), so that anybody who loads the
file and saves it again gets the same bytes, and the same hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write CPU tensors (fp32, fp16, bf16; contiguous) with metadata. OSError where the disk refuses."""
    with path.open("wb") as file:
        file.write(header(tensors, metadata))
        for data in _in_file_order(tensors):
            file.write(data)


def header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The beginning of the file: 8 bytes of length, then JSON padded with blanks to a multiple of 8."""
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def kohya_hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """`sshs_model_hash`: SHA-256 of all that follows the header. `sshs_legacy_hash`: the first 8 digits of the SHA-256
    of 64 KiB from the first MiB on, in a file whose metadata are the `ss_…` entries alone.
    """
    whole, legacy = hashlib.sha256(), hashlib.sha256()
    place = len(header(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")}))
    for data in _in_file_order(tensors):
        whole.update(data)
        begin, end = _LEGACY_START - place, _LEGACY_START + _LEGACY_LENGTH - place
        if end > 0 and begin < len(data):
            legacy.update(data[max(0, begin) : end])
        place += len(data)
    return {"sshs_model_hash": whole.hexdigest(), "sshs_legacy_hash": legacy.hexdigest()[:8]}


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _in_file_order(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    for name in _order(tensors):
        yield tensors[name].reshape(-1).view(torch.uint8).numpy().data
