"""Headers of .safetensors files, read and checked without torch and without touching the weights.

Format (safetensors, "Format" section): 8 bytes little-endian length N, N bytes of JSON
{name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {str: str}}, then the tensors without gaps.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import ModelError

DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
LONGEST_HEADER_BYTES = 100_000_000
DAMAGED = "The file is damaged: download or copy it again."
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
FOREIGN_STARTS = (
    (b"PK\x03\x04", "pickle"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"GGUF", "is a quantized GGUF file. Choose the .safetensors checkpoint that it was made from."),
    (b"version https://git-lfs", "is a Git LFS pointer, not the model itself. Run `git lfs pull` in its folder."),
    (b"<", "is a web page, not a model (a failed download). Download the model file itself."),
)


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: `start` and `end` count bytes from the beginning of the file `path`."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a .safetensors file says about itself."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    size_bytes: int


def pickle_sentence(path: Path) -> ModelError:
    """The refusal of a pickle; nothing of it is loaded."""
    return ModelError(
        "is a pickle, a format that can run any program when it is opened, so Atelier does not open it. "
        "Convert it to .safetensors with a program that you would trust with it (in AUTOMATIC1111 or Forge: "
        "Checkpoint Merger, one model, no interpolation, format safetensors), then choose the new file.",
        str(path),
    )


def read_header(path: Path) -> Header:
    """Read and check the header of one .safetensors file (milliseconds, whatever the size of the file).

    Raises ModelError, in a sentence, for anything that is not a whole, consistent .safetensors file.
    """
    where = str(path)
    try:
        if not path.exists():
            raise ModelError("there is no such file. Check the path.", where)
        if not path.is_file():
            raise ModelError("is not a file. Choose a .safetensors file.", where)
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(32)
            _refuse_foreign(path, start, size_bytes)
            length = int.from_bytes(start[:8], "little")
            if length > size_bytes - 8 and size_bytes >= 8 and length <= LONGEST_HEADER_BYTES:
                raise ModelError(f"ends in the middle of its header ({size_bytes:,} bytes). {DAMAGED}", where)
            if size_bytes < 10 or length < 2 or length > LONGEST_HEADER_BYTES:
                raise ModelError("is not a .safetensors file (its first bytes make no sense). " + DAMAGED, where)
            file.seek(8)
            text = file.read(length)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error}). Check the path and its permissions.", where) from error
    return _header_of(path, text, size_bytes)


@lru_cache(maxsize=4)
def _header_of(path: Path, text: bytes, size_bytes: int) -> Header:
    """Remembered by its bytes: to read them is quick, to check thousands of entries is not."""
    where, length = str(path), len(text)
    entries = _parse(text, where)
    metadata = _metadata(entries.pop("__metadata__", {}), where)
    tensors = {name: _tensor_info(path, name, entry, 8 + length) for name, entry in entries.items()}
    _check_offsets(tensors, 8 + length, size_bytes, where)
    return Header(path, tensors, metadata, size_bytes)


def _refuse_foreign(path: Path, start: bytes, size_bytes: int) -> None:
    if size_bytes == 0:
        raise ModelError("is empty (0 bytes). Download or copy it again.", str(path))
    for magic, sentence in FOREIGN_STARTS:
        if start.startswith(magic) and not start[8:9] == b"{":
            raise pickle_sentence(path) if sentence == "pickle" else ModelError(sentence, str(path))
    if path.suffix.lower() in PICKLE_SUFFIXES and start[8:9] != b"{":
        raise pickle_sentence(path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _parse(text: bytes, where: str) -> dict[str, Any]:
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"has a header that cannot be read ({error}). {DAMAGED}", where) from error
    if not isinstance(entries, dict):
        raise ModelError(f"has a header that lists no tensors. {DAMAGED}", where)
    return entries


def _metadata(entry: object, where: str) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise ModelError(f"has metadata that are not text. {DAMAGED}", where)
    return entry


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _tensor_info(path: Path, name: str, entry: object, data_start: int) -> TensorInfo:
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    if (
        not isinstance(dtype, str)
        or not isinstance(shape, list)
        or not all(map(_is_size, shape))
        or not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(map(_is_size, offsets))
    ):
        raise ModelError(f"has a header with a broken entry for the tensor {name!r}. {DAMAGED}", str(path))
    if dtype not in DTYPE_BYTES:
        raise ModelError(
            f"holds the tensor {name!r} in a number format that Atelier does not know (got {dtype}). "
            "Choose a checkpoint in fp32, fp16, bf16 or fp8.",
            str(path),
        )
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise ModelError(f"gives the tensor {name!r} a place that does not fit its shape. {DAMAGED}", str(path))
    return TensorInfo(path, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _check_offsets(tensors: dict[str, TensorInfo], data_start: int, size_bytes: int, where: str) -> None:
    expected = data_start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != expected:
            raise ModelError(f"has a gap or an overlap before the tensor {name!r}. {DAMAGED}", where)
        expected = info.end
    if expected > size_bytes:
        raise ModelError(f"is cut off: {size_bytes:,} of {expected:,} bytes are there. {DAMAGED}", where)
    if expected < size_bytes:
        raise ModelError(f"has {size_bytes - expected:,} bytes too many at its end. {DAMAGED}", where)
