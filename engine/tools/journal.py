"""Everything that a tool does to the user's files is first noted here, so that each of it can be undone.

One JSON object a line, one file a job: `{"v": 2, "kind", "time", "group", …}` with the kinds of `journal_entries`
(write, move, make), and `{"v": 2, "mark", "entry"}` for what was undone or done again since. A line is on the disk
before its deed is done, so what a killed job did can be undone as well. Format 1 (captions only) is still read.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from engine.atomic import storage_refusal, write_bytes_whole
from engine.data.folders import UNREAD_SUFFIXES, image_suffixes
from engine.errors import UserError
from engine.tools.journal_entries import KINDS, Deed, Make, Move, Undone, Write

FORMAT = 2
FILE_NAME = "journal.jsonl"
Mark = Literal["done", "undone", "void"]  # void: was noted, could not be done
ANYTHING = object()


@dataclass(frozen=True)
class Entry:
    """A deed, the group of deeds that are undone together (a name; "" for none), and what became of it."""

    deed: Deed
    id: str
    group: str = ""
    state: Mark = "done"


class Journal:
    """Does what it notes. Its file is made with the first entry. `group` is written beside each entry.

    Every method raises UserError, in a sentence, where the disk refuses or a file is in the way; then nothing was done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.group = ""
        self.entries = 0  # how many deeds this object noted

    def prepare(self) -> None:
        """Make the empty file where there is none yet; UserError where the disk refuses: then nothing is begun."""
        if not self.path.exists():
            write_bytes_whole(self.path, b"")

    def write(self, path: Path, new: bytes | None, expected: object = ANYTHING) -> None:
        """Give a text file new bytes (None: no file). Images are refused.

        expected: the bytes (or None) that must still be there; UserError where somebody edited the file meanwhile.
        """
        if path.suffix.lower() in image_suffixes() or path.suffix.lower() in UNREAD_SUFFIXES:
            raise UserError("belongs to images, which are never written over.", str(path))
        try:
            old = path.read_bytes() if os.path.lexists(path) else None
        except OSError as error:
            raise UserError(f"cannot be read ({error.strerror}), so it is left as it is.", str(path)) from error
        if expected is not ANYTHING and old != expected:
            raise UserError("was edited meanwhile, so it is left as it is. Look again.", str(path))
        self._carry_out(Write(path, old, new))

    def move(self, source: Path, target: Path) -> None:
        """Rename a file or folder, on one disk; never over an existing one."""
        _refuse_taken(target)
        self._carry_out(Move(source, target))

    def make_folder(self, path: Path) -> None:
        """Make a folder, those above it too."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        self._carry_out(Make(path))

    def make_link_or_copy(self, source: Path, target: Path) -> None:
        """A hard link to `source` named `target`, or a copy where links cannot be."""
        _refuse_taken(target)
        try:
            status = source.stat()
        except OSError as error:
            raise UserError(f"cannot be read ({error.strerror}).", str(source)) from error
        real = Path(os.path.realpath(source))
        self._carry_out(Make(target, real, status.st_size, status.st_mtime_ns))

    def note_made(self, path: Path) -> None:
        """Note a new file that was just made, whole: undo removes it if it is still the same."""
        status = path.stat()
        self._note(Make(path, None, status.st_size, status.st_mtime_ns))

    def note_all(self, deeds: Sequence[Deed]) -> None:
        """Note many deeds, on the disk when this returns, for somebody who then does them by himself."""
        self.prepare()
        try:
            append_lines(self.path, [self._line(deed, secrets.token_hex(6)) for deed in deeds])
        except OSError as error:
            raise storage_refusal(error, self.path) or error from error
        self.entries += len(deeds)

    def _carry_out(self, deed: Deed) -> None:
        noted = self._note(deed)
        try:
            deed.do()
        except (OSError, UserError) as error:
            mark(self.path, "void", [noted])
            raise _refusal(error, deed) from error

    def _note(self, deed: Deed) -> str:
        self.prepare()
        noted = secrets.token_hex(6)
        try:
            append_lines(self.path, [self._line(deed, noted)])
        except OSError as error:
            raise storage_refusal(error, self.path) or error from error
        self.entries += 1
        return noted

    def _line(self, deed: Deed, noted: str) -> bytes:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        content = {"v": FORMAT, "kind": deed.kind, "id": noted, "time": now, "group": self.group, **deed.to_dict()}
        return json.dumps(content).encode() + b"\n"


def read(path: Path) -> list[Entry]:
    """The entries of a journal in the order of doing; a last line that was cut off is passed over.

    Raises UserError for a file that cannot be read or is no journal.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"the journal cannot be read ({error.strerror}). Check the path.", str(path)) from None
    found: dict[str, Entry] = {}
    for number, line in enumerate(lines[:-1], start=1):
        if line.strip():
            _take_line(line, number, path, found)
    return list(found.values())


