"""The base model's file is asked for before it is needed, where there is room for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import read_ahead as module
from engine.read_ahead import read_ahead


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Places of a file that the system was asked to read."""
    pieces: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, size, advice: pieces.append((start, size)))
    return pieces


def file_of(folder: Path, size_bytes: int) -> Path:
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size_bytes)
    return folder / "model.safetensors"


def test_the_whole_file_is_asked_for(tmp_path: Path, asked: list[tuple[int, int]]):
    reader = read_ahead(str(file_of(tmp_path, (64 << 20) + 5)))
    assert reader is not None
    reader.join()
    assert asked == [(0, 64 << 20), (64 << 20, 64 << 20)]


def test_a_file_that_would_drive_itself_out_is_left_alone(tmp_path, asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_OF_FREE_MEMORY", 0.0)
    assert read_ahead(str(file_of(tmp_path, 900))) is None
    assert asked == []


@pytest.mark.parametrize("name", ["", "none", "~nobody-of-this-name/model", "a\0b"])
def test_folders_and_what_is_no_file_are_left_alone(tmp_path: Path, asked: list[tuple[int, int]], name: str):
    assert read_ahead(f"{tmp_path}/{name}" if "~" not in name else name) is None
    assert asked == []
