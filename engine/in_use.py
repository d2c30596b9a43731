"""What else uses this machine's device: a measurement tells so with a lock, runs with their own, the queue with its
entries. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UserError
from engine.home import home
from engine.locks import locked
from engine.queue import queue
from engine.run import is_held, runs_in

_LOCK_SECONDS = 2  # whoever looks whether it is held takes it for a moment


def is_measuring() -> bool:
    """Whether a process measures steps now, on the page's behalf or somebody else's."""
    return is_held(_lock())


@contextmanager
def measuring(runs_folders: Iterable[Path]) -> Iterator[None]:
    """Hold the device for a measurement. Raises UserError while a run, the queue or another measurement uses it."""
    busy = "three steps are being measured already. Wait for their end."
    try:
        _lock().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}). Check the folder's rights.", str(home())) from None
    with locked(_lock(), _LOCK_SECONDS, "the folder", busy):
        refuse_beside_work(runs_folders)
        yield


def refuse_beside_work(runs_folders: Iterable[Path]) -> None:
    """Raises UserError where something is trained or done: both would be slow, and neither measured."""
    for folder in runs_folders:
        for run in runs_in(folder):
            if run.is_running():
                what = "is training now, so three steps beside it would say nothing. Wait for its end, or stop it."
                raise UserError(what, run.name)
    for entry in queue().entries():
        if entry.state == "running":
            what = "is at work in the queue, so three steps beside it would say nothing. Wait for its end, or stop it."
            raise UserError(what, entry.title)


def refuse_beside_measuring() -> None:
    """Raises UserError while steps are measured, which a run beside them would make wrong."""
    if is_measuring():
        raise UserError("three steps are being measured now. Wait for them, or cancel on the tab Training.")


def _lock() -> Path:
    return home() / "measuring.lock"
