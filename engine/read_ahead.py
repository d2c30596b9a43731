"""The base model's file is read into the system's cache while libraries are imported and pictures encoded. Torch-free.

The weights are used from a memory map, so without it the first step waits for the disk, tensor by tensor.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil

from engine.preset import resolve

MOST_OF_FREE_MEMORY = 0.8
"""Share of the free memory that the file may take: to read more would drive out what was read first."""


def read_ahead(model: str) -> threading.Thread | None:
    """Begin to read the file that a preset names, beside what goes on.

    None where there is no such file (those who load it say so), no way to ask the system, or no room.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    try:
        path = resolve(model)
        size_bytes = path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError, RuntimeError):  # RuntimeError: "~name" of a user who does not exist
        return None
    if not 0 < size_bytes <= MOST_OF_FREE_MEMORY * psutil.virtual_memory().available:
        return None
    reader = threading.Thread(target=_advise, args=(path, size_bytes), name="read ahead", daemon=True)
    reader.start()
    return reader


def _advise(path: Path, size_bytes: int) -> None:
    """The system reads as much as it likes to at once, so the file is asked for in pieces."""
    piece_bytes = 64 << 20
    try:
        with path.open("rb") as file:
            for start in range(0, size_bytes, piece_bytes):
                os.posix_fadvise(file.fileno(), start, piece_bytes, os.POSIX_FADV_WILLNEED)
    except OSError:
        return
