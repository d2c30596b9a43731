"""A folder opened in the workbench: its items, what a filter lets through, and edits that never lose another's.

Every edit carries the digest of the text that it began with. A caption that was changed since, in another window or
by another program, is left as it is and comes back as a `Conflict` with a merged proposal.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioning.bench.filters import parse
from captioning.bench.folder import Content, Facts, Item, Listed, have_changed, list_items, plain, read_content
from captioning.bench.history import History, Result, Transaction
from captioning.bench.merging import merged
from captioning.bench.operations import OPERATIONS, Context
from captioning.bench.tokens import count_tokens, prepare_counts
from engine.errors import Problem, UserError
from engine.tools.journal_entries import Write

_LOOK_AGAIN_SECONDS = 1.0
_PREVIEWS = 8
_CHANGED = "was changed since you looked, so it stays as it is. Look again to change it too."


@dataclass(frozen=True)
class Edit:
    """A new text for an item, and what it began with (`base`: that text, for a merge)."""

    item: str
    text: str
    digest: str
    base: str = ""


@dataclass(frozen=True)
class Conflict:
    """An edit that came second: what is in the file now, and both edits put together."""

    item: str
    theirs: str
    digest: str
    merged: str


@dataclass
class Outcome:
    """What became of edits, of an undo or of a redo."""

    transaction: Transaction | None = None
    count: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Preview:
    """What an operation would change: `edits` are applied by `Session.apply` as they are here."""

    key: str
    title: str
    considered: int
    edits: tuple[Edit, ...]


class Session:
    """One opened folder. Safe to be used by several windows (threads) at once."""

    def __init__(self, root: Path, extension: str, journals: Path, separator: str = ",") -> None:
        self.root, self.extension, self.separator = root, extension, separator
        self.version = 0  # grows with every change that was seen
        self.history = History(journals, root, extension)
        self.lock = threading.RLock()
        self._looked = 0.0
        self._previews: OrderedDict[str, Preview] = OrderedDict()
        self._take(self._list())

    def _list(self) -> Listed:
        return list_items(self.root, self.extension, Facts(self.separator, count_tokens))

    def _take(self, listed: Listed) -> None:
        known = getattr(self, "by_id", {})
        fresh = {item.id: item for item in listed.items}
        same = {key: known[key] for key in fresh if key in known and known[key].caption == fresh[key].caption}
        self.by_id: dict[str, Item] = {key: same.get(key, item) for key, item in fresh.items()}
        self.problems, self._times = listed.problems, listed.folder_times

    @property
    def items(self) -> list[Item]:
        return list(self.by_id.values())

    def refresh(self, at_once: bool = False) -> None:
        """See what other programs changed: images that came or went, captions that were written."""
        with self.lock:
            if not at_once and time.monotonic() - self._looked < _LOOK_AGAIN_SECONDS:
                return
            if have_changed(self._times):
                before = list(self.by_id)
                self._take(self._list())
                self.version += before != list(self.by_id)
            changed = False
            for item in self.by_id.values():
                changed |= item.renew()
            self.version += changed
            self._looked = time.monotonic()

    def filtered(self, text: str) -> list[Item]:
        """The items that a filter lets through, in natural order. Raises UserError naming what is wrong with it."""
        passes = parse(text)
        if not text.strip():
            return self.items
        if "token" in text.lower():
            prepare_counts(item.text for item in self.items)
        return [item for item in self.items if passes(item)]

    def chosen(self, scope: str, filter_text: str, selected: Sequence[str]) -> list[Item]:
        """The items of a scope: "selected", "filtered" or "all"."""
        if scope == "selected":
            return [self.by_id[key] for key in selected if key in self.by_id]
        return self.items if scope == "all" else self.filtered(filter_text)

    def context(self) -> Context:
        return Context(self.separator, Counter(tag for item in self.items for tag in item.tags))

    def preview(self, operation: str, values: Mapping[str, Any], items: Sequence[Item]) -> Preview:
        """What an operation would do to these items; nothing is written. Raises UserError for unusable values."""
        with self.lock:
            kind = OPERATIONS.get(operation)
            if kind is None:
                raise UserError(f"there is no operation {operation!r}. Load the page again.")
            before = {item.caption: item for item in items if not item.content.fault}
            texts = [item.text for item in before.values()]
            after = [plain(text) for text in kind.build(values, self.context())(texts)]
            pairs = zip(before.values(), after, strict=True)
            edits = tuple(Edit(item.id, new, item.content.digest, item.text) for item, new in pairs if new != item.text)
            found = Preview(secrets.token_hex(8), kind.title, len(items), edits)
            self._previews[found.key] = found
            while len(self._previews) > _PREVIEWS:
                self._previews.popitem(last=False)
            return found

    def apply(self, key: str) -> Outcome:
        """Make the edits of a preview, just as they were shown. Captions changed since stay. Raises UserError."""
        with self.lock:
            found = self._previews.pop(key, None)
        if found is None:
            raise UserError("this preview is not there any more. Look again, then apply.")
        outcome = self.edit(found.edits, found.title, partly=True)
        outcome.failed += [Problem(conflict.item, _CHANGED) for conflict in outcome.conflicts]
        outcome.conflicts = []
        return outcome

    def edit(self, edits: Sequence[Edit], title: str, partly: bool = False) -> Outcome:
        """Write new texts as one transaction. One conflict holds all of them back, unless `partly`.

        Raises UserError where nothing can be written at all.
        """
        with self.lock, self.history.locked():
            writes, outcome = self._judge(edits)
            if writes and (partly or not outcome.conflicts):
                self._finish(outcome, self.history.write(writes, title))
        return outcome

    def undo(self) -> Outcome:
        return self._turn(self.history.undo)

    def redo(self) -> Outcome:
        return self._turn(self.history.redo)

    def turn_to(self, key: str) -> Outcome:
        """Undo back to a transaction, itself included; or, where it was undone, do all up to it again."""
        with self.lock, self.history.locked():
            whole = Outcome()
            stacks = {self.history.undo: self.history.done, self.history.redo: self.history.undone}
            for act, stack in stacks.items():
                if any(transaction.id == key for transaction in stack()):
                    while any(transaction.id == key for transaction in stack()):
                        self._finish(whole, act())
                    return whole
        raise UserError("this change is not in the history any more. Look again.")

    def forget(self, keep: int) -> int:
        """Let go of all but the newest `keep` changes that could be undone. How many went. Raises UserError."""
        with self.lock, self.history.locked():
            return self.history.forget(keep)

    def _judge(self, edits: Iterable[Edit]) -> tuple[list[Write], Outcome]:
        """The writes that these edits ask for, by what the files hold now; and those that came second."""
        writes: dict[Path, Write] = {}
        outcome = Outcome()
        for edit in edits:
            item = self.by_id.get(edit.item)
            if item is None:
                outcome.failed.append(Problem(edit.item, "its image is not there any more, so nothing was written."))
                continue
            now, mine = read_content(item.caption), plain(edit.text)
            if fault := now.fault or _text_fault(mine):
                outcome.failed.append(Problem(str(item.caption), fault))
            elif now.text == mine:
                continue
            elif now.digest != edit.digest:
                proposal = merged(plain(edit.base), now.text, mine, self.separator)
                outcome.conflicts.append(Conflict(edit.item, now.text, now.digest, proposal))
            else:
                writes[item.caption] = Write(item.caption, now.raw, _bytes(mine, now))
        return list(writes.values()), outcome

    def _turn(self, act: Any) -> Outcome:
        with self.lock, self.history.locked():
            return self._finish(Outcome(), act())

    def _finish(self, outcome: Outcome, result: Result) -> Outcome:
        outcome.transaction, outcome.count = result.transaction, outcome.count + len(result.written)
        outcome.failed += result.failed
        written = set(result.written)
        for item in self.by_id.values():
            if item.caption in written:
                item.renew()
        self.version += 1
        return outcome


def _bytes(text: str, before: Content) -> bytes:
    """UTF-8; a line feed ends it where one did before, and in new files."""
    ends = before.raw is None or before.raw == b"" or before.raw.endswith(b"\n")
    return (text + "\n" if ends and text else text).encode()


def _text_fault(text: str) -> str:
    """Why a text cannot be a caption; "" where it can."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        return "the text holds letters that are none (NUL or half a character). Remove them."
    return ""
