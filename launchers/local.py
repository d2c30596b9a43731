"""Starts the engine on this machine, in a session of its own: closing or killing the page does not touch it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.ended import note_begun, note_ended

ROOT = Path(__file__).resolve().parent.parent
_NOT_FOR_THE_ENGINE = ("GRADIO_", "WERKZEUG_", "UVICORN_")


def start(run_folder: Path, *, python: str | None = None, command: Sequence[str] | None = None) -> int:
    """Start `python -m engine train RUN_FOLDER` and return its process id at once.

    What it prints is appended to RUN_FOLDER/log.txt. It works in the repository's folder, reads nothing from the
    terminal and inherits no open file or socket. `command` replaces the whole command line (several GPUs, tests).
    Raises OSError when the log cannot be written or the program not be started.
    """
    if command is None:
        command = [python or sys.executable, "-m", "engine", "train", str(run_folder.resolve())]
    process = begin(run_folder, command)
    # Somebody must wait for an ended child, or it stays in the process table and looks alive. If the page is gone by
    # then, the system does it.
    waiting = threading.Thread(target=_wait, args=(process, run_folder), name=f"wait for {process.pid}", daemon=True)
    waiting.start()
    return process.pid


def _wait(process: subprocess.Popen[bytes], run_folder: Path) -> None:
    note_ended(run_folder.resolve(), process.wait())


def begin(
    folder: Path, command: Sequence[str], *, variables: Mapping[str, str] | None = None, keep_open: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process as `start` does, for somebody who waits for it.

    `variables` are added to its environment; the open files `keep_open` stay open in it, and so stay locked.
    """
    with (folder.resolve() / "log.txt").open("ab") as log:
        note_begun(folder.resolve())
        return subprocess.Popen(
            list(command),
            cwd=ROOT,
            env={**environment(os.environ), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            creationflags=_creation_flags(),
            pass_fds=tuple(keep_open),
        )


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: the page's own settings left out, output unbuffered and in UTF-8."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_NOT_FOR_THE_ENGINE)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def _creation_flags() -> int:
    """What `start_new_session` is elsewhere, for Windows, which has no sessions."""
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS | subprocess.CREATE_BREAKAWAY_FROM_JOB
    return 0
