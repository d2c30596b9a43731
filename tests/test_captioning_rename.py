"""The tool `rename`: names after folders and patterns, nothing overwritten, everything goes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tool_runs import actions, below, carry_out, contents, failure, files, make, nfd, propose, undo

from captioning.name_patterns import parse_pattern
from captioning.rename_order import Renaming, in_order
from engine.errors import DatasetError, UserError
from engine.tools import jobs, journal
from engine.tools.journal import Journal


def test_images_are_numbered_after_their_folders_and_captions_go_along(tmp_path: Path):
    data = make(
        tmp_path / "qzy",
        {
            "flawed/spot/z10.jpg": None,
            "flawed/spot/z9.jpg": None,
            "flawed/spot/z9.txt": "a spot",
            "flawed/spot/z9.caption": "long",
            "10_good/a.PNG": None,
            "10_good/notes.txt": "no image is called so",
        },
    )
    before = contents(tmp_path)
    proposal = propose("rename", folder=data)
    assert contents(tmp_path) == before
    assert actions(proposal, data) == [
        ("10_good/a.PNG", "rename", "10_good/qzy_good_01.PNG"),
        ("flawed/spot/z9.jpg", "rename", "flawed/spot/qzy_flawed_spot_01.jpg"),
        ("flawed/spot/z9.caption", "rename", "flawed/spot/qzy_flawed_spot_01.caption"),
        ("flawed/spot/z9.txt", "rename", "flawed/spot/qzy_flawed_spot_01.txt"),
        ("flawed/spot/z10.jpg", "rename", "flawed/spot/qzy_flawed_spot_02.jpg"),
    ]
    code, job = carry_out(tmp_path.parent / f"{tmp_path.name}-job", "rename", folder=data)
    assert code == 0
    expected = {below(row.target, data): before["qzy/" + below(row.source, data)] for row in proposal.rows}
    assert files(data) == {**expected, "10_good/notes.txt": b"no image is called so"}
    again = propose("rename", folder=data)
    assert {row.action for row in again.rows} == {"keep"}
    assert undo(job).failed == []
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{class}_{n:03}", "cat_001.png"),
        ("{parent}-{stem}", "10_cat-old.png"),
        ("{stem} {n}", "old 1.png"),
        ("x{{{n}}}", "x{1}.png"),
        ("{path}_{n:02}", "data_cat_01.png"),
    ],
)
def test_a_pattern_is_filled(tmp_path: Path, pattern: str, name: str):
    data = make(tmp_path / "data", {"10_cat/old.png": None})
    assert actions(propose("rename", folder=data, pattern=pattern), data)[0][2] == f"10_cat/{name}"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{clas}_{n}", r"unknown field \{clas\}.*There are \{path\}, \{class\}"),
        ("{n.real}", "unknown field"),
        ("{stem!r}{n}", "unknown field"),
        ("{}{n}", "unknown field"),
        ("{n", "brace without its partner"),
        ("{class}", "would call all images of a folder alike"),
        ("a/{n}", "holds '/'"),
        ("{class:5}{n}", "only {n:03} takes digits"),
        ("{n:{stem}}", "only {n:03} takes digits"),
    ],
)
def test_a_pattern_that_cannot_be_is_a_sentence(pattern: str, said: str):
    with pytest.raises(UserError, match=said):
        parse_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [(".{n}", "hidden"), ("con", "alike"), ("{n}.", "Windows"), ("{stem}" * 70 + "{n}", "too long")],
)
def test_names_that_disks_do_not_take_stop_it_before_anything_is_done(tmp_path: Path, pattern: str, said: str):
    data = make(tmp_path / "data", {"old.png": None})
    try:
        problems = [str(problem) for problem in propose("rename", folder=data, pattern=pattern).problems]
    except UserError as error:
        problems = [str(error)]
    assert said in problems[0]


def test_chains_and_names_of_strangers_are_no_obstacle(tmp_path: Path):
    names = {"a.png": None, "cat_01.png": None, "cat_01.txt": "one", "cat_02.png": None, "cat_03.txt": "a stranger's"}
    data = make(tmp_path / "cat", names)
    before = contents(data)
    code, job = carry_out(tmp_path / "job", "rename", folder=data)
    assert code == 0
    assert files(data) == {
        "cat_01.png": before["a.png"],
        "cat_02.png": before["cat_01.png"],
        "cat_02.txt": b"one",
        "cat_03.txt": b"a stranger's",
        "cat_04.png": before["cat_02.png"],
    }
    assert undo(job).failed == []
    assert contents(data) == before


def test_names_that_differ_in_case_or_unicode_form_only_change_places_over_a_spare_name(tmp_path: Path):
    data = make(
        tmp_path / "cat", {"CAT_02.png": None, "cat_01.png": None, f"{nfd('é')}.png": None, f"{nfd('é')}.txt": "e"}
    )
    before = contents(data)
    code, job = carry_out(tmp_path / "job", "rename", folder=data, pattern="{class}_{n:02}")
    assert code == 0
    assert sorted(files(data)) == ["cat_01.png", "cat_02.png", "cat_03.png", "cat_03.txt"]
    assert files(data)["cat_01.png"] == before["CAT_02.png"]
    assert undo(job).failed == []
    assert contents(data) == before


def test_images_that_share_a_caption_keep_sharing_it(tmp_path: Path):
    data = make(tmp_path / "cat", {"a.png": None, "a.jpg": None, "a.txt": "both", "b.png": None})
    carry_out(tmp_path / "job", "rename", folder=data)
    assert sorted(files(data)) == ["cat_01.jpg", "cat_01.png", "cat_01.txt", "cat_02.png"]


def test_masks_and_captions_in_folders_of_their_own_go_along(tmp_path: Path):
    data = make(tmp_path / "data", {"1_a/x.png": None, "1_b/x.png": None, "1_b/y.png": None})
    masks = make(tmp_path / "masks", {"1_a/x.png": None, "1_b/x.webp": b"mask", "y.png": None})
    texts = make(tmp_path / "texts", {"1_b/y.txt": "why"})
    code, job = carry_out(
        tmp_path / "job", "rename", folder=data, pattern="{class}{n}", companions=f"{masks}\n{texts}\n"
    )
    assert code == 0
    assert sorted(files(masks)) == ["1_a/a1.png", "1_b/b1.webp", "b2.png"]
    assert sorted(files(texts)) == ["1_b/b2.txt"]
    assert undo(job).failed == []
    assert sorted(files(masks)) == ["1_a/x.png", "1_b/x.webp", "y.png"]


def test_a_mask_of_two_images_cannot_go_along_with_both(tmp_path: Path):
    data = make(tmp_path / "data", {"1_a/x.png": None, "1_b/x.png": None})
    masks = make(tmp_path / "masks", {"x.png": None})
    problem = propose("rename", folder=data, companions=str(masks)).problems[0]
    assert "belongs to several images (1_a/x and 1_b/x)" in str(problem)


@pytest.mark.parametrize("others", [{"CAT-a.txt": "loud"}, {"cat-a.gif": b"gif"}])
def test_a_taken_name_is_told_and_nothing_done(tmp_path: Path, others: dict[str, str | bytes]):
    data = make(tmp_path / "cat", {"a.png": None, "a.txt": "cat", "a.gif": b"1", **others})
    before = contents(data)
    code, job = carry_out(tmp_path / "job", "rename", folder=data, pattern="{class}-{stem}")
    assert code == 2
    assert "would be called alike" in failure(job)
    assert contents(data) == before


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path):
    data = make(tmp_path / "cat", {"a.png": None})
    notes = Journal(tmp_path / "journal.jsonl")
    make(data, {"cat_01.png": b"another"})
    with pytest.raises(UserError, match="is there already and is never overwritten"):
        notes.move(data / "a.png", data / "cat_01.png")
    assert files(data)["cat_01.png"] == b"another"
    assert notes.entries == 0


def test_a_stop_leaves_no_spare_names_and_can_be_undone(tmp_path: Path):
    data = make(tmp_path / "cat", {f"{n}.png": None for n in range(4)})
    before = contents(data)
    job = jobs.create("rename", _settings(data), tmp_path / "job")
    job.request_stop()
    from captioning.working import work

    assert work(job) == 0
    assert job.status() == "stopped"
    assert contents(data) == before


def _settings(data: Path):
    from captioning.rename import Settings

    return Settings(folder=str(data))


@pytest.mark.parametrize("folder", ["", "nowhere", "empty"])
def test_a_folder_without_images_is_a_sentence(tmp_path: Path, folder: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises((DatasetError, UserError), match=r"is empty|no such folder|holds no images"):
        propose("rename", folder=tmp_path / folder if folder else "")


NAMES = st.sampled_from(["a.png", "A.png", "b.png", "B.PNG", "a.txt", "é.png", nfd("é") + ".png", "c.png", "d.txt"])


@given(st.data(), st.lists(NAMES, min_size=1, unique=True))
def test_any_bijection_is_carried_out_step_by_step_over_free_names(data: st.DataObject, names: list[str]):
    """Also where names go in circles; on a disk that knows case, and on one that does not."""
    folder = Path("/pictures")
    targets = [
        f"t{n}" if data.draw(st.booleans()) else name for n, name in enumerate(data.draw(st.permutations(names)))
    ]
    plain = {name.lower() for name in map(_nfc, targets)}
    if len(plain) < len(targets):  # two targets that one of those disks takes for the same are refused beforehand
        return
    disk = {folder / name: name for name in names}
    renamings = [Renaming((folder / a,), (folder / b,)) for a, b in zip(names, targets, strict=True)]
    for step in in_order(renamings):
        held = {_nfc(str(path)).lower() for path in disk if path != step.source}
        assert step.target not in disk
        assert _nfc(str(step.target)).lower() not in held
        disk[step.target] = disk.pop(step.source)
    assert disk == {folder / b: a for a, b in zip(names, targets, strict=True)}


def _nfc(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", text)


TREE = st.dictionaries(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "1_a/", "deep/kind/"]),
        st.sampled_from(["x", "X", "kind_01", "kind_02", "日本", "🎈", nfd("é"), "a b"]),
        st.sampled_from([".png", ".jpg", ".txt", ".caption", ".PNG"]),
    ),
    st.binary(min_size=1, max_size=3),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREE, pattern=st.sampled_from(["{path}_{n:02}", "{class}_{n}", "{stem}_{n}", "x-{stem}"]))
def test_renaming_is_a_bijection_and_undo_restores_every_byte(tmp_path_factory, tree: dict[str, bytes], pattern: str):
    folder = tmp_path_factory.mktemp("data")
    data = make(folder / "data", {"1_a/always.png": None, **tree})
    before = contents(data)
    code, job = carry_out(folder / "job", "rename", folder=data, pattern=pattern)
    assert sorted(files(data).values()) == sorted(content for name, content in before.items() if not name.endswith("/"))
    if code == 0:
        assert undo(job).failed == []
        assert contents(data) == before
        assert journal.redo(job.journal).failed == []
        undo(job)
    assert contents(data) == before


KILLED_RENAME = """
import sys
from engine.tools import journal, jobs
from captioning.working import work
sync, count = journal.append_lines, [0]
def slow(path, line):
    sync(path, line)
    count[0] += 1
    if count[0] == int(sys.argv[2]):
        print("here", flush=True)
        import time; time.sleep(60)
journal.append_lines = slow
work(jobs.JobFolder(__import__("pathlib").Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("deeds", [2, 3])
def test_kill_9_in_the_middle_then_undo_restores(tmp_path: Path, deeds: int):
    data = make(tmp_path / "cat", {"CAT_02.png": None, "cat_01.png": None, "cat_01.txt": "one", "z.png": None})
    before = contents(data)
    job = jobs.create("rename", _settings(data), tmp_path / "job")
    program = [sys.executable, "-c", KILLED_RENAME, str(job.path), str(deeds)]
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline() not in ("here\n", ""):
        time.sleep(0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert contents(data) != before
    assert job.status() == "killed"
    assert undo(job).failed == []
    assert contents(data) == before
