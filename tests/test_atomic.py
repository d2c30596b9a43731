"""engine/atomic.py: a file is written whole or not at all, and a refusing disk answers with a sentence."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.atomic import (
    remove_leftovers,
    storage_refusal,
    whole_file,
    write_bytes_whole,
    write_text_whole,
    write_whole,
)
from engine.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_with_its_content_and_nothing_else(tmp_path: Path) -> None:
    write_text_whole(tmp_path / "deep" / "er" / "a.json", "é\n")
    assert (tmp_path / "deep" / "er" / "a.json").read_bytes() == "é\n".encode()
    assert names(tmp_path / "deep" / "er") == ["a.json"]


def test_the_target_keeps_its_old_content_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_bytes_whole(target, b"old")
    with whole_file(target) as part:
        part.write_bytes(b"new")
        assert part.parent == tmp_path
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("fault", [ValueError("no"), KeyboardInterrupt()])
def test_any_fault_of_the_writer_leaves_the_old_file_and_no_other(tmp_path: Path, fault: BaseException) -> None:
    target = tmp_path / "a.bin"
    write_bytes_whole(target, b"old")

    def fail(part: Path) -> None:
        part.write_bytes(b"half")
        raise fault

    with pytest.raises(type(fault)):
        write_whole(target, fail)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_bytes_whole(target, b"old")

    def fill(part: Path) -> None:
        part.write_bytes(b"half")
        Path("/dev/full").write_bytes(b"more")

    with pytest.raises(UserError, match=r"disk is full .*MB free.*Free some space") as caught:
        write_whole(target, fill)
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_file_size_limit_is_a_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_bytes_whole(target, b"old")
    script = (
        "import resource, sys\n"
        "from engine.atomic import write_bytes_whole\n"
        "from engine.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes_whole(sys.argv[1], bytes(5000))\n"
        "except UserError as error: print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=True)
    assert "does not take a file this large" in answer.stdout
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_folder_that_takes_no_files_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    folder = tmp_path if os.geteuid() else Path("/sys")  # nothing is forbidden to root but here
    with pytest.raises(UserError, match=r"may not be written to|read-only"):
        write_text_whole(folder / "a.json", "{}")
    tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_a_folder_is_a_sentence(tmp_path: Path) -> None:
    write_text_whole(tmp_path / "a", "")
    with pytest.raises(UserError, match="a file, not a folder"):
        write_text_whole(tmp_path / "a" / "b" / "c.json", "{}")


def test_a_name_at_the_limit_of_the_file_system_works_and_one_over_it_is_a_sentence(tmp_path: Path) -> None:
    write_text_whole(tmp_path / ("é" * 127), "x")
    assert names(tmp_path) == ["é" * 127]
    with pytest.raises(UserError, match=r"too long.*shorter name"):
        write_text_whole(tmp_path / ("é" * 128), "x")
    assert names(tmp_path) == ["é" * 127]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write_text_whole(tmp_path / "real" / "a.json", "1")
    (tmp_path / "link.json").symlink_to(tmp_path / "real" / "a.json")
    write_text_whole(tmp_path / "link.json", "2")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real" / "a.json").read_text() == "2"


def test_the_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_text_whole(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_what_a_killed_writer_left_is_found_and_removed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from engine.atomic import whole_file\n"
        "with whole_file(sys.argv[1]) as part:\n"
        "    part.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    write_bytes_whole(tmp_path / "a.bin", b"old")
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.bin")], check=False)
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    assert len(remove_leftovers(tmp_path)) == 1
    assert names(tmp_path) == ["a.bin"]


def test_an_error_of_rust_code_is_understood_and_other_errors_are_not_touched() -> None:
    assert storage_refusal(RuntimeError("I/O error: No space left on device (os error 28)"), Path("x")) is not None
    assert storage_refusal(RuntimeError("shape mismatch"), Path("x")) is None
    assert storage_refusal(FileNotFoundError(2, "no such file"), Path("x")) is None
