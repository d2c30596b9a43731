"""Which checkpoints of a run are kept, and which old ones may go. Torch-free.

A run deletes only what its own record lists: `checkpoints.json` holds name, size and time of change of every file that
it wrote on the way. A file of the user's, of another run, or one that was replaced since, is never touched. The record
is written after a checkpoint and again after a deletion, each time whole: killed at any moment, at most a file too many
is left.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.atomic import write_text_whole


@dataclass(frozen=True)
class Listed:
    """A checkpoint as it was when the run wrote it."""

    name: str
    step: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path, step: int) -> Listed:
        status = path.stat()
        return cls(path.name, step, status.st_size, status.st_mtime_ns)

    def is_unchanged(self, folder: Path) -> bool:
        """Whether the very file that was written is still there, and is no link."""
        path = folder / self.name
        return not path.is_symlink() and path.is_file() and Listed.of(path, self.step) == self


class CheckpointRecord:
    """The record of one run's checkpoints on the way. Raises UserError where the disk refuses it."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.folder = folder

    def listed(self) -> list[Listed]:
        """What was written and is still there unchanged, by step. A damaged record lists nothing."""
        try:
            content = json.loads(self.file.read_text(encoding="utf-8"))
            found = [Listed(**entry) for entry in content["checkpoints"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        plain = [entry for entry in found if Path(entry.name).name == entry.name]
        return sorted((entry for entry in plain if entry.is_unchanged(self.folder)), key=lambda entry: entry.step)

    def add(self, path: Path, step: int) -> None:
        """List a checkpoint that was just written."""
        others = [entry for entry in self.listed() if entry.name != path.name]
        self._write([*others, Listed.of(path, step)])

    def thin(self, most: int, step: int, is_busy: Callable[[Path], bool]) -> list[Path]:
        """Delete all but the newest `most` of those up to `step`; returns what is gone. Busy ones wait their turn."""
        listed = self.listed()
        reached = [entry for entry in listed if entry.step <= step]
        old = [entry for entry in reached[: max(0, len(reached) - most)] if not is_busy(self.folder / entry.name)]
        for entry in old:
            (self.folder / entry.name).unlink(missing_ok=True)
        if old:
            self._write([entry for entry in listed if entry not in old])
        return [self.folder / entry.name for entry in old]

    def _write(self, entries: list[Listed]) -> None:
        content = {"checkpoints": [dataclasses.asdict(entry) for entry in entries]}
        write_text_whole(self.file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
