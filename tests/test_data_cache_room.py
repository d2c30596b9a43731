"""Stores on full disks and in folders that are not theirs; how much they hold, and how they are made smaller."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from test_data_cache import FORK, filled, key, value

from engine.data import packs
from engine.data.cache import Store
from engine.errors import UserError
from tests import rights


def write_until_refused(folder: Path, file_limit_bytes: int, told: Connection) -> None:
    """Put records until the disk refuses (a limit on file sizes does so in mid-write, too); tells the sentence."""
    store = Store.open(folder, "test")
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))
    try:
        for number in range(50):
            store.put(key(f"new {number}"), {"value": torch.full((2000,), 50.0 + number)})
    except UserError as error:
        told.send(str(error))
    store.close()


def test_a_full_disk_is_a_sentence_and_the_store_stays_valid(tmp_path: Path):
    filled(tmp_path).close()
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=write_until_refused, args=(tmp_path, 60_000, sender))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == 0
    assert "could not be saved" in receiver.recv()
    store = Store.open(tmp_path, "test")
    assert [value(store, str(number))[0] for number in range(5)] == [0, 1, 2, 3, 4]
    assert [store.has(key(f"new {number}")) for number in range(4)] == [True, True, False, False]
    store.put(key("later"), {"value": torch.ones(2000)})
    assert value(store, "later").sum() == 2000


def test_a_full_disk_while_trimming_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path)

    def refuse(path: Path, payload: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packs, "append_aligned", refuse)
    with pytest.raises(UserError, match="the disk is full"):
        store.trim(20_000)
    assert value(store, "0")[0] == 0
    assert len(list(tmp_path.glob("*.pack"))) == 1


def test_a_store_can_be_cleared_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = filled(tmp_path)

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    store.clear()
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.pack"))
    store.put(key("1"), {"value": torch.zeros(3)})
    assert value(store, "1").sum() == 0


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A store in a folder that may not be written to."""
    with rights.folder_for_anyone() as folder:
        filled(folder).close()
        with rights.read_only(folder):
            yield folder


def test_a_read_only_store_can_be_read_but_says_so_when_written_to(read_only: Path):
    store = Store.open(read_only, "test")
    assert value(store, "3")[0] == 3
    with pytest.raises(UserError, match=r"may not be written to.*Choose another folder"):
        store.put(key("new"), {"value": torch.ones(1)})
    assert value(store, "3")[0] == 3


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        Store.open(tmp_path / "file", "test")
    with pytest.raises(UserError, match="could not be saved"):
        Store.open(tmp_path / "file" / "below", "test").put(key("x"), {"value": torch.ones(1)})


@pytest.mark.parametrize("content", [b"", b"something else\n", b'["atelier-store 1", "../../x.pack"]\n', b"\xff\xff\n"])
def test_another_programs_file_is_left_alone(tmp_path: Path, content: bytes):
    (tmp_path / "test.index").write_bytes(content)
    with pytest.raises(UserError, match=r"test\.index: is no cache that this version can read"):
        Store.open(tmp_path, "test")
    assert (tmp_path / "test.index").read_bytes() == content


# Size


def test_measure_counts_records_and_bytes(tmp_path: Path):
    size = filled(tmp_path).measure()
    assert (size.records, size.record_bytes) == (5, 5 * 8000)
    assert size.disk_bytes == sum(path.stat().st_size for path in tmp_path.iterdir() if path.suffix != ".lock")


def test_trimming_drops_the_oldest_first_but_what_is_to_be_kept_last(tmp_path: Path):
    store = filled(tmp_path)
    store.trim(20_000, keep=[key("0")])
    assert [store.has(key(str(number))) for number in range(5)] == [True, False, False, False, True]
    assert store.measure().disk_bytes <= 20_000
    store.close()
    again = Store.open(tmp_path, "test")
    assert value(again, "0")[0] == 0
    assert value(again, "4")[0] == 4


def test_trimming_within_the_limit_changes_nothing(tmp_path: Path):
    store = filled(tmp_path)
    before = sorted(tmp_path.iterdir())
    store.trim(1_000_000)
    assert sorted(tmp_path.iterdir()) == before


def test_clearing_frees_the_disk_and_leaves_other_stores_alone(tmp_path: Path):
    other = Store.open(tmp_path, "test-two")
    other.put(key("x"), {"value": torch.ones(9)})
    other.flush()
    store = filled(tmp_path)
    store.clear()
    assert (store.measure().records, store.measure().disk_bytes) == (0, 0)
    assert not store.has(key("1"))
    assert Store.open(tmp_path, "test-two").has(key("x"))
