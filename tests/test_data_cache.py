"""The store keeps what it was given, whatever happens to its writer, its disk and its files."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from engine.data.cache import Store, content_key

FORK = multiprocessing.get_context("fork")  # a fresh process would spend seconds on importing torch


def key(name: str) -> bytes:
    return content_key(name.encode())


def filled(folder: Path, count: int = 5) -> Store:
    """A flushed store with `count` records of 8,000 bytes."""
    store = Store.open(folder, "test")
    for number in range(count):
        store.put(key(str(number)), {"value": torch.full((2000,), float(number))})
    store.flush()
    return store


def value(store: Store, name: str) -> torch.Tensor:
    found = store.get(key(name))
    assert found is not None
    return found["value"]


def key_of(writer: int, number: int) -> bytes:
    return content_key(f"{writer} {number}".encode())


def value_of(writer: int, number: int) -> torch.Tensor:
    return torch.full((3000,), float(writer * 1_000_000 + number), dtype=torch.float64)


def write_records(folder: Path, writer: int, records: int, flushed: Connection) -> None:
    """Put records, and tell after each flush how many are on the disk; runs in a process of its own."""
    with Store.open(folder, "test") as store:
        for number in range(records):
            store.put(key_of(writer, number), {"value": value_of(writer, number)})
            if number % 7 == 6:
                store.flush()
                flushed.send(number + 1)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
)
def test_what_is_put_comes_back_to_the_bit_also_in_another_process(tmp_path: Path, dtype: torch.dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    with Store.open(tmp_path, "test") as store:
        store.put(key("x"), {"a": tensor, "b": tensor.mT})
        same = store.get(key("x"))
    again = Store.open(tmp_path, "test").get(key("x"))
    for found in (same, again):
        assert found is not None
        assert list(found) == ["a", "b"]
        assert torch.equal(found["a"], tensor)
        assert torch.equal(found["b"], tensor.mT)
        assert found["a"].dtype == dtype


def test_scalars_empty_tensors_and_empty_records_are_kept(tmp_path: Path):
    with Store.open(tmp_path, "test") as store:
        store.put(key("x"), {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 4), "后": torch.ones(1)})
        store.put(key("nothing"), {})
    found = Store.open(tmp_path, "test").get(key("x"))
    assert found is not None
    assert found["scalar"].shape == ()
    assert found["scalar"].item() == 3.5
    assert found["empty"].shape == (0, 4)
    assert found["后"].item() == 1
    assert Store.open(tmp_path, "test").get(key("nothing")) == {}


def test_what_is_not_there_is_none_and_makes_no_file(tmp_path: Path):
    store = Store.open(tmp_path / "new", "test")
    assert not store.has(key("x"))
    assert store.get(key("x")) is None
    assert not (tmp_path / "new").exists()


def test_putting_a_key_twice_keeps_the_first_and_takes_no_room(tmp_path: Path):
    store = filled(tmp_path)
    before = store.measure()
    store.put(key("1"), {"value": torch.zeros(5)})
    store.flush()
    assert store.measure() == before
    assert value(store, "1")[0] == 1


def test_tensors_are_views_of_the_map_and_outlive_the_store(tmp_path: Path):
    store = filled(tmp_path)
    first, second = value(store, "2"), value(store, "2")
    assert first.data_ptr() == second.data_ptr()
    assert first.data_ptr() % 64 == 0
    store.clear()
    store.close()
    del store
    assert torch.equal(first, torch.full((2000,), 2.0))


def test_a_change_in_place_stays_in_this_process(tmp_path: Path):
    filled_store = filled(tmp_path)
    value(filled_store, "2").zero_()
    filled_store.close()
    assert value(Store.open(tmp_path, "test"), "2")[0] == 2


def test_keys_tell_parts_apart():
    keys = {content_key(*parts) for parts in ((b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (), (b"",))}
    assert len(keys) == 6
    assert all(len(found) == 32 for found in keys)


# Killed writers


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing_that_was_flushed(tmp_path: Path):
    chance = random.Random(5)
    for attempt in range(5):
        receiver, sender = FORK.Pipe(duplex=False)
        process = FORK.Process(target=write_records, args=(tmp_path, attempt, 100_000, sender))
        process.start()
        flushed = receiver.recv()
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.join()
        while receiver.poll():
            flushed = receiver.recv()
        store = Store.open(tmp_path, "test")
        for number in range(flushed):
            found = store.get(key_of(attempt, number))
            assert found is not None
            assert torch.equal(found["value"], value_of(attempt, number))
        store.put(key(f"after {attempt}"), {"value": torch.ones(3)})
        store.close()
    assert all(Store.open(tmp_path, "test").has(key(f"after {attempt}")) for attempt in range(5))


def test_an_index_cut_at_any_byte_still_names_whole_records_only(tmp_path: Path):
    filled(tmp_path, 3).close()
    index = tmp_path / "test.index"
    whole = index.read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(header, len(whole) + 1):
        index.write_bytes(whole[:length])
        store = Store.open(tmp_path, "test")
        there = [number for number in range(3) if store.has(key(str(number)))]
        assert there == list(range(whole[:length].count(b"\n") - 1))
        assert all(value(store, str(number))[7] == number for number in there)


def test_a_line_below_an_unfinished_one_is_read(tmp_path: Path):
    filled(tmp_path, 3).close()
    index = tmp_path / "test.index"
    index.write_bytes(index.read_bytes()[:-20])
    with Store.open(tmp_path, "test") as store:
        store.put(key("new"), {"value": torch.full((3,), 9.0)})
    store = Store.open(tmp_path, "test")
    assert value(store, "new")[0] == 9
    assert [store.has(key(str(number))) for number in range(3)] == [True, True, False]


def test_a_pack_that_is_shorter_than_its_index_says_loses_only_its_end(tmp_path: Path):
    filled(tmp_path).close()
    pack = next(tmp_path.glob("*.pack"))
    os.truncate(pack, 20_000)
    store = Store.open(tmp_path, "test")
    assert [store.has(key(str(number))) for number in range(5)] == [True, True, False, False, False]
    store.put(key("3"), {"value": torch.full((2000,), 3.0)})
    store.close()
    assert value(Store.open(tmp_path, "test"), "3")[1999] == 3


def test_damaged_bytes_are_noticed_and_written_anew(tmp_path: Path):
    filled(tmp_path).close()
    pack = next(tmp_path.glob("*.pack"))
    content = bytearray(pack.read_bytes())
    content[9000] ^= 1
    pack.write_bytes(content)
    store = Store.open(tmp_path, "test")
    assert not store.has(key("1"))
    assert store.get(key("1")) is None
    store.put(key("1"), {"value": torch.full((2000,), 1.0)})
    store.close()
    assert value(Store.open(tmp_path, "test"), "1").sum() == 2000


@pytest.mark.parametrize("lost", ["test.index", "*.pack"])
def test_a_store_whose_files_were_deleted_by_hand_starts_anew(tmp_path: Path, lost: str):
    store = filled(tmp_path)
    next(tmp_path.glob(lost)).unlink()
    store.put(key("new"), {"value": torch.full((4,), 7.0)})
    store.close()
    again = Store.open(tmp_path, "test")
    assert value(again, "new")[3] == 7
    assert not again.has(key("1"))


# Several writers


def test_two_processes_write_at_once(tmp_path: Path):
    _, sender = FORK.Pipe(duplex=False)
    processes = [FORK.Process(target=write_records, args=(tmp_path, writer, 140, sender)) for writer in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    store = Store.open(tmp_path, "test")
    for writer in (1, 2):
        for number in range(140):
            found = store.get(key_of(writer, number))
            assert found is not None
            assert torch.equal(found["value"], value_of(writer, number))


def test_another_process_records_are_seen_once_flushed(tmp_path: Path):
    reader, writer = Store.open(tmp_path, "test"), Store.open(tmp_path, "test")
    writer.put(key("x"), {"value": torch.ones(2)})
    assert not reader.has(key("x"))
    writer.flush()
    assert reader.has(key("x"))


def test_a_store_cleared_by_another_keeps_what_was_read_and_takes_new_records(tmp_path: Path):
    first = filled(tmp_path)
    first.put(key("unflushed"), {"value": torch.ones(2)})
    second = Store.open(tmp_path, "test")
    second.clear()
    assert value(first, "1")[0] == 1
    first.put(key("new"), {"value": torch.ones(2)})
    first.close()
    assert second.has(key("new"))
    assert not second.has(key("1"))
    assert len(list(tmp_path.glob("*.pack"))) == 1


def test_threads_may_share_a_store(tmp_path: Path):
    store = Store.open(tmp_path, "test")

    def write(writer: int) -> None:
        for number in range(60):
            store.put(key_of(writer, number), {"value": value_of(writer, number)})

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    again = Store.open(tmp_path, "test")
    for writer in range(4):
        for number in range(60):
            found = again.get(key_of(writer, number))
            assert found is not None
            assert found["value"][-1] == writer * 1_000_000 + number


# Disks
