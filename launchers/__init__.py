"""How an engine process is started: each launcher takes a run folder and returns the process's id."""

from __future__ import annotations

from pathlib import Path

from launchers import local, several

LAUNCHERS = {"local": local.start, "several": several.start}


def launch(run_folder: Path, gpus: int = 1) -> int:
    """Start a run on one GPU or on several of this machine. Raises OSError as `local.start` does."""
    return several.start(run_folder, gpus) if gpus > 1 else local.start(run_folder)