def undo(path: Path, group: str | None = None) -> Undone:
    """Put back what a job did, the last deed first (of one group only, if given). Never over an edit made since."""
    return _repeat(path, group, "undone")


def redo(path: Path, group: str | None = None) -> Undone:
    """Do again what was undone, in the old order. Never over an edit made since."""
    return _repeat(path, group, "done")


def _repeat(path: Path, group: str | None, wanted: Mark) -> Undone:
    result = Undone()
    before: Mark = "undone" if wanted == "done" else "done"
    entries = read(path)
    for entry in entries if wanted == "done" else reversed(entries):
        if entry.state == "void" or (group is not None and entry.group != group):
            continue
        if entry.state != before:
            result.already.append(entry.deed.path)
            continue
        try:
            changed = entry.deed.do() if wanted == "done" else entry.deed.undo()
        except (OSError, UserError) as error:
            result.failed += _refusal(error, entry.deed).problems
            continue
        (result.restored if changed else result.already).append(entry.deed.path)
        mark(path, wanted, [entry.id])
    return result


def _take_line(line: bytes, number: int, path: Path, found: dict[str, Entry]) -> None:
    try:
        content = json.loads(line)
        version = content["v"]
        if version not in (1, FORMAT):
            raise UserError(f"line {number} is of format {version}, not {FORMAT}. Update Atelier.", str(path))
        if "mark" in content:
            marked = found[content["entry"]]
            found[marked.id] = replace(marked, state=content["mark"])
        else:
            entry = _entry_of_format_1(content, number) if version == 1 else _entry(content)
            found[entry.id] = entry
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise UserError(f"line {number} is no entry of a journal. Choose a journal.jsonl.", str(path)) from None


def _entry(content: dict[str, Any]) -> Entry:
    return Entry(KINDS[content["kind"]](content), content["id"], str(content.get("group", "")))


def _entry_of_format_1(content: dict[str, Any], number: int) -> Entry:
    old = None if content["old"] is None else base64.b64decode(content["old"], validate=True)
    return Entry(Write(Path(content["path"]), old, content["new"].encode()), f"line {number}")


def _refusal(error: OSError | UserError, deed: Deed) -> UserError:
    """The sentence for a deed that could not be done."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, FileExistsError):
        return UserError("is there already and is never overwritten. Choose another name.", str(error.filename2 or ""))
    if error.errno == errno.EXDEV:
        return UserError("cannot be moved to another disk. Choose a folder on the same disk.", str(deed.path))
    return storage_refusal(error, deed.path) or UserError(
        f"cannot be changed ({error.strerror}). Change its permissions.", str(deed.path)
    )


def _refuse_taken(target: Path) -> None:
    if os.path.lexists(target):
        raise UserError("is there already and is never overwritten. Choose another name.", str(target))


def mark(path: Path, state: Mark, entries: Sequence[str]) -> None:
    """Note what became of deeds, by the ids of their entries."""
    lines = [json.dumps({"v": FORMAT, "mark": state, "entry": entry}).encode() + b"\n" for entry in entries]
    with suppress(OSError):  # a full disk: the next time it is told by what the folders hold
        append_lines(path, lines)


def append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Add whole lines or nothing: half a line would spoil the next one, so one that a killed writer left is cut."""
    line = b"".join(lines)
    with path.open("rb+", buffering=0) as file:
        size_bytes = _end_of_last_line(file.seek(0, os.SEEK_END), file)
        file.truncate(size_bytes)
        file.seek(size_bytes)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size_bytes)
            raise


def _end_of_last_line(size_bytes: int, file: Any) -> int:
    if size_bytes == 0:
        return 0
    file.seek(size_bytes - 1)
    if file.read(1) == b"\n":
        return size_bytes
    file.seek(0)
    return file.read(size_bytes).rfind(b"\n") + 1
