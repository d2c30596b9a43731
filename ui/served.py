"""Which folders the browser may fetch files from: thumbnails, and the samples and checkpoints of listed runs."""

from __future__ import annotations

import os
from pathlib import Path

folders: list[str] = []  # given to Gradio at the start, which reads it anew for each request

# What lies in those folders for the browser. None of it is anything that a browser would run.
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
KINDS = (*PICTURES, ".safetensors")


def allow(folder: Path) -> None:
    """Let files below this folder be fetched."""
    name = str(folder)
    if name not in folders:
        folders.append(name)


def may_serve(name: str) -> bool:
    """Whether the browser may fetch a file: a whole path, of a known kind, that lies (links followed) in a folder."""
    if "\0" in name or not Path(name).is_absolute() or not name.lower().endswith(KINDS):
        return False
    real = os.path.realpath(name)
    return real.lower().endswith(KINDS) and Path(real).is_file() and any(_inside(real, folder) for folder in folders)


def lies_in(file: Path, folder: Path) -> bool:
    """Whether a file, links and dots followed, lies in a folder: what a run's own list names may be anything."""
    return _inside(os.path.realpath(file), str(folder))


def _inside(real: str, folder: str) -> bool:
    root = os.path.realpath(folder)
    return real.startswith(root.rstrip(os.sep) + os.sep)
