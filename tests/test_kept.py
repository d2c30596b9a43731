"""Old checkpoints go only where the run's own record lists them; killed at any moment, nothing is lost."""

from __future__ import annotations

import json
import os

import pytest

from engine.kept import CheckpointRecord


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "checkpoints"
    made.mkdir()
    return made


@pytest.fixture
def record(tmp_path, folder):
    return CheckpointRecord(tmp_path / "checkpoints.json", folder)


def write(folder, record, *steps):
    for step in steps:
        path = folder / f"cat-{step:06d}.safetensors"
        path.write_bytes(b"x" * step)
        record.add(path, step)


def never_busy(path):
    return False


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_are_kept(folder, record):
    write(folder, record, 10, 20, 30, 40)
    gone = record.thin(2, 40, never_busy)
    assert [path.name for path in gone] == ["cat-000010.safetensors", "cat-000020.safetensors"]
    assert names(folder) == ["cat-000030.safetensors", "cat-000040.safetensors"]
    assert [entry.step for entry in record.listed()] == [30, 40]


def test_files_that_the_record_does_not_list_stay(folder, record):
    write(folder, record, 10, 20)
    for name in ("cat-000005.safetensors", "cat.safetensors", "mine.safetensors"):
        (folder / name).write_bytes(b"of the user")
    record.thin(1, 20, never_busy)
    assert names(folder) == ["cat-000005.safetensors", "cat-000020.safetensors", "cat.safetensors", "mine.safetensors"]


def test_a_file_that_was_replaced_since_stays(folder, record):
    write(folder, record, 10, 20)
    path = folder / "cat-000010.safetensors"
    path.write_bytes(b"y" * 10)  # another file of the same name and size
    os.utime(path, ns=(1, 1))
    assert record.thin(1, 20, never_busy) == [] and path.exists()


def test_a_link_in_the_place_of_a_file_stays(folder, record, tmp_path):
    write(folder, record, 10, 20)
    path = folder / "cat-000010.safetensors"
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    assert record.thin(1, 20, never_busy) == []
    assert path.is_symlink() and moved.exists()


@pytest.mark.parametrize("name", ["../mine.safetensors", "/etc/hostname", ".."])
def test_a_record_cannot_point_out_of_the_folder(folder, record, tmp_path, name):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(b"x")
    status = mine.stat()
    entry = {"name": name, "step": 1, "size_bytes": status.st_size, "changed_ns": status.st_mtime_ns}
    record.file.write_text(json.dumps({"checkpoints": [entry, {**entry, "step": 2}]}))
    assert record.listed() == []
    assert record.thin(0, 10, never_busy) == [] and mine.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"checkpoints": [{"name": 5}]}', '{"checkpoints": [7]}'])
def test_a_damaged_record_deletes_nothing(folder, record, content):
    write(folder, record, 10, 20)
    record.file.write_text(content)
    assert record.thin(0, 20, never_busy) == []
    assert len(names(folder)) == 2


def test_killed_before_the_record_or_in_the_middle_of_thinning_it_goes_on(folder, record):
    write(folder, record, 10, 20)
    (folder / "cat-000030.safetensors").write_bytes(b"written, but not listed yet")
    (folder / "cat-000010.safetensors").unlink()  # gone, but still listed
    write(folder, record, 40)
    record.thin(1, 40, never_busy)
    assert names(folder) == ["cat-000030.safetensors", "cat-000040.safetensors"]


def test_after_a_resume_later_ones_do_not_count(folder, record):
    write(folder, record, 10, 20, 30)
    record.thin(1, 20, never_busy)
    assert names(folder) == ["cat-000020.safetensors", "cat-000030.safetensors"]


def test_a_busy_file_goes_the_next_time(folder, record):
    write(folder, record, 10, 20)
    busy = folder / "cat-000010.safetensors"
    assert record.thin(1, 20, lambda path: path == busy) == [] and busy.exists()
    assert record.thin(1, 20, never_busy) == [busy]
