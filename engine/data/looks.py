"""What only an image's pixels tell: whether they can be decoded, transparency, and what twins are found by.

Remembered by the content of the file, so that an image is decoded once, wherever it lies and whatever it is called.
Large JPEGs are decoded at an eighth of their size, which reads every byte of them all the same.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from engine.data import packs
from engine.data.digests import FileDigests
from engine.data.images import open_small
from engine.data.near_same import Print, fingerprint
from engine.errors import DatasetError

VERSION = 1  # raise it when `look_at` gives other values than before
SMALL_PX = 256  # images are reduced while both sides stay at this, which changes no hash by more than a bit or two

_LOCK_SECONDS = 30
_AHEAD = 64
_SAVED_EVERY = 500


class Look(NamedTuple):
    """What is known of one file. `fault`: why it cannot be decoded ("" where it can); `print` is None then.

    `is_certain`: whether the fault lies in the file, and not in this moment (memory, a lost disk, permissions).
    """

    digest: bytes
    fault: str
    has_alpha: bool
    print: Print | None
    is_certain: bool = True


class Looks:
    """Looks at files, with a memory in `folder`. Use as a context: the memory is written at its end.

    The memory only saves time: where it cannot be written or read, every image is decoded instead.
    """

    def __init__(self, folder: Path) -> None:
        self._digests = FileDigests(folder)
        self._memory_path = folder / "looks.index"
        self._lock = FileLock(folder / "looks.lock", timeout=_LOCK_SECONDS)
        self._known: dict[str, Look] = {}
        self._new: dict[str, Look] = {}
        with contextlib.suppress(OSError):
            self._read(self._memory_path.read_bytes())

    def __enter__(self) -> Looks:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def of(self, path: Path) -> Look:
        """What one file is like. Never raises for a file that is damaged or missing: that is its `fault`."""
        try:
            digest = self._digests.of(path)
        except DatasetError as error:
            return Look(b"", error.problems[0].message, False, None, False)
        key = digest.hex()
        known = self._known.get(key)
        if known is None:
            known = _look_at(path, digest)
            if known.is_certain:
                self._known[key] = self._new[key] = known
        return known

    def of_all(self, paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> list[Look]:
        """What many files are like, several looked at side by side; what `progress` raises ends it, nothing lost."""
        found: list[Look] = []
        for look in _side_by_side(self.of, paths):
            found.append(look)
            if progress is not None:
                progress(len(found), len(paths))
            if len(self._new) >= _SAVED_EVERY:
                self.save()
        return found

    def save(self) -> None:
        """Write what is new to the memory; without a word where the folder is full, locked or read-only."""
        self._digests.save()
        new, self._new = self._new, {}
        if not new:
            return
        with contextlib.suppress(OSError, Timeout):
            self._memory_path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                packs.append_lines(self._memory_path, b"".join(_line(look) for look in list(new.values())))

    def _read(self, content: bytes) -> None:
        for line in content.split(b"\n"):
            fields = packs.checked_content(line)
            if fields is not None and fields[0] == VERSION:
                look = _of_fields(fields)
                self._known[look.digest.hex()] = look


def _look_at(path: Path, digest: bytes) -> Look:
    try:
        image, has_alpha = open_small(path, SMALL_PX)
    except DatasetError as error:
        cause = error.__cause__
        is_passing = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return Look(digest, error.problems[0].message, False, None, not is_passing)
    return Look(digest, "", has_alpha, fingerprint(np.asarray(image)))


def _side_by_side(look: Callable[[Path], Look], paths: Sequence[Path]) -> Iterator[Look]:
    """Results in order, with a few under way beforehand."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: list[Future[Look]] = [pool.submit(look, path) for path in paths[:_AHEAD]]
        try:
            for number in range(len(paths)):
                yield waiting[number].result()
                if len(waiting) < len(paths):
                    waiting.append(pool.submit(look, paths[len(waiting)]))
        finally:
            pool.shutdown(cancel_futures=True)


def _line(look: Look) -> bytes:
    seen = None if look.print is None else [look.print.dhash, look.print.phash, look.print.colors.hex()]
    return packs.checked_line([VERSION, look.digest.hex(), look.fault, look.has_alpha, seen])


def _of_fields(fields: list) -> Look:
    _, digest, fault, has_alpha, seen = fields
    found = None if seen is None else Print(seen[0], seen[1], bytes.fromhex(seen[2]))
    return Look(bytes.fromhex(digest), fault, has_alpha, found)
