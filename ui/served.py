"""Which folders the browser may fetch files from: thumbnails, and the samples and checkpoints of listed runs."""

from __future__ import annotations

from pathlib import Path

folders: list[str] = []  # given to Gradio at the start, which reads it anew for each request


def allow(folder: Path) -> None:
    """Let files below this folder be fetched."""
    name = str(folder)
    if name not in folders:
        folders.append(name)
