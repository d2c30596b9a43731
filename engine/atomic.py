"""Files written whole or not at all: beside the target, flushed to the disk, then renamed over it.

A reader sees the old file or the new one, never a part of one, whatever kills the writer. Imports nothing heavy.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UserError

PART_SUFFIX = ".part"
_NAME_LIMIT_BYTES = 200  # of 255 that file systems take; the rest is for the marks of the temporary name
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS}  # some network file systems

_WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota of this user is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "the folder may not be written to",
    errno.EPERM: "the folder may not be written to",
    errno.EFBIG: "the file system or a limit of this account does not take a file this large",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.EIO: "the disk reports a fault",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "a folder of this name is in the way",
    errno.ENOTEMPTY: "a folder of this name is in the way",
}
_REMEDY = {
    errno.ENOSPC: "Free some space or choose a folder on another disk.",
    errno.EDQUOT: "Delete what is no longer needed or choose a folder on another disk.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EIO: "Check the disk or choose another one.",
    errno.ENOTDIR: "Choose another folder.",
    errno.EISDIR: "Rename it or choose another name.",
    errno.ENOTEMPTY: "Rename it or choose another name.",
}


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; when the block ends well it becomes `path`, else it is removed.

    The folder is made where it is missing; a link is followed, so that the file behind it is replaced.
    Raises UserError where the disk refuses (full, read-only, no permission …); the old file is then still there.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(_part_name(target.name))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _sync(part)
        part.replace(target)
        _sync_folder(target.parent)
    except Exception as error:
        _remove(part)
        refusal = storage_refusal(error, Path(path))
        if refusal is None:
            raise
        raise refusal from error
    except BaseException:  # Ctrl-C, a stop signal: leave nothing behind
        _remove(part)
        raise


def write_whole(path: Path | str, writer: Callable[[Path], object]) -> None:
    """Let `writer` fill a temporary path, then put it in the place of `path`. Errors as in `whole_file`."""
    with whole_file(path) as part:
        writer(part)


def write_bytes_whole(path: Path | str, data: bytes) -> None:
    """Write `data` whole or not at all. Errors as in `whole_file`."""
    with whole_file(path) as part:
        part.write_bytes(data)


def write_text_whole(path: Path | str, text: str) -> None:
    """Write `text` in UTF-8 with line feeds, whole or not at all. Errors as in `whole_file`."""
    write_bytes_whole(path, text.encode())


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove the temporary files that a killed writer left in `folder`; only where nobody else is writing."""
    left = sorted(folder.glob(f".*{PART_SUFFIX}"))
    for part in left:
        part.unlink(missing_ok=True)
    return left


def storage_refusal(error: Exception, path: Path) -> UserError | None:
    """The sentence for an error by which the disk refuses a file; None for any other error."""
    number = _errno_of(error)
    if number not in _WHY:
        return None
    remedy = _REMEDY.get(number, "Choose another folder or change its permissions.")
    return UserError(f"could not be saved: {_WHY[number]}{_free_space(number, path)}. {remedy}", str(path))


def is_full_disk(error: BaseException) -> bool:
    """Whether a UserError of `whole_file` says that there is no room, which the user can make meanwhile."""
    cause = error.__cause__
    return isinstance(cause, Exception) and _errno_of(cause) in (errno.ENOSPC, errno.EDQUOT)


def _errno_of(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    rust = re.search(r"\(os error (\d+)\)", str(error))  # how safetensors and tokenizers report it
    return int(rust.group(1)) if rust else None


def _free_space(number: int, path: Path) -> str:
    if number != errno.ENOSPC:
        return ""
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        return ""
    return f" ({shutil.disk_usage(folder).free / 1e6:,.0f} MB free)"


def _part_name(name: str) -> str:
    short = name.encode()[:_NAME_LIMIT_BYTES].decode(errors="ignore")
    return f".{short}.{secrets.token_hex(4)}{PART_SUFFIX}"


def _remove(part: Path) -> None:
    if os.path.lexists(part):
        part.unlink()


def _sync(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
