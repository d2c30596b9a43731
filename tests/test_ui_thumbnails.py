"""Thumbnails are small, upright and opaque, and follow their picture."""

from __future__ import annotations

import os
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest
from PIL import Image

from ui import thumbnails


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))


def test_a_large_picture_becomes_small_and_stands_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (1600, 800), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / "a.jpg", exif=exif)
    (small,) = thumbnails.of_all([tmp_path / "a.jpg"])
    assert small is not None
    assert Image.open(small).size == (160, 320)
    assert small.stat().st_size < 5000


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "I;16", "1"])
def test_every_kind_of_picture_is_shown(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    Image.new(mode, (500, 400)).save(path)
    (small,) = thumbnails.of_all([path])
    assert small is not None
    assert Image.open(small).mode == "RGB"


def test_what_is_no_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture")
    assert thumbnails.of_all([tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "none.png"]) == [None] * 3


def test_a_changed_picture_gets_another_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (900, 900), "red").save(path)
    (red,) = thumbnails.of_all([path])
    Image.new("RGB", (900, 900), "blue").save(path)
    os.utime(path, (1, 1))
    (blue,) = thumbnails.of_all([path])
    assert red != blue
    assert red is not None and red.exists()


def test_thumbnails_that_take_long_are_not_waited_for_and_come_to_the_place_told(tmp_path: Path) -> None:
    Image.new("RGB", (900, 900), "red").save(tmp_path / "a.png")
    gate = threading.Event()
    kept = [thumbnails._pool.submit(gate.wait, 20) for _ in range(2)]  # both workers are busy
    ((place, is_ready),) = thumbnails.soon([tmp_path / "a.png"], 0.01)
    assert place is not None and not is_ready and not place.exists()
    gate.set()
    wait(kept)
    assert thumbnails.soon([tmp_path / "a.png"], 20) == [(place, True)] and place.exists()
    assert thumbnails.soon([tmp_path / "none.png"], 20) == [(None, True)]
