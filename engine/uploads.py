"""Upload to the Hugging Face hub, in a process of its own: it never delays a run, never fails it, and outlives it.

The run writes one small file a wish into `uploads/` of its folder; `python -m engine.upload RUN` works them off. What
could not be uploaded stays there and is tried again with the next checkpoint or resume. Torch-free.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from engine import events
from engine.atomic import write_text_whole
from engine.errors import UserError
from engine.preset import ROOT, Preset
from engine.run import RunFolder

ENDS = (events.Finished, events.Stopped, events.Failed)


def uploads_folder(run: RunFolder) -> Path:
    """Where the wishes of a run lie."""
    return run.path / "uploads"


def is_waiting(run: RunFolder, path: Path) -> bool:
    """Whether a file is being uploaded or about to be, and nothing has gone wrong so far."""
    wish = uploads_folder(run) / f"{path.name}.json"
    return wish.exists() and not wish.with_suffix(".fault").exists()


class Worker(Protocol):
    """What of a process is used."""

    def poll(self) -> int | None: ...


Start = Callable[[RunFolder], Worker]


class Uploads:
    """Listens for saved files, asks for their upload, and tells what became of it."""

    def __init__(self, preset: Preset, run: RunFolder, warn: Callable[[str], None], start: Start | None = None) -> None:
        """`start` begins the process that uploads (None: the usual one)."""
        self.sharing = preset.sharing
        self.finals = (f"{preset.run.name}.safetensors", f"{preset.run.name}-best.safetensors")
        self.run = run
        self.warn = warn
        self.start = start or start_worker
        self.told: set[str] = set()
        self.worker: Worker | None = None
        if self._is_something_left():
            self._work()

    def _is_something_left(self) -> bool:
        return any(uploads_folder(self.run).glob("*.json"))

    def _work(self, again: bool = False) -> None:
        """See that a process is at work. `again`: one more after it, lest it was about to end."""
        if not again and self.worker is not None and self.worker.poll() is None:
            return
        try:
            self.worker = self.start(self.run)
        except OSError as error:
            self._warn_once(f"no process for uploads can be started ({error}).")

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.Saved) and self._is_wanted(event):
            self._ask(event)
        if isinstance(event, (events.Saved, *ENDS)):
            self._tell_faults()
        if isinstance(event, ENDS) and self._is_something_left():
            self._work(again=True)

    def _is_wanted(self, saved: events.Saved) -> bool:
        if saved.what == "state":
            return self.sharing.hub_files == "checkpoints_and_states"
        return self.sharing.hub_files != "final" or Path(saved.path).name in self.finals

    def _ask(self, saved: events.Saved) -> None:
        name = Path(saved.path).name
        folder = self.sharing.hub_folder.strip("/")
        inside = f"state/{name}" if saved.what == "state" else name
        wish = {
            "file": saved.path,
            "repo": self.sharing.hub_repo,
            "path_in_repo": f"{folder}/{inside}" if folder else inside,
            "private": self.sharing.hub_visibility == "private",
            "message": f"{self.run.name}, step {saved.step}",
        }
        place = uploads_folder(self.run) / f"{name}.json"
        try:
            place.with_suffix(".fault").unlink(missing_ok=True)
            write_text_whole(place, json.dumps(wish, ensure_ascii=False) + "\n")
        except (UserError, OSError) as error:
            self._warn_once(f"{name} cannot be uploaded ({error}).")
            return
        self._work()

    def _tell_faults(self) -> None:
        for fault in sorted(uploads_folder(self.run).glob("*.fault")):
            try:
                text = fault.read_text(encoding="utf-8").strip()
            except OSError:
                continue
            self._warn_once(f"the upload to {self.sharing.hub_repo} does not work: {text}")

    def _warn_once(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.warn(f"{text} The files stay in the run folder, and training goes on.")


def start_worker(run: RunFolder) -> subprocess.Popen[bytes]:
    """Begin the process that works off the wishes; a second one waits for the first and does what is left."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return subprocess.Popen(
        [sys.executable, "-m", "engine.upload", str(run.path)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
