"""Every caption that is written is first noted here with the bytes that it replaces, so that it can be undone.

One JSON object a line, one file a job: `{"v": 1, "time", "path", "old", "new"}`; `old` is base64, null where there was
no file. A line is on the disk before its caption is written, so what a killed job did can be undone as well.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from engine.atomic import storage_refusal, write_bytes_whole
from engine.errors import Problem, UserError

FORMAT = 1
FOLDER_NAME = "captions-journal"


@dataclass(frozen=True)
class Entry:
    """One write: the caption file, its bytes before (None: there was no file) and after."""

    path: Path
    old: bytes | None
    new: bytes


@dataclass
class Undone:
    """What became of a journal's writes."""

    restored: list[Path] = field(default_factory=list)
    already: list[Path] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)


class Journal:
    """A new journal in `folder`; its file is made with the first entry."""

    def __init__(self, folder: Path) -> None:
        begun = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
        self.path = folder / f"{begun}-{secrets.token_hex(3)}.jsonl"
        self.entries = 0

    def prepare(self) -> None:
        """Make the folder and the empty file; raises UserError where the disk refuses: then no caption is written."""
        write_bytes_whole(self.path, b"")

    def note(self, entry: Entry) -> None:
        """Bring an entry to the disk. Raises UserError where the disk refuses."""
        old = None if entry.old is None else base64.b64encode(entry.old).decode()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        content = {"v": FORMAT, "time": now, "path": str(entry.path), "old": old, "new": entry.new.decode()}
        try:
            _append(self.path, json.dumps(content).encode() + b"\n")
        except OSError as error:
            raise storage_refusal(error, self.path) or error from error
        self.entries += 1

    def remove_if_empty(self) -> None:
        if not self.entries:
            self.path.unlink(missing_ok=True)


def read(path: Path) -> list[Entry]:
    """The entries of a journal in the order of writing; a last line that was cut off is passed over.

    Raises UserError for a file that cannot be read or is no journal.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"the journal cannot be read ({error.strerror}). Check the path.", str(path)) from None
    return [_parse(line, number, path) for number, line in enumerate(lines[:-1], start=1) if line.strip()]


def undo(path: Path) -> Undone:
    """Put back what a job replaced, the last write first. Never undoes over an edit that was made since."""
    done = Undone()
    for entry in reversed(read(path)):
        try:
            (done.restored if _restore(entry) else done.already).append(entry.path)
        except UserError as error:
            done.failed += error.problems
    return done


def _restore(entry: Entry) -> bool:
    """Whether there was anything to do. Raises UserError where the file was edited since or the disk refuses."""
    try:
        current = entry.path.read_bytes() if os.path.lexists(entry.path) else None
        if current == entry.old:
            return False
        if not entry.path.parent.is_dir():
            raise UserError("its folder is not there any more. Put it back, then undo again.", str(entry.path))
        if current is not None and current != entry.new:
            raise UserError("was edited since, so it stays. Its old text is in the journal.", str(entry.path))
        if entry.old is None:
            entry.path.unlink()
        else:
            write_bytes_whole(entry.path, entry.old)
    except OSError as error:
        raise UserError(f"cannot be restored ({error.strerror}). Change its permissions.", str(entry.path)) from error
    return True


def _append(path: Path, line: bytes) -> None:
    """Add a whole line or nothing: half a line would spoil the next one."""
    with path.open("ab", buffering=0) as file:
        size_bytes = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size_bytes)
            raise


def _parse(line: bytes, number: int, path: Path) -> Entry:
    try:
        content = json.loads(line)
        if content["v"] != FORMAT:
            raise UserError(f"line {number} is of format {content['v']}, not {FORMAT}. Update Atelier.", str(path))
        old = None if content["old"] is None else base64.b64decode(content["old"], validate=True)
        return Entry(Path(content["path"]), old, content["new"].encode())
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise UserError(f"line {number} is no entry of a journal. Choose a file of {FOLDER_NAME}.", str(path)) from None
