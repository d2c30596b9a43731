"""File hashes are remembered only while nothing about the file has changed."""

from __future__ import annotations

import os
import shutil
import time
from hashlib import blake2b
from pathlib import Path

import pytest

from engine.data import digests
from engine.data.cache import content_key
from engine.data.digests import FileDigests, file_digest
from engine.errors import DatasetError


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were really read."""
    seen: list[str] = []

    def counted(path: Path | str) -> bytes:
        seen.append(Path(path).name)
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    monkeypatch.setattr(digests, "_AT_REST_NS", 0)
    return seen


def test_the_hash_is_that_of_the_bytes(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x" * 3_000_000)
    assert file_digest(path) == blake2b(b"x" * 3_000_000, digest_size=32).digest()
    assert FileDigests(tmp_path / "cache").of(path) == file_digest(path)


def test_unchanged_files_are_not_read_again_even_by_a_later_process(tmp_path: Path, reads: list[str]):
    paths = [tmp_path / name for name in ("a.png", "图 é.png")]
    for path in paths:
        path.write_bytes(path.name.encode())
    time.sleep(0.02)
    with FileDigests(tmp_path / "cache") as known:
        first = known.of_all(paths)
        assert known.of_all(paths) == first
    assert FileDigests(tmp_path / "cache").of_all(paths) == first
    assert sorted(reads) == ["a.png", "图 é.png"]


def test_an_edit_of_the_same_size_and_name_gives_another_key(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with FileDigests(tmp_path / "cache") as known:
        before = content_key(known.of(path), b"vae")
        path.write_bytes(b"after!")
        assert content_key(known.of(path), b"vae") != before


def test_an_edit_is_noticed_even_when_the_modification_time_is_set_back(tmp_path: Path, reads: list[str]):
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    status = path.stat()
    time.sleep(0.02)
    with FileDigests(tmp_path / "cache") as known:
        before = known.of(path)
        path.write_bytes(b"after!")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_mtime_ns == status.st_mtime_ns
        assert known.of(path) != before


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path):
    """Within one tick of the clock a second edit would leave size and times as they are."""
    path = tmp_path / "a.png"
    path.write_bytes(b"new")
    with FileDigests(tmp_path / "cache") as known:
        known.of(path)
    assert not (tmp_path / "cache").exists()


def test_another_vae_gives_another_key(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    digest = file_digest(path)
    assert content_key(digest, b"vae one") != content_key(digest, b"vae two")


def test_a_memory_that_is_damaged_or_cut_only_costs_time(tmp_path: Path, reads: list[str]):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    time.sleep(0.02)
    with FileDigests(tmp_path / "cache") as known:
        expected = known.of_all(paths)
    memory = tmp_path / "cache" / "files.index"
    memory.write_bytes(memory.read_bytes()[:-10])
    reads.clear()
    with FileDigests(tmp_path / "cache") as known:
        assert known.of_all(paths) == expected
    assert len(reads) == 1
    memory.write_bytes(b"\xff\0nonsense\n" * 9)
    assert FileDigests(tmp_path / "cache").of_all(paths) == expected


def test_the_memory_does_not_grow_with_edits(tmp_path: Path, reads: list[str]):
    path = tmp_path / "a.png"
    for number in range(20):
        path.write_bytes(b"%d" % number)
        time.sleep(0.01)
        with FileDigests(tmp_path / "cache") as known:
            assert known.of(path) == file_digest(path)
    assert len((tmp_path / "cache" / "files.index").read_bytes().splitlines()) <= 5


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, reads: list[str]):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    time.sleep(0.02)
    with FileDigests(path / "below") as known:
        assert known.of(path) == file_digest(path)


def test_a_copy_of_a_file_has_the_same_hash(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    known = FileDigests(tmp_path / "cache")
    assert known.of(tmp_path / "a.png") == known.of(tmp_path / "b.png")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"gone\.png: cannot be read \(No such file"):
        FileDigests(tmp_path / "cache").of(tmp_path / "gone.png")
