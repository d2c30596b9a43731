"""The folder over which pictures are ordered: what the page and the process that draws share. Torch-free.

ATELIER_HOME/drawing/  requests/ID.json (drawing presets, the oldest ID first)  requests/stop  requests/leave
                       events.jsonl  log.txt  previews/  lock (held by the process that draws)

The process is `python -m engine draw FOLDER`. It takes one request after the other, tells of each `stage`, `progress`,
`previewed`, `drawn`, and with `answered` its end; it deletes the request then. Pictures go where the preset says, else
into ATELIER_HOME/pictures, in a folder of each day.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.drawing.settings import DrawingPreset, load
from engine.home import home
from engine.run import WorkFolder


@dataclass(frozen=True)
class Desk(WorkFolder):
    """One such folder. A request that is cancelled or done is no more in it."""

    @property
    def previews(self) -> Path:
        return self.path / "previews"

    def ask(self, preset: DrawingPreset) -> str:
        """Order the pictures of a preset; the request's ID. UserError where the disk refuses."""
        request = f"{time.time_ns():020d}-{secrets.token_hex(3)}"
        self.requests.mkdir(parents=True, exist_ok=True)
        preset.save(self.place(request))
        return request

    def place(self, request: str) -> Path:
        return self.requests / f"{request}.json"

    def waiting(self) -> list[str]:
        """The IDs of requests that are not done, the one that is drawn now among them, the oldest first."""
        return sorted(path.stem for path in self.requests.glob("*.json"))

    def preset_of(self, request: str) -> DrawingPreset:
        """Raises PresetError or UserError where the request cannot be read or is cancelled."""
        return load(self.place(request))

    def remove(self, request: str) -> None:
        self.place(request).unlink(missing_ok=True)

    def cancel(self) -> None:
        """End the drawing of now between two of its steps, and forget what waits."""
        for request in self.waiting():
            self.remove(request)
        if self.is_running():
            (self.requests / "stop").touch()

    def ask_to_leave(self) -> None:
        """Ask the process to end at once and give its memory back; what waits stays there for the next one."""
        if self.is_running():
            (self.requests / "leave").touch()

    def is_asked_to_stop(self) -> bool:
        """Whether the drawing of now is to end; looked at between two steps."""
        return (self.requests / "stop").exists() or self.is_asked_to_leave()

    def is_asked_to_leave(self) -> bool:
        return (self.requests / "leave").exists()

    def forget(self, *what: str) -> None:
        """Take up the requests "stop" and "leave"."""
        for name in what or ("stop", "leave"):
            (self.requests / name).unlink(missing_ok=True)

    def command(self) -> list[str]:
        """What starts the process that draws."""
        return [sys.executable, "-m", "engine", "draw", str(self.path.resolve())]


def desk() -> Desk:
    return Desk(home() / "drawing")


def pictures_folder() -> Path:
    """Where pictures go that are given no other folder."""
    return home() / "pictures"


def pictures_in(folder: Path) -> Iterator[Path]:
    """The pictures in the folders of the days, the newest first."""
    for day in sorted(folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"), reverse=True):
        yield from sorted(day.glob("*.png"), reverse=True)
