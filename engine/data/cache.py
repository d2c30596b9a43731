"""A packed, memory-mapped store of tensors under content keys: survives kill −9, a full disk and two writers at once.

A record is named in the index after its bytes are on the disk, so what the index names is whole. What a killed writer
leaves behind are unnamed bytes or a line whose checksum fails, and both are passed over. A key is a hash of everything
that a value depends on (`content_key`), so there is nothing to invalidate: edited input has another key.
"""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from engine.atomic import storage_refusal, write_bytes_whole
from engine.data import packs
from engine.data.packs import Pack, Record
from engine.data.tensor_bytes import packed, view
from engine.errors import UserError

_FLUSH_BYTES = 64_000_000
_FLUSH_SECONDS = 1.0
_LOCK_SECONDS = 600  # trimming a large store takes that long on a slow disk

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class StoreSize:
    """What a store holds: usable records, their bytes, and the bytes of its files on disk."""

    records: int
    record_bytes: int
    disk_bytes: int


def content_key(*parts: bytes) -> bytes:
    """32 bytes that differ whenever the parts differ, in content, number or boundaries (BLAKE2b, lengths first)."""
    digest = blake2b(digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


class Store:
    """Tensors by key. Views that `get` gave stay valid for as long as they are held, whatever is put or cleared.

    Records become visible to other processes, and safe against power cuts, with `flush`, which also happens by itself
    every second of writing and on `close`. Several threads and several processes may use a store at once.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._index_path = folder / f"{name}.index"
        self._file_lock = FileLock(folder / f"{name}.lock", timeout=_LOCK_SECONDS, thread_local=False)
        self._guard = threading.RLock()
        self._records: dict[bytes, tuple[Pack, Record]] = {}
        self._checked: set[bytes] = set()
        self._pending: dict[bytes, Record] = {}
        self._pending_bytes = 0
        self._flushed_at = time.monotonic()
        self._pack: Pack | None = None
        self._index_seen: tuple[int, int, int] | None = None
        self._index_read_bytes = 0

    @classmethod
    def open(cls, folder: Path, name: str) -> Store:
        """The store `name` in `folder`; files are made when first written to. One in a read-only folder can be read.

        Raises UserError when `folder` is a file, may not be read, or holds another program's file of that name.
        """
        if folder.exists() and not folder.is_dir():
            raise UserError("is a file, not a folder. Choose another cache folder.", str(folder))
        store = cls(folder, name)
        store._refresh()
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, key: bytes) -> bool:
        """Whether `get` will find `key`; other processes' records count."""
        with self._guard:
            return self._whole(key) is not None

    def get(self, key: bytes) -> Tensors | None:
        """The tensors under `key` as views of the memory map; changing one in place changes it in this process only."""
        with self._guard:
            found = self._whole(key)
            mapped = found and found[0].map_of(found[1])
            if not found or mapped is None:
                return None
            return {part.name: view(mapped, found[1].at + part.at, part) for part in found[1].parts}

    def put(self, key: bytes, tensors: Mapping[str, torch.Tensor]) -> None:
        """Keep `tensors` (of any device) under `key`; nothing happens when it is there already.

        Raises UserError when the disk is full or read-only; what was stored before stays usable.
        """
        with self._guard:
            if self._whole(key):
                return
            payload, parts = packed(tensors)
            with self._writing():
                pack = self._pack_to_fill()
                at = packs.append_aligned(pack.path, payload)
            record = Record(at, len(payload), zlib.crc32(payload), parts)
            self._records[key] = pack, record
            self._checked.add(key)
            self._pending[key] = record
            self._pending_bytes += len(payload)
            if self._pending_bytes > _FLUSH_BYTES or time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Bring what was put to the disk and name it in the index. Raises UserError as `put` does."""
        with self._guard:
            if not self._pending or self._pack is None:
                return
            with self._writing():
                pack = self._pack_to_fill()
                if self._pending:  # else the store was cleared meanwhile, and these records with it
                    packs.sync(pack.path)
                    lines = [packs.record_line(key, record) for key, record in self._pending.items()]
                    packs.append_lines(self._index_path, b"".join(lines))
                    packs.sync(self._index_path)
            self._pending, self._pending_bytes = {}, 0
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flush and let go of the files; views that were given stay valid."""
        with self._guard:
            self.flush()
            self._drop_all()

    def clear(self) -> None:
        """Forget everything and free its disk space, which needs none. Other processes keep what they have read."""
        with self._guard:
            if self._index_path.exists():
                with self._writing():
                    self._index_path.unlink(missing_ok=True)
                    for pack_path in packs.unnamed_packs(self._folder, self._name, named=None):
                        pack_path.unlink(missing_ok=True)
            self._drop_all()

    def trim(self, limit_bytes: int, keep: Iterable[bytes] = ()) -> None:
        """Drop the oldest records until the rest fits `limit_bytes` on disk; those in `keep` are dropped last.

        Nothing happens while the store is within the limit. Raises UserError as `put` does, and then changes nothing.
        """
        with self._guard:
            self.flush()
            if not self._index_path.exists() or self.measure().disk_bytes <= limit_bytes:
                return
            with self._writing():
                self._refresh()
                chosen = self._newest(limit_bytes, frozenset(keep))
                new_pack = packs.new_pack_path(self._folder, self._name)
                try:
                    self._replace_files(chosen, new_pack)
                except (OSError, UserError):
                    new_pack.unlink(missing_ok=True)
                    raise
            self._records, self._checked = {}, set()
            self._refresh()

    def measure(self) -> StoreSize:
        """How much the store holds, and takes on the disk."""
        with self._guard:
            self._refresh()
            paths = [self._index_path, *([self._pack.path] if self._pack else [])]
            disk_bytes = sum(path.stat().st_size for path in paths if path.exists())
            record_bytes = sum(record.length_bytes for _, record in self._records.values())
            return StoreSize(len(self._records), record_bytes, disk_bytes)

    def _drop_all(self) -> None:
        """Close the files, so that deleted ones free their space, and forget what was read; views stay valid."""
        for pack in {self._pack, *(pack for pack, _ in self._records.values())} - {None}:
            pack.close()
        self._records, self._checked, self._pack, self._index_seen = {}, set(), None, None
        self._pending, self._pending_bytes = {}, 0

    def _newest(self, limit_bytes: int, keep: frozenset[bytes]) -> list[bytes]:
        """Keys whose records fit the limit, those of `keep` chosen first, then the newest; in the order of writing."""
        chosen, room_bytes = [], limit_bytes
        for key in sorted(self._records, key=lambda key: (key in keep, self._records[key][1].at), reverse=True):
            record = self._records[key][1]
            room_bytes -= record.length_bytes + packs.ALIGNMENT_BYTES + len(packs.record_line(key, record))
            if room_bytes < 0:
                break
            chosen.append(key)
        return sorted((key for key in chosen if self._whole(key)), key=lambda key: self._records[key][1].at)

    def _replace_files(self, chosen: list[bytes], new_pack: Path) -> None:
        """A new pack of the chosen records, then, at one stroke, an index that names it. Under the lock."""
        new_pack.touch()
        lines = [packs.header_line(new_pack)]
        for key in chosen:
            pack, record = self._records[key]
            payload = pack.bytes_of(record)
            if payload is not None:
                at = packs.append_aligned(new_pack, bytes(payload))
                lines.append(packs.record_line(key, Record(at, record.length_bytes, record.checksum, record.parts)))
        packs.sync(new_pack)
        write_bytes_whole(self._index_path, b"".join(lines))
        for old_pack in packs.unnamed_packs(self._folder, self._name, new_pack):
            old_pack.unlink(missing_ok=True)

    def _pack_to_fill(self) -> Pack:
        """The pack that the index names now; made anew where files are missing. Under the lock."""
        self._refresh()
        if self._pack is None or not self._index_path.exists() or not self._pack.is_in_place():
            self._replace_files([], packs.new_pack_path(self._folder, self._name))
            self._refresh()
        if self._pack is None:
            raise FileNotFoundError(self._index_path)
        return self._pack

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock that all processes share; the disk's refusals become sentences."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file_lock:
                yield
        except Timeout as error:
            message = f"another program has been writing for {_LOCK_SECONDS} s. End it, or choose another cache folder."
            raise UserError(message, str(self._index_path)) from error
        except OSError as error:
            refusal = storage_refusal(error, self._index_path)
            if refusal is None:
                raise
            raise refusal from error

    def _whole(self, key: bytes) -> tuple[Pack, Record] | None:
        """Pack and record of `key`, if the bytes are there and are (checked once) what was written."""
        if key not in self._records:
            self._refresh()
        found = self._records.get(key)
        if found is None or key in self._checked:
            return found
        payload = found[0].bytes_of(found[1])
        if payload is None or zlib.crc32(payload) != found[1].checksum:
            del self._records[key]  # to be computed and put anew
            return None
        self._checked.add(key)
        return found

    def _refresh(self) -> None:
        """Read the index lines that were added since the last look, or all where the store was replaced."""
        try:
            status = self._index_path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._index_seen:
                return
            with self._index_path.open("rb") as file:
                self._follow(packs.pack_of_header(file.readline(), self._index_path), file.tell())
                file.seek(self._index_read_bytes)
                whole, newline, _ = file.read().rpartition(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError as error:
            raise UserError("may not be read. Change its permissions.", str(self._index_path)) from error
        self._index_seen = seen
        self._index_read_bytes += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            read = packs.read_record_line(line)
            if read and self._pack and read[0] not in self._pending:
                self._records[read[0]] = self._pack, read[1]
                self._checked.discard(read[0])

    def _follow(self, pack_path: Path, header_bytes: int) -> None:
        """Turn to another pack when the index names one; records read from the old one stay usable here."""
        if self._pack is None or self._pack.path != pack_path:
            self._pack = Pack(pack_path)
            self._index_read_bytes = header_bytes
            self._pending, self._pending_bytes = {}, 0


def kept_dtype(dtype: torch.dtype) -> torch.dtype:
    """What features are kept in: fp32 where they were computed in it, else fp16, which is finer than bf16."""
    return torch.float32 if dtype == torch.float32 else torch.float16
