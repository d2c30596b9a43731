"""The corpus of faults: whatever a folder holds, tools do what their table says, lose nothing, and can be undone."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from corpus import FAULTS, LAYOUTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tool_runs import carry_out, contents, files, make, propose, undo

from engine.errors import UserError
from engine.tools import journal
from engine.tools.journal import Journal
from tests import rights

TOOLS_ON_FOLDERS = ("rename", "name_captions", "arrange", "balance")


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_folder_comes_out_as_expected_and_goes_back(tmp_path: Path, name: str):
    case = FAULTS[name]
    data = make(tmp_path / "data", case.files)
    before = contents(data)
    expected = {case.renamed.get(name, name): raw for name, raw in before.items()}
    expected |= {name: str(text).encode() for name, text in case.after.items()}
    code, job = carry_out(tmp_path / "job", case.tool, folder=data, **case.values)
    assert (code, contents(data)) == (0, expected)
    assert undo(job).failed == []
    assert contents(data) == before


@pytest.mark.parametrize("tool", TOOLS_ON_FOLDERS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_no_tool_loses_a_file_of_any_layout_and_undo_restores_every_byte(tmp_path: Path, tool: str, name: str):
    data = make(tmp_path / "flat", LAYOUTS[name].files)
    before = contents(data)
    try:
        proposal = propose(tool, folder=data)
    except UserError as error:
        assert str(error).endswith(".")
        return
    assert contents(data) == before
    _, job = carry_out(tmp_path / "job", tool, folder=data)
    kept = sorted(files(data).values())
    assert all(raw in kept for path, raw in before.items() if not path.endswith((".txt", "/")))
    assert len(job.read_table()[0]) == (0 if proposal.problems else len(proposal.rows))
    if job.journal.exists():
        assert undo(job).failed == []
    assert contents(data) == before


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A training folder with a part that may not be written to."""
    with rights.folder_for_anyone() as folder:
        make(folder, {"1_locked/a.png": None, "1_locked/b.png": None, "1_locked/b.txt": "mine", "1_open/c.png": None})
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o644)
        with rights.read_only(folder / "1_locked"):
            yield folder


def test_a_read_only_folder_is_told_before_anything_is_renamed(read_only: Path):
    before = contents(read_only)
    found = [str(problem) for problem in propose("rename", folder=read_only).problems]
    assert found == [
        f"{read_only / '1_locked'}: may not be written to, so its files cannot be renamed. Change its permissions."
    ]
    assert contents(read_only) == before


def test_captions_in_a_read_only_folder_are_named_and_the_others_written(read_only: Path):
    rows = propose("name_captions", folder=read_only).rows
    assert {Path(row.source).name: (row.action, row.note) for row in rows} == {
        "a.png": ("cannot", "its folder may not be written to. Change its permissions."),
        "b.png": ("keep", "has a caption"),
        "c.png": ("caption", "open"),
    }


