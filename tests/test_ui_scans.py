"""The page scans a folder again when there is something new in it, and not for each change of a field."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from engine.data import folders, scan
from engine.data.scan import CaptionReading
from ui import scans

TXT = CaptionReading(".txt")


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one picture; each real scan of it is counted in `counted`."""
    folder = tmp_path / "training" / "10_cat"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    (folder / "a.txt").write_text("a cat")
    os.utime(folder, ns=(1, 1))  # what is added next has another time, however coarse the clock of the disk is
    return folder.parent


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were really scanned, in order."""
    done: list[Path] = []

    def counting(folder: Path, *given, **named):
        done.append(folder)
        return scan.scan(folder, *given, **named)

    monkeypatch.setattr(scans, "scan", counting)
    return done


def test_a_folder_is_scanned_once_for_several_looks(training: Path, counted: list[Path]) -> None:
    remembered = scans.Scans()
    assert remembered(training, TXT) is remembered(training, TXT)
    assert remembered(training, TXT) == scan.scan(training, TXT)
    assert counted == [training]


def test_a_new_picture_another_reading_and_a_start_are_scanned_for(training: Path, counted: list[Path]) -> None:
    remembered = scans.Scans()
    remembered(training, TXT)
    Image.new("RGB", (64, 64)).save(training / "10_cat" / "b.png")
    assert len(remembered(training, TXT).subsets[0].items) == 2
    remembered(training, CaptionReading(".caption"))
    remembered(training, TXT, regularization=True)
    remembered.forget()
    remembered(training, TXT)
    assert len(counted) == 5


def test_what_is_known_grows_old(training: Path, counted: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = scans.Scans()
    monkeypatch.setattr(scans, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(scans, "TIMES_AS_LONG", 0)
    remembered(training, TXT)
    (training / "10_cat" / "a.txt").write_text("a dog")
    assert remembered(training, TXT).subsets[0].items[0].caption == "a dog"


def test_folders_that_went_away_are_forgotten_in_time(tmp_path: Path) -> None:
    remembered = scans.Scans()
    for number in range(20):
        remembered(tmp_path / str(number), TXT)
    assert len(remembered._kept) == scans._MOST_KEPT


def test_a_whole_disk_is_refused_instead_of_walked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_WITHOUT_IMAGES", 20)
    for number in range(30):
        (tmp_path / f"folder {number}" / "deeper").mkdir(parents=True)
    (problem,) = scan.scan(tmp_path).problems
    assert "holds more than 20 folders without a picture" in problem.message and problem.where == str(tmp_path)
