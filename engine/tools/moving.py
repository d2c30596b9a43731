"""Files moved, linked and copied without ever taking the place of another file."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from engine.atomic import PART_SUFFIX

_AT_FDCWD, _NO_REPLACE = -100, 1
_NO_SUCH_CALL = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES}


def move(source: Path, target: Path) -> None:
    """Rename a file or folder. Raises FileExistsError where `target` is there already, OSError where it cannot be.

    The system itself refuses to overwrite (renameat2 on Linux, rename on Windows); where a file system does not know
    that, it is looked first.
    """
    rename = _rename_no_replace()
    if rename is not None:
        number = rename(os.fsencode(source), os.fsencode(target))
        if number == 0:
            return
        if number not in _NO_SUCH_CALL:
            raise OSError(number, os.strerror(number), str(source), None, str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def link_or_copy(source: Path, target: Path) -> bool:
    """Make `target` a hard link to the file `source`, or a copy with its times where that cannot be; whether a link.

    Raises FileExistsError where `target` is there already. A copy is whole or not there.
    """
    real = Path(os.path.realpath(source))
    try:
        os.link(real, target)
        return True
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    part = target.with_name(f".{secrets.token_hex(8)}{PART_SUFFIX}")
    try:
        shutil.copy2(real, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        move(part, target)
    finally:
        part.unlink(missing_ok=True)
    return False


@lru_cache(maxsize=1)
def _rename_no_replace() -> Callable[[bytes, bytes], int] | None:
    """A function (source, target) → errno or 0; None where the system's library has none."""
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None

    def rename(source: bytes, target: bytes) -> int:
        failed = call(_AT_FDCWD, source, _AT_FDCWD, target, _NO_REPLACE)
        return ctypes.get_errno() if failed else 0

    return rename
