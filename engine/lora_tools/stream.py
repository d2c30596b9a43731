"""Large .safetensors files written tensor by tensor, whole or not at all. Torch-free.

The layout is the one the safetensors library writes: wider numbers first, then by name.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from engine.atomic import PART_SUFFIX, storage_refusal, whole_file
from engine.errors import ModelError, UserError
from engine.sdxl.safefile import DTYPE_BYTES, TensorInfo, read_header
from engine.tools.moving import move

CHUNK_BYTES = 1 << 22
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
_LEGACY_START, _LEGACY_LENGTH = 0x100000, 0x10000
Tell = Callable[[int, int], None]


class StopAsked(Exception):  # noqa: N818 - no fault
    """The user asked to stop: nothing was written."""


@dataclass(frozen=True)
class Entry:
    """A tensor to write: its number format, shape, and a function that gives its bytes, in pieces.

    A piece is valid until the next one is asked for.
    """

    dtype: str
    shape: tuple[int, ...]
    content: Callable[[], Iterable[Any]]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def copied(info: TensorInfo, shape: tuple[int, ...] | None = None) -> Entry:
    """A tensor of another file, byte by byte."""
    return Entry(info.dtype, info.shape if shape is None else shape, partial(_pieces, info))


def literal(dtype: str, shape: tuple[int, ...], content: bytes) -> Entry:
    return Entry(dtype, shape, lambda: [content])


def total_bytes(entries: Mapping[str, Entry]) -> int:
    return sum(entry.size_bytes for entry in entries.values())


def write_stream(
    target: Path,
    entries: Mapping[str, Entry],
    metadata: Mapping[str, str],
    tell: Tell = lambda done, total: None,
) -> int:
    """Write the file and look at it again; returns its size. Memory: one tensor.

    `tell` hears of bytes done and of all, and may raise StopAsked: then nothing is left of the file. UserError where
    the disk refuses, or where a file of this name came up meanwhile; ModelError where a source cannot be read.
    """
    total, done = total_bytes(entries), 0
    with whole_file(target) as part:
        with part.open("wb") as file:
            file.write(header_of(entries, metadata))
            for name in file_order(entries):
                before = done
                for piece in entries[name].content():
                    file.write(piece)
                    done += len(piece)
                    tell(done, total)
                if done - before != entries[name].size_bytes:
                    raise ModelError(f"changed while it was read ({name}). Start again.", str(target))
        found = read_header(part)
        if {name: info.shape for name, info in found.tensors.items()} != {n: e.shape for n, e in entries.items()}:
            raise UserError("came back from the disk changed. Check the disk.", str(target))
        if target.exists():
            raise UserError("a file of this name came up meanwhile, so nothing was written. Start again.", str(target))
    return target.stat().st_size


def kohya_hashes(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> dict[str, str]:
    """The hashes that kohya's trainer writes (see engine/adapters/tensorfile.py), and ModelSpec's."""
    whole, legacy = hashlib.sha256(), hashlib.sha256()
    place = len(header_of(entries, {key: text for key, text in metadata.items() if key.startswith("ss_")}))
    for name in file_order(entries):
        for piece in entries[name].content():
            whole.update(piece)
            begin, end = _LEGACY_START - place, _LEGACY_START + _LEGACY_LENGTH - place
            if end > 0 and begin < len(piece):
                legacy.update(piece[max(0, begin) : end])
            place += len(piece)
    digest = whole.hexdigest()
    return dict(zip(HASHES, (digest, legacy.hexdigest()[:8], "0x" + digest), strict=True))


def file_order(entries: Mapping[str, Entry]) -> list[str]:
    return sorted(entries, key=lambda name: (-DTYPE_BYTES[entries[name].dtype], name))


def header_of(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """The beginning of the file: 8 bytes of length, then JSON padded with blanks to a multiple of 8."""
    described: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name in file_order(entries):
        entry = entries[name]
        end = offset + entry.size_bytes
        described[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


_spare: list[bytearray] = []
"""Buffers that are free: a new one for each piece costs the system more than the copying."""


def _pieces(info: TensorInfo) -> Iterable[memoryview]:
    """The bytes of a tensor; each piece is valid until the next one is asked for."""
    buffer = _spare.pop() if _spare else bytearray(CHUNK_BYTES)
    whole = memoryview(buffer)
    try:
        with info.path.open("rb", buffering=0) as file:
            file.seek(info.start)
            left = info.end - info.start
            while left:
                count = file.readinto(whole[: min(left, CHUNK_BYTES)])
                if not count:
                    raise ModelError("ends too early: it was changed meanwhile. Start again.", str(info.path))
                left -= count
                yield whole[:count]
    except OSError as error:
        raise ModelError(f"cannot be read ({error}). Check the disk and the file.", str(info.path)) from error
    finally:
        _spare.append(buffer)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`; when the block ends well it takes that name, else it is removed.

    UserError where the disk refuses, or where `target` is there already.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        part.mkdir(parents=True)
        yield part
        move(part, target)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, FileExistsError):
            what = "is there already, and nothing is ever written over. Choose another."
            raise UserError(what, str(target)) from error
        refusal = storage_refusal(error, target) if isinstance(error, Exception) else None
        if refusal is not None:
            raise refusal from error
        raise
