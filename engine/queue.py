"""The queue: what shall be run, one after the other. Torch-free; starts nothing (launchers/worker.py does).

ATELIER_HOME/queue/  entries/ID.json  order.json  paused  lock  worker.lock  log.txt  alive/ID.lock

Each entry is one file, written whole; the order is one more. So a writer that is killed between two files leaves a
queue that reads well: an entry without a place stands last, a place without an entry is passed over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from engine.atomic import write_text_whole
from engine.errors import UserError
from engine.home import home
from engine.locks import locked
from engine.preset import Preset, build, migrate
from engine.run import is_held

FORMAT = 1
State = Literal["waiting", "running", "finished", "stopped", "failed", "killed"]
Kind = Literal["run", "job", "sample"]
_PATIENCE_SECONDS = 20
_SHAPES: dict[Kind, str] = {"run": "preset", "job": "folder", "sample": "arguments"}


@dataclass(frozen=True)
class Entry:
    """One work: a frozen preset ("run"), the folder of a tool's job ("job"), or arguments of `engine sample`.

    `folder` is where it works, or "" for a run that has none yet; `gpus`: how many it takes, `given`: which it got;
    `starts`: how often it was begun; `from_byte`: how long the folder's events were then; `resumes`: it takes up a run.
    """

    id: str
    kind: Kind
    title: str
    state: State = "waiting"
    preset: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    resumes: bool = False
    arguments: tuple[str, ...] = ()
    gpus: int = 1
    given: tuple[str, ...] = ()
    starts: int = 0
    from_byte: int = 0
    added: str = ""
    ended: str = ""
    message: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in ("waiting", "running")


@dataclass(frozen=True)
class Queue:
    """The queue in a folder. Reading needs no lock; every change holds it for a moment."""

    path: Path

    @property
    def paused_mark(self) -> Path:
        return self.path / "paused"

    @property
    def worker_lock(self) -> Path:
        return self.path / "worker.lock"

    def alive_lock(self, entry_id: str) -> Path:
        """Held by the process that works on an entry, and by nobody once that is gone."""
        return self.path / "alive" / f"{entry_id}.lock"

    def entries(self) -> list[Entry]:
        """All entries in their order. A file that is none is passed over."""
        found = {entry.id: entry for path in sorted(self._folder.glob("*.json")) if (entry := _read(path)) is not None}
        placed = [found.pop(name) for name in self._order() if name in found]
        return placed + sorted(found.values(), key=lambda entry: (entry.added, entry.id))

    def get(self, entry_id: str) -> Entry:
        """One entry, by its id or the beginning of it. Raises UserError when there is none, or several."""
        found = [entry for entry in self.entries() if entry.id.startswith(entry_id)] if entry_id else []
        exact = [entry for entry in found if entry.id == entry_id]
        if len(exact or found) != 1:
            raise UserError("there is no such entry in the queue. Look at the list again.", entry_id)
        return (exact or found)[0]

    def add(self, entry: Entry, after: str = "") -> Entry:
        """Put a new entry at the end, or behind another one. Raises UserError where the disk refuses."""
        entry = dataclasses.replace(entry, id=_new_id(), added=_now())
        with self.changing():
            order = [other.id for other in self.entries()]
            self.write(entry)
            order.insert(order.index(after) + 1 if after in order else len(order), entry.id)
            self._write_order(order)
        return entry

    def replace_preset(self, entry_id: str, preset: Preset) -> Entry:
        """Change what a waiting run will be. Raises UserError for other entries."""
        with self.changing():
            old = self.get(entry_id)
            if old.state != "waiting" or old.kind != "run":
                raise UserError("only a run that waits can be changed. Duplicate it instead.", old.title)
            new = of_preset(preset)
            changed = dataclasses.replace(old, title=new.title, preset=new.preset, gpus=new.gpus)
            self.write(changed)
        return changed

    def duplicate(self, entry_id: str) -> Entry:
        """The same once more, right behind it, as a new run. Raises UserError for a job, which is done once."""
        old = self.get(entry_id)
        if old.kind == "job":
            raise UserError("a job of a tool is done once. Make a new one on its page.", old.title)
        fresh = Entry("", old.kind, old.title, preset=old.preset, arguments=old.arguments, gpus=old.gpus)
        return self.add(dataclasses.replace(fresh, folder="" if old.kind == "run" else old.folder), after=old.id)

    def again(self, entry_id: str) -> Entry:
        """Let an ended entry wait once more, where it stands; a run goes on from its last state. Raises UserError."""
        with self.changing():
            old = self.get(entry_id)
            if not old.is_over or old.state == "finished":
                raise UserError("only what ended early can wait once more. Duplicate it instead.", old.title)
            changed = dataclasses.replace(old, state="waiting", ended="", message="", starts=0, given=())
            self.write(changed)
        return changed

    def move(self, entry_id: str, place: int) -> None:
        """Put an entry at a place counted from 0; beyond the ends is the end. Raises UserError."""
        with self.changing():
            entry = self.get(entry_id)
            order = [other.id for other in self.entries() if other.id != entry.id]
            order.insert(max(0, min(place, len(order))), entry.id)
            self._write_order(order)

    def remove(self, entry_id: str) -> None:
        """Take an entry out; what it made stays. Raises UserError while it runs."""
        with self.changing():
            entry = self.get(entry_id)
            if entry.state == "running":
                raise UserError("is running. Stop it first.", entry.title)
            self._file(entry.id).unlink(missing_ok=True)
            self.alive_lock(entry.id).unlink(missing_ok=True)
            self._write_order([other.id for other in self.entries()])

    def stop(self, entry_id: str) -> None:
        """Ask what runs to end well; a drawing ends after the present picture. Raises UserError where nothing runs."""
        entry = self.get(entry_id)
        if entry.state != "running":
            raise UserError("is not running.", entry.title)
        requests = Path(entry.folder) / "requests"
        requests.mkdir(parents=True, exist_ok=True)
        (requests / "stop").touch()

    def is_paused(self) -> bool:
        return self.paused_mark.exists()

    def pause(self, paused: bool = True) -> None:
        """Start nothing new until it is no longer paused; what runs goes on."""
        if paused:
            write_text_whole(self.paused_mark, "")
        else:
            self.paused_mark.unlink(missing_ok=True)

    def has_worker(self) -> bool:
        """Whether a process works on this queue now."""
        return self.worker_lock.exists() and is_held(self.worker_lock)

    def needs_worker(self) -> bool:
        """Whether there is something to do and nobody does it."""
        states = {entry.state for entry in self.entries()}
        return not self.has_worker() and ("running" in states or ("waiting" in states and not self.is_paused()))

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the queue while changing it. Raises UserError where it cannot be written or is held too long."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the queue cannot be written ({error.strerror}).", str(self.path)) from None
        busy = "another program changes the queue and does not end. Try again."
        with locked(self.path / "lock", _PATIENCE_SECONDS, "the queue", busy):
            yield

    def write(self, entry: Entry) -> None:
        """Write an entry's file; only while `changing()`."""
        content = {"v": FORMAT, **dataclasses.asdict(entry)}
        write_text_whole(self._file(entry.id), json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @property
    def _folder(self) -> Path:
        return self.path / "entries"

    def _file(self, entry_id: str) -> Path:
        return self._folder / f"{entry_id}.json"

    def _order(self) -> list[str]:
        try:
            return list(map(str, json.loads((self.path / "order.json").read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            return []

    def _write_order(self, order: Sequence[str]) -> None:
        write_text_whole(self.path / "order.json", json.dumps(list(order)) + "\n")


def queue() -> Queue:
    """The user's queue, in Atelier's own folder or in the one that ATELIER_HOME names."""
    return Queue(home() / "queue")


def of_preset(preset: Preset) -> Entry:
    """An entry that trains a preset, frozen as it is now."""
    return Entry("", "run", preset.run.name, preset=preset.model_dump(mode="json"), gpus=preset.run.gpus)


def of_run(folder: Path, preset: Preset) -> Entry:
    """An entry that takes up a run where it ended."""
    return dataclasses.replace(of_preset(preset), title=folder.name, folder=str(folder.resolve()), resumes=True)


def of_job(folder: Path, title: str) -> Entry:
    """An entry that does a job of a tool."""
    return Entry("", "job", title, folder=str(folder.resolve()))


def of_sampling(arguments: Sequence[str], folder: Path) -> Entry:
    """An entry that draws pictures: arguments of `python -m engine sample`, and where its log lies."""
    words = ("sample", *arguments)
    return Entry("", "sample", f"Pictures into {folder.name}", arguments=words, folder=str(folder.resolve()))


def preset_of(entry: Entry) -> Preset:
    """The preset of a run's entry. Raises PresetError, for example for one that a newer Atelier wrote."""
    return build(migrate(entry.preset))


def _read(path: Path) -> Entry | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {item.name for item in dataclasses.fields(Entry)}
        entry = Entry(**{name: value for name, value in content.items() if name in names})
        whole = content["v"] == FORMAT and entry.id == path.stem and bool(getattr(entry, _SHAPES[entry.kind]))
        lists = {"arguments": tuple(entry.arguments), "given": tuple(entry.given)}
        return dataclasses.replace(entry, **lists) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _new_id() -> str:
    return f"{datetime.now(timezone.utc).strftime('%Y%m%d%H%M%S%f')}-{secrets.token_hex(2)}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
