"""The files of a store: an index of checked lines, and a pack of bytes that is memory-mapped. Torch-free.

Index: a line `["atelier-store 1", "NAME-xxxxxxxx.pack"]`, then a line per record: JSON, a tab, the CRC-32 of it.
Pack: the records' bytes, each record and each tensor in it at a multiple of 64. Both only grow at the end.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import platform
import re
import secrets
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError

ALIGNMENT_BYTES = 64

_FORMAT = "atelier-store 1"
_APPEND_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") else 0


@dataclass(frozen=True)
class Part:
    """One tensor of a record; `at` counts bytes from the record's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    at: int


@dataclass(frozen=True)
class Record:
    """Where a key's bytes lie in the pack, and their CRC-32."""

    at: int
    length_bytes: int
    checksum: int
    parts: tuple[Part, ...]


class Pack:
    """An open pack file; stays readable after another process has replaced and removed it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._map: mmap.mmap | None = None

    def map_of(self, record: Record) -> mmap.mmap | None:
        """A private map of the whole pack, or None where the pack ends before the record does."""
        end = record.at + record.length_bytes
        if self._map is None or len(self._map) < end:
            if os.fstat(self._file.fileno()).st_size < end:
                return None
            self._map = _private_map(self._file.fileno())
        return self._map

    def bytes_of(self, record: Record) -> memoryview | None:
        """The record's bytes, or None as above."""
        mapped = self.map_of(record)
        return None if mapped is None else memoryview(mapped)[record.at : record.at + record.length_bytes]

    def is_in_place(self) -> bool:
        """Whether the file at `path` still is the one that was opened."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(self.path.stat(), os.fstat(self._file.fileno()))
        return False

    def close(self) -> None:
        """Let go of the file; maps that are in use stay valid."""
        self._map = None
        self._file.close()


def _private_map(descriptor: int) -> mmap.mmap:
    """Copy on write: a tensor changed in place changes in this process only, and a map may exceed the memory."""
    if sys.platform == "win32":
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    return mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE)


def new_pack_path(folder: Path, name: str) -> Path:
    """A name for a pack that no index names yet."""
    return folder / f"{name}-{secrets.token_hex(4)}.pack"


def unnamed_packs(folder: Path, name: str, named: Path | None) -> list[Path]:
    """Packs of the store `name` but the one that its index names: replaced, or left by a killed writer."""
    ours = re.compile(re.escape(name) + r"-[0-9a-f]{8}\.pack")
    return [path for path in folder.iterdir() if ours.fullmatch(path.name) and path != named]


def header_line(pack_path: Path) -> bytes:
    """The first line of an index."""
    return json.dumps([_FORMAT, pack_path.name]).encode() + b"\n"


def pack_of_header(header: bytes, index_path: Path) -> Path:
    """The pack that an index's first line names. Raises UserError for a file of another kind."""
    with contextlib.suppress(ValueError):
        match json.loads(header):
            case [kind, str(name)] if kind == _FORMAT and Path(name).name == name:
                return index_path.with_name(name)
    raise UserError("is no cache that this version can read. Delete it or choose another folder.", str(index_path))


def record_line(key: bytes, record: Record) -> bytes:
    """A record's line in the index."""
    parts = [[part.name, part.dtype, part.shape, part.at] for part in record.parts]
    return checked_line([key.hex(), record.at, record.length_bytes, record.checksum, parts])


def read_record_line(line: bytes) -> tuple[bytes, Record] | None:
    """Key and record of a line, or None for a line that was not written whole."""
    fields = checked_content(line)
    if fields is None:
        return None
    key, at, length_bytes, checksum, parts = fields
    read = tuple(Part(name, dtype, tuple(shape), start) for name, dtype, shape, start in parts)
    return bytes.fromhex(key), Record(at, length_bytes, checksum, read)


def checked_line(fields: list[Any]) -> bytes:
    """JSON, a tab, its CRC-32, a line feed."""
    content = json.dumps(fields).encode()
    return b"%s\t%08x\n" % (content, zlib.crc32(content))


def checked_content(line: bytes) -> list[Any] | None:
    """The fields of a checked line, or None for a line that was not written whole."""
    content, _, checksum = line.rpartition(b"\t")
    return json.loads(content) if checksum == b"%08x" % zlib.crc32(content) else None


def append_aligned(path: Path, payload: bytes) -> int:
    """Put `payload` at the next multiple of 64 at the file's end; returns where. Under the store's lock."""
    with _appending(path) as (descriptor, end):
        padding = -end % ALIGNMENT_BYTES
        _write_all(descriptor, bytes(padding) + payload)
        return end + padding


def append_lines(path: Path, lines: bytes) -> None:
    """Put whole lines at the file's end, below a line that a killed writer left unfinished. Under the store's lock."""
    with _appending(path) as (descriptor, end):
        finished = end == 0 or _byte_at(descriptor, end - 1) == b"\n"
        _write_all(descriptor, lines if finished else b"\n" + lines)


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[tuple[int, int]]:
    """A descriptor and the file's size; when writing fails the file is cut back to that size."""
    descriptor = os.open(path, _APPEND_FLAGS, 0o666)
    try:
        end = os.fstat(descriptor).st_size
        try:
            yield descriptor, end
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)


def _byte_at(descriptor: int, offset: int) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, 1)


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
