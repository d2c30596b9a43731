"""Content hashes of files, remembered by path, size and times, so that unchanged files are not read again.

A remembered hash is used only when size, modification time, change time and inode are all as they were, and is
remembered only when the file had already been at rest for a while: a second edit within one tick of the clock would
leave the same times. Times that a tool sets back (`touch -r`, unpacking) still move the change time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock, Timeout

from engine.data import packs
from engine.errors import DatasetError

_BLOCK_BYTES = 1 << 20
_AT_REST_NS = 2_000_000_000  # FAT keeps times to two seconds
_READERS = 4
_WORTH_COMPACTING = 4  # lines per remembered file
_LOCK_SECONDS = 30


def file_digest(path: Path | str) -> bytes:
    """32-byte BLAKE2b of the file's bytes. Raises DatasetError naming a file that cannot be read."""
    digest = blake2b(digest_size=32)
    try:
        with Path(path).open("rb", buffering=0) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"cannot be read ({error.strerror}). Restore it or leave it out.", str(path)) from error
    return digest.digest()


class FileDigests:
    """Hashes of files, with a memory in `folder`. Use as a context: the memory is written at its end.

    The memory only saves time: where it cannot be written or read, every file is read instead.
    """

    def __init__(self, folder: Path) -> None:
        self._memory_path = folder / "files.index"
        self._lock = FileLock(folder / "files.lock", timeout=_LOCK_SECONDS)
        self._known: dict[str, tuple[str, bytes]] = {}
        self._new: dict[str, tuple[str, bytes]] = {}
        self._lines = 0
        with contextlib.suppress(OSError):
            self._read(self._memory_path.read_bytes())

    def __enter__(self) -> FileDigests:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def of(self, path: Path) -> bytes:
        """The hash of the file's bytes, from memory where nothing about the file has changed."""
        name = os.path.abspath(path)  # noqa: PTH100  (resolving links of 10,000 files takes a second)
        try:
            before = path.stat()
        except OSError as error:
            raise DatasetError(f"cannot be read ({error.strerror}). Restore it or leave it out.", str(path)) from error
        state = _state(before)
        known = self._known.get(name)
        if known and known[0] == state:
            return known[1]
        digest = file_digest(path)
        at_rest = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > _AT_REST_NS
        if at_rest and _state(path.stat()) == state:
            self._known[name] = self._new[name] = state, digest
        return digest

    def of_all(self, paths: Sequence[Path]) -> list[bytes]:
        """The hashes of many files, read side by side."""
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(self.of, paths))

    def save(self) -> None:
        """Write what is new to the memory; without a word where the folder is full, locked or read-only.

        Other threads may go on asking for hashes meanwhile.
        """
        new, self._new = self._new, {}
        if not new:
            return
        with contextlib.suppress(OSError, Timeout):
            self._memory_path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                if self._lines + len(new) > _WORTH_COMPACTING * len(self._known):
                    self._memory_path.unlink(missing_ok=True)
                    new, self._lines = dict(self._known), 0
                packs.append_lines(self._memory_path, b"".join(_line(*entry) for entry in list(new.items())))
            self._lines += len(new)

    def _read(self, content: bytes) -> None:
        for line in content.split(b"\n"):
            fields = packs.checked_content(line)
            if fields is not None:
                name, state, digest = fields
                self._known[name] = state, bytes.fromhex(digest)
                self._lines += 1


def _state(status: os.stat_result) -> str:
    return f"{status.st_size},{status.st_mtime_ns},{status.st_ctime_ns},{status.st_ino},{status.st_dev}"


def _line(name: str, entry: tuple[str, bytes]) -> bytes:
    return packs.checked_line([name, entry[0], entry[1].hex()])