def test_a_deed_that_the_system_refuses_leaves_everything_as_it_was(read_only: Path):
    before = contents(read_only)
    notes = Journal(read_only / "1_open" / "journal.jsonl")
    locked = read_only / "1_locked"
    deeds: list[Callable[[], object]] = [
        lambda: notes.move(locked / "a.png", locked / "z.png"),
        lambda: notes.write(locked / "b.txt", b"new"),
        lambda: notes.make_folder(locked / "new"),
        lambda: notes.make_link_or_copy(read_only / "1_open" / "c.png", locked / "c.png"),
    ]
    for deed in deeds:
        with pytest.raises(UserError, match="may not be written to"):
            deed()
    assert {entry.state for entry in journal.read(notes.path)} == {"void"}
    assert journal.undo(notes.path).restored == []
    notes.path.unlink()
    assert contents(read_only) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], AbstractContextManager[None]]]]:
    """A folder, and a context in which nothing more can be stored there: a tmpfs of its own that is full, where this
    process may mount one, else a limit on the size of files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield disk, lambda: _filled(disk) if is_mounted else _limited()
    finally:
        if is_mounted:
            subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    filler = disk / ".filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _limited() -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


FULL = "the disk is full|does not take a file this large"


def test_a_full_disk_fails_in_sentences_and_leaves_whole_files_only(small_disk, tmp_path: Path):
    disk, full = small_disk
    data = make(disk / "data", {"1_x/a.png": None, "1_x/a.txt": "old", "1_x/b.png": None})
    before = contents(data)
    elsewhere = Journal(tmp_path / "journal.jsonl")
    elsewhere.prepare()
    notes = Journal(disk / "journal.jsonl")
    notes.prepare()
    with full():
        for path, old in ((data / "1_x" / "a.txt", b"old"), (data / "1_x" / "b.txt", None)):
            with pytest.raises(UserError, match=FULL):
                notes.write(path, b"new " * 3000, expected=old)
        with pytest.raises(UserError, match=FULL):
            notes.move(data / "1_x" / "a.png", data / "1_x" / "z.png")
    assert contents(data) == before
    assert journal.read(notes.path) == []
    notes.move(data / "1_x" / "a.png", data / "1_x" / "z.png")
    assert journal.undo(notes.path).failed == []
    assert contents(data) == before


def test_a_disk_that_fills_while_a_tool_works_stops_nothing_but_what_has_no_room(small_disk, tmp_path: Path):
    """The journal is on another disk: what fits is written, the rest is named, undo restores every byte."""
    disk, full = small_disk
    data = make(disk / "data", {f"1_x/{n}.png": None for n in range(3)} | {"1_x/0.txt": "old"})
    before = contents(data)
    notes = Journal(tmp_path / "journal.jsonl")
    notes.write(data / "1_x" / "0.txt", b"new")
    if disk.is_mount():
        with full(), pytest.raises(UserError, match=FULL):
            notes.write(data / "1_x" / "1.txt", b"new")
    notes.write(data / "1_x" / "2.txt", b"new")
    assert sorted(path.name for path in (data / "1_x").glob("*.txt")) == ["0.txt", "2.txt"]
    assert not list(data.rglob("*.part"))
    assert journal.undo(notes.path).failed == []
    assert contents(data) == before


def test_undo_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(small_disk):
    disk, full = small_disk
    data = make(disk / "data", {"a.txt": "old " * 2000})
    before = contents(data)
    notes = Journal(disk / "journal.jsonl")
    notes.write(data / "a.txt", b"new")
    with full():
        assert "could not be saved" in str(journal.undo(notes.path).failed[0])
    assert files(data) == {"a.txt": b"new"}
    assert journal.undo(notes.path).failed == []
    assert contents(data) == before


@pytest.mark.slow
def test_a_folder_with_five_thousand_captions_is_shown_in_a_second_or_two(tmp_path: Path):
    """Looking is what somebody waits for; that no step looks at each file for each file is the point."""
    picture = make(tmp_path / "one", {"a.png": None}) / "a.png"
    data = tmp_path / "10_many"
    data.mkdir()
    for number in range(5000):
        (data / f"{number}.png").hardlink_to(picture)
        (data / f"{number}.txt").write_bytes(b"cat")
    start = time.process_time()
    assert propose("rename", folder=data).summary == "10,000 files to rename, 0 called so already."
    assert propose("name_captions", folder=data).summary == "0 captions to write, 5,000 kept."
    assert propose("arrange", folder=data).summary.endswith("10 × 5,000 many.")
    assert time.process_time() - start < 6


TREE = st.dictionaries(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "2_a/", "deep/3_b/"]),
        st.sampled_from(["x", "X", "日本", "🎈"]),
        st.sampled_from([".png", ".txt", ".caption"]),
    ),
    st.binary(min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREE, tools=st.lists(st.sampled_from(TOOLS_ON_FOLDERS), min_size=1, max_size=4))
def test_any_row_of_tools_is_undone_to_the_last_byte(tmp_path_factory, tree: dict[str, bytes], tools: list[str]):
    top = tmp_path_factory.mktemp("top")
    data = make(top / "data", {"2_a/always.png": None, **tree})
    before = contents(top)
    jobs = []
    for number, tool in enumerate(tools):
        values = {"existing": "append"} if tool == "name_captions" else {}
        values |= {"output": str(top / f"out{number}")} if tool == "arrange" else {}
        jobs.append(carry_out(tmp_path_factory.mktemp("job"), tool, folder=data, **values)[1])
    for job in reversed(jobs):
        if job.journal.exists():
            assert undo(job).failed == []
    assert contents(top) == before
