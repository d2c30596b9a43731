"""The kinds of deeds in a journal: each knows how it is done, undone, and written down as JSON."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from engine.atomic import write_bytes_whole
from engine.errors import UserError
from engine.tools import moving

NO_FOLDER = "its folder is not there any more. Put it back, then try again."


@dataclass(frozen=True)
class Write:
    """A text file that is written: its bytes before and after; None where there is no file."""

    kind: ClassVar[str] = "write"
    path: Path
    old: bytes | None
    new: bytes | None

    def do(self) -> bool:
        return self._change(self.old, self.new, "written again")

    def undo(self) -> bool:
        return self._change(self.new, self.old, "restored")

    def _change(self, before: bytes | None, after: bytes | None, what: str) -> bool:
        current = self.path.read_bytes() if os.path.lexists(self.path) else None
        if current == after:
            return False
        if not self.path.parent.is_dir():
            raise UserError(NO_FOLDER, str(self.path))
        if current != before and current is not None:
            raise UserError(f"was edited since, so it is not {what}. Its old text is in the journal.", str(self.path))
        if after is None:
            self.path.unlink()
        else:
            write_bytes_whole(self.path, after)
        return True

    def to_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "old": _text(self.old), "new": _text(self.new)}

    @classmethod
    def of(cls, content: dict[str, Any]) -> Write:
        return cls(Path(content["path"]), _bytes(content["old"]), _bytes(content["new"]))


@dataclass(frozen=True)
class Move:
    """A file or folder that gets another name or folder."""

    kind: ClassVar[str] = "move"
    source: Path
    target: Path

    @property
    def path(self) -> Path:
        return self.source

    def do(self) -> bool:
        return _move(self.source, self.target)

    def undo(self) -> bool:
        return _move(self.target, self.source)

    def to_dict(self) -> dict[str, Any]:
        return {"from": str(self.source), "to": str(self.target)}

    @classmethod
    def of(cls, content: dict[str, Any]) -> Move:
        return cls(Path(content["from"]), Path(content["to"]))


@dataclass(frozen=True)
class Make:
    """A new folder (`size_bytes` None) or file: a link to or a copy of `source`, or whatever a tool made.

    Undo removes only what is as it was made, never the last copy of a source.
    """

    kind: ClassVar[str] = "make"
    path: Path
    source: Path | None = None
    size_bytes: int | None = None
    time_ns: int = 0

    def do(self) -> bool:
        if self.size_bytes is None:
            if self.path.is_dir():
                return False
            self.path.mkdir()
            return True
        if self.source is None:
            if os.path.lexists(self.path):
                return False
            raise UserError("was made by a tool and taken away by undo. Start the tool again.", str(self.path))
        if not self.source.is_file():
            raise UserError(f"its original is not there any more (got {self.source}). Put it back.", str(self.path))
        if _is_same(self.path, self.source):
            return False
        moving.link_or_copy(self.source, self.path)
        return True

    def undo(self) -> bool:
        if not os.path.lexists(self.path):
            return False
        if self.size_bytes is None:
            return self._remove_folder()
        if not _looks(self.path, self.size_bytes, self.time_ns) and not _is_same(self.path, self.source):
            raise UserError("was changed since it was made, so it stays.", str(self.path))
        if self.source is not None and not self._has_original():
            what = f"its original is not there any more, so this copy stays (got {self.source})."
            raise UserError(what, str(self.path))
        self.path.unlink()
        return True

    def _has_original(self) -> bool:
        """Whether the original is there with the same content, as far as size and time tell."""
        return _is_same(self.path, self.source) or _looks(self.source, self.size_bytes, self.time_ns)

    def _remove_folder(self) -> bool:
        try:
            self.path.rmdir()
        except OSError:
            what = "holds files that came later, so the folder stays. Move them, then undo again."
            raise UserError(what, str(self.path)) from None
        return True

    def to_dict(self) -> dict[str, Any]:
        source = None if self.source is None else str(self.source)
        return {"path": str(self.path), "source": source, "size_bytes": self.size_bytes, "time_ns": self.time_ns}

    @classmethod
    def of(cls, content: dict[str, Any]) -> Make:
        source, size, time = content["source"], content["size_bytes"], content["time_ns"]
        return cls(Path(content["path"]), None if source is None else Path(source), size, time)


Deed = Write | Move | Make
KINDS: dict[str, Callable[[dict[str, Any]], Deed]] = {"write": Write.of, "move": Move.of, "make": Make.of}


@dataclass
class Undone:
    """What became of the deeds of a journal that were undone or done again."""

    restored: list[Path] = field(default_factory=list)
    already: list[Path] = field(default_factory=list)
    failed: list[Any] = field(default_factory=list)


def _move(source: Path, target: Path) -> bool:
    there, free = os.path.lexists(source), not os.path.lexists(target)
    if there and free:
        if not target.parent.is_dir():
            raise UserError(NO_FOLDER, str(target))
        moving.move(source, target)
        return True
    if not there and not free:
        return False
    if there:
        raise UserError(f"cannot become {target}: there is another file of that name. Move it.", str(source))
    raise UserError(f"is not there any more, so {target.name} cannot be put back.", str(source))


def _looks(path: Path | None, size_bytes: int | None, time_ns: int) -> bool:
    try:
        status = None if path is None else path.stat()
    except OSError:
        return False
    return status is not None and (status.st_size, status.st_mtime_ns) == (size_bytes, time_ns)


def _is_same(path: Path, other: Path | None) -> bool:
    """Whether both are names of one file."""
    try:
        return other is not None and not path.is_symlink() and path.samefile(other)
    except OSError:
        return False


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
