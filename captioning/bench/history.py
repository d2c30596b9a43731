"""What was done to the captions of a folder, one transaction after the other: undo and redo outlive the program.

A folder of its own in the journals' folder holds one journal a transaction (engine/tools/journal.py: on the disk, with
the bytes before and after, before the first caption is written) and `history.jsonl`, which tells their order: a line
`{"v", "id", "title", "count", "time"}` a transaction, `{"v", "undone": id}`, `{"v", "redone": id}`, and
`{"v", "forgotten": id}` for one whose journal the user let go. Lines are only ever added, under a lock, so several
programs can work on one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from engine.atomic import storage_refusal
from engine.errors import Problem, UserError
from engine.tools import journal
from engine.tools.journal import Journal
from engine.tools.journal_entries import Write

FORMAT = 1
_WRITERS = 16  # a disk brings many small files to rest at once about as fast as one
_LOCK_SECONDS = 20.0


@dataclass(frozen=True)
class Transaction:
    """One thing that the user did: its journal's name, what it is called, and how many captions it changed."""

    id: str
    title: str
    count: int
    time: str = ""


@dataclass
class Result:
    """What became of a transaction: captions written, and those that could not be, in words."""

    transaction: Transaction | None
    written: list[Path] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)


class History:
    """The transactions of one folder and extension. `journals`: the folder of all journals."""

    def __init__(self, journals: Path, root: Path, extension: str) -> None:
        key = hashlib.sha256(f"{os.path.realpath(root)}\n{extension}".encode(errors="surrogateescape")).hexdigest()[:16]
        self.folder = journals / "workbench" / key
        self.file = self.folder / "history.jsonl"
        self._read_bytes = -1
        self._done: list[Transaction] = []
        self._undone: list[Transaction] = []

    def done(self) -> list[Transaction]:
        """What undo goes back along, the oldest first."""
        self._read()
        return self._done

    def undone(self) -> list[Transaction]:
        """What redo does again, the next one last."""
        self._read()
        return self._undone

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with this folder's history among all programs. Raises UserError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock", timeout=_LOCK_SECONDS):
                yield
        except Timeout:
            what = f"another program has been writing captions for more than {_LOCK_SECONDS:.0f} s. Wait for its end"
            raise UserError(f"{what}, then try again.", str(self.folder)) from None
        except OSError as error:
            raise storage_refusal(error, self.folder) or error from error

    def write(self, writes: Sequence[Write], title: str) -> Result:
        """Note and make these writes, one a file, as one transaction. Call it inside `locked`. Raises UserError."""
        now = datetime.now(timezone.utc)
        name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        transaction = Transaction(name, title, len(writes), now.isoformat(timespec="seconds"))
        Journal(self._journal(name)).note_all(writes)
        self._add({"id": name, "title": title, "count": len(writes), "time": transaction.time})
        return _carry_out(transaction, self._journal(name), "done")

    def undo(self) -> Result:
        """Put back what the last transaction replaced; what was edited since stays. Inside `locked`."""
        return self._turn(self.done(), "undone")

    def redo(self) -> Result:
        """Do the transaction again that was undone last; what was edited since stays. Inside `locked`."""
        return self._turn(self.undone(), "redone")

    def size_bytes(self) -> int:
        """How much room the journals take."""
        return sum(path.stat().st_size for path in self.folder.glob("*.jsonl"))

    def forget(self, keep: int) -> int:
        """Let go of all but the newest `keep` transactions that could be undone, and of journals that nothing leads to
        any more; captions are not touched. How many transactions went. Inside `locked`. Raises UserError."""
        done = self.done()
        going = done[: max(len(done) - keep, 0)]
        for transaction in list(going):
            self._add({"forgotten": transaction.id})
        kept = {transaction.id for transaction in (*self.done(), *self.undone())}
        for path in self.folder.glob("*.jsonl"):
            if path != self.file and path.stem not in kept:
                path.unlink(missing_ok=True)
        return len(going)

    def _turn(self, stack: list[Transaction], mark: str) -> Result:
        if not stack:
            return Result(None)
        transaction = stack[-1]
        result = _carry_out(transaction, self._journal(transaction.id), "undone" if mark == "undone" else "redone")
        self._add({mark: transaction.id})
        return result

    def _journal(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _add(self, content: dict[str, object]) -> None:
        try:
            self.file.touch()
            journal.append_lines(self.file, [json.dumps({"v": FORMAT, **content}).encode() + b"\n"])
        except OSError as error:
            raise storage_refusal(error, self.file) or error from error

    def _read(self) -> None:
        """Bring both lists up to what the file says; it is read only when it grew."""
        try:
            size_bytes = self.file.stat().st_size
            if size_bytes == self._read_bytes:
                return
            lines = self.file.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return
        self._read_bytes, self._done, self._undone = size_bytes, [], []
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            content = json.loads(line)
            if content["v"] != FORMAT:
                raise UserError(f"is of format {content['v']}, not {FORMAT}. Update Atelier.", str(self.file))
            if "id" in content:
                facts = (str(content["id"]), str(content["title"]), int(content["count"]), str(content["time"]))
                self._done.append(Transaction(*facts))
                self._undone.clear()
            elif "undone" in content and self._done and self._done[-1].id == content["undone"]:
                self._undone.append(self._done.pop())
            elif "forgotten" in content:
                self._done = [transaction for transaction in self._done if transaction.id != content["forgotten"]]
            elif "redone" in content and self._undone and self._undone[-1].id == content["redone"]:
                self._done.append(self._undone.pop())
        except (ValueError, KeyError, TypeError):
            what = "holds a line that is none of a history. Move the file away; captions are not touched by that."
            raise UserError(what, str(self.file)) from None


def _carry_out(transaction: Transaction, path: Path, what: str) -> Result:
    """Make the writes of a journal, several at a time: each is a file of its own. `what`: done, undone or redone."""
    result = Result(transaction)
    entries = [entry for entry in journal.read(path) if isinstance(entry.deed, Write)]
    with ThreadPoolExecutor(min(_WRITERS, max(len(entries), 1))) as pool:
        faults = list(pool.map(lambda entry: _fault(entry.deed, what), entries))
    for entry, fault in zip(entries, faults, strict=True):
        if fault is None:
            result.written.append(entry.deed.path)
        else:
            result.failed.append(fault)
    changed = [entry.id for entry, fault in zip(entries, faults, strict=True) if fault is None]
    left = [entry.id for entry, fault in zip(entries, faults, strict=True) if fault is not None]
    if what == "done":
        journal.mark(path, "void", left)
    else:
        journal.mark(path, "undone" if what == "undone" else "done", changed)
    return result


def _fault(deed: Write, what: str) -> Problem | None:
    try:
        deed.undo() if what == "undone" else deed.do()
    except UserError as error:
        return error.problems[0]
    except OSError as error:
        refusal = storage_refusal(error, deed.path)
        plain = Problem(str(deed.path), f"cannot be written ({error.strerror}). Change its permissions.")
        return refusal.problems[0] if refusal else plain
    return None
