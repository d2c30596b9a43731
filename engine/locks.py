"""Locks between processes, as files that the system lets go of when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import UserError


@contextlib.contextmanager
def locked(lock: Path, seconds: float, what: str, busy: str) -> Iterator[None]:
    """Hold a lock file until the end of the block; its folder is what the messages are about.

    Raises UserError: `busy` when another process holds it for longer than `seconds`; that `what` ("the run folder")
    cannot be written where the disk refuses the file.
    """
    file = FileLock(lock)
    try:
        file.acquire(timeout=seconds)
    except Timeout:
        raise UserError(busy, str(lock.parent)) from None
    except OSError as error:
        raise UserError(f"{what} cannot be written ({error.strerror}).", str(lock.parent)) from None
    try:
        yield
    finally:
        file.release()
