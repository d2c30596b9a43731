"""The tool `clean`: what goes, what stays, that nothing is lost and everything comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import FAULTS, LAYOUTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tool_runs import actions, below, carry_out, contents, files, make, png, propose, undo

from engine.data.folders import list_folders
from engine.errors import DatasetError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.clean.cache_folder", lambda: tmp_path / "cache")


def gone(data: Path, **values) -> dict[str, str]:
    """Note of each row, by the path below the folder."""
    return {below(row.source, data): row.note for row in propose("clean", folder=data, **values).rows}


def scene(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((240, 160), Image.Resampling.BICUBIC)


def test_a_folder_with_every_fault(tmp_path: Path):
    data = make(
        tmp_path / "set",
        {
            "10_x/a.png": png(1),
            "10_x/a.txt": "a caption",
            "10_x/copy of a.png": png(1),
            "10_x/cut.png": png(2)[:60],
            "10_x/cut.txt": "goes along",
            "10_x/zero.jpg": b"",
            "10_x/lost.txt": "its image went away",
            "10_x/README.txt": "no caption",
            "10_x/.ipynb_checkpoints/a-checkpoint.png": png(3),
            "__MACOSX/10_x/._a.png": b"mac",
            "10_x/._a.png": b"mac",
            "10_x/Thumbs.db": b"windows",
            ".git/config": "somebody's work",
            "mirror/b.txt": "captions of another tree",
        },
    )
    found = gone(data)
    assert {name: note.split(";")[0].split(":")[0] for name, note in found.items()} == {
        "10_x/._a.png": "left by a system or tool",
        "10_x/.ipynb_checkpoints": "left by a system or tool",
        "10_x/Thumbs.db": "left by a system or tool",
        "10_x/copy of a.png": f"the same file as {data}/10_x/a.png",
        "10_x/cut.png": "broken",
        "10_x/cut.txt": "the caption of cut.png",
        "10_x/lost.txt": "a caption without an image of its name",
        "10_x/zero.jpg": "broken",
        "__MACOSX": "left by a system or tool",
    }
    before = contents(tmp_path / "set")
    code, job = carry_out(tmp_path / "job", "clean", folder=data)
    aside = tmp_path / "set (set aside)"
    assert code == 0
    assert {*files(data), *files(aside)} == {name for name in before if not name.endswith("/")}
    assert not files(data).keys() & files(aside).keys()
    assert all(before[name] == content for name, content in {**files(data), **files(aside)}.items())
    assert {name for name, _, _ in actions(propose("clean", folder=data), data)} == set()
    assert undo(job).failed == []
    assert contents(data) == before and not aside.exists()


def test_each_kind_can_be_left_out(tmp_path: Path):
    data = make(
        tmp_path / "set",
        {"a.png": png(1), "b.png": png(1), "c.jpg": b"no image", "stray.txt": "x", "Thumbs.db": b"w"},
    )
    kinds = {"left_behind": "Thumbs.db", "broken": "c.jpg", "duplicates": "b.png", "stray_captions": "stray.txt"}
    assert {*gone(data)} == {*kinds.values()}
    for kind, name in kinds.items():
        assert {*gone(data, **{kind: False})} == {*kinds.values()} - {name}


def test_of_twins_the_one_with_a_caption_stays(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1), "b.png": png(1), "b.txt": "said"})
    assert {*gone(data)} == {"a.png"}


def test_twins_with_different_captions_both_stay_and_are_told(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1), "a.txt": "one", "b.png": png(1), "b.txt": "two"})
    proposal = propose("clean", folder=data)
    assert proposal.rows == ()
    assert "another caption, so both stay" in proposal.warnings[0].message


def test_a_twin_takes_its_own_caption_along_but_not_a_shared_one(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1), "a.txt": "x", "b.png": png(1), "b.txt": "x", "c.png": png(1)})
    data = make(data, {"c.jpg": b"", "c.txt": "x", "c.webp": png(2)})
    assert {*gone(data)} == {"b.png", "b.txt", "c.png", "c.jpg"}


def test_nearly_the_same_pictures_only_where_asked_and_the_largest_stays(tmp_path: Path):
    data = tmp_path / "set"
    data.mkdir()
    scene(1).resize((120, 80)).save(data / "a_small.png")
    scene(1).save(data / "large.png")
    scene(1).save(data / "saved_again.jpg", quality=50)
    scene(2).save(data / "other.png")
    assert gone(data) == {}
    found = gone(data, near_same=True)
    assert {*found} == {"a_small.png", "saved_again.jpg"}
    assert f"as {data}/large.png" in found["a_small.png"]


def test_files_of_the_same_name_from_before_are_not_overwritten(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1), "b.jpg": b"broken one"})
    carry_out(tmp_path / "job1", "clean", folder=data)
    make(data, {"b.jpg": b"broken two"})
    code, _ = carry_out(tmp_path / "job2", "clean", folder=data)
    assert code == 0
    assert files(tmp_path / "set (set aside)") == {"b.jpg": b"broken one", "b (2).jpg": b"broken two"}


def test_a_twin_whose_kept_copy_went_away_stays(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1), "b.png": png(1)})
    from captioning import clean
    from engine.tools import jobs
    from engine.tools.working import JobReport

    settings = clean.Settings(folder=str(data))
    proposal = clean.propose(settings)
    (data / "a.png").unlink()
    report = JobReport(jobs.create("clean", settings, tmp_path / "job"))
    clean.carry_out(proposal, settings, report)
    report.close()
    assert report.outcomes == {"failed": 1} and (data / "b.png").exists()


def test_the_quarantine_of_a_subset_lies_outside_of_the_training_folder(tmp_path: Path):
    data = make(tmp_path / "train", {"10_x/a.png": png(1), "10_x/b.jpg": b"broken"})
    [row] = propose("clean", folder=data / "10_x").rows
    assert Path(row.target) == tmp_path / "train (set aside)" / "10_x" / "b.jpg"
    chosen = data / "5_x (set aside)"
    carry_out(tmp_path / "job", "clean", folder=data / "10_x", target=chosen)
    assert [listing.name for listing in list_folders(data)[0]] == ["10_x"]


def test_links_are_neither_moved_nor_taken_for_copies(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1)})
    (data / "link.png").symlink_to("a.png")
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / "elsewhere", {"b.jpg": b"broken"})
    (data / "thumbs").symlink_to(tmp_path / "elsewhere")
    (data / "more").symlink_to(tmp_path / "elsewhere")
    assert gone(data) == {}


def test_what_cannot_be_read_is_told_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = make(tmp_path / "set", {"a.png": png(1), "b.png": png(2)})

    def fails(path, *_):
        raise DatasetError("does not fit into memory.", str(path)) from MemoryError()

    monkeypatch.setattr("engine.data.looks.open_small", fails)
    proposal = propose("clean", folder=data)
    assert proposal.rows == () and len(proposal.warnings) == 2
    monkeypatch.undo()
    monkeypatch.setattr("captioning.clean.cache_folder", lambda: tmp_path / "cache")
    assert propose("clean", folder=data).warnings == ()


def test_folders_that_cannot_be_used_are_told(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": png(1)})
    with pytest.raises(UserError, match="no folder is given"):
        propose("clean")
    with pytest.raises(UserError, match="no such folder"):
        propose("clean", folder=tmp_path / "nowhere")
    with pytest.raises(UserError, match="lies in the folder that is cleaned up"):
        propose("clean", folder=data, target=data / "aside")
    assert propose("clean", folder=data).summary.startswith("Nothing in ")


def test_a_stop_leaves_the_rest(tmp_path: Path):
    data = make(tmp_path / "set", {f"{n}.jpg": b"broken" for n in range(3)})
    (tmp_path / "job" / "requests").mkdir(parents=True)
    (tmp_path / "job" / "requests" / "stop").touch()
    code, _ = carry_out(tmp_path / "job", "clean", folder=data)
    assert code == 0 and len(files(data)) == 3


CORPUS = {**LAYOUTS, **FAULTS}
SMALL = {"width_px": 64, "height_px": 64, "bucket_min_px": 64, "bucket_max_px": 64, "processes": 1}


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("tool", ["clean", "crop"])
def test_no_folder_of_the_corpus_loses_a_byte_and_undo_restores_it(tmp_path: Path, tool: str, name: str):
    data = make(tmp_path / "top" / "set", CORPUS[name].files)
    before = contents(tmp_path / "top")
    values = SMALL if tool == "crop" else {"near_same": True}
    try:
        propose(tool, folder=data, **values)
    except UserError as error:
        assert str(error).endswith(".")
        return
    assert contents(tmp_path / "top") == before
    _, job = carry_out(tmp_path / "job", tool, folder=data, **values)
    after = files(tmp_path / "top")
    if tool == "clean":
        assert sorted(after.values()) == sorted(raw for path, raw in before.items() if not path.endswith("/"))
    else:
        assert {path: raw for path, raw in after.items() if path in before}.items() <= before.items()
        assert all(path in after for path in before if not path.endswith("/"))
    if job.journal.exists():
        assert undo(job).failed == []
    assert contents(tmp_path / "top") == before


PICTURES = st.dictionaries(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "2_a/", "deep/thumbs/", ".ipynb_checkpoints/"]),
        st.sampled_from(["x", "X", "日本", "🎈"]),
        st.sampled_from([".png", ".jpg", ".txt", ".caption"]),
    ),
    st.sampled_from([png(1), png(2), png(1)[:40], b"", b"text"]),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=PICTURES)
def test_every_clean_up_keeps_each_content_and_is_undone(tmp_path_factory, tree: dict[str, bytes]):
    top = tmp_path_factory.mktemp("top")
    data = make(top / "set", {"2_a/always.png": png(3), **tree})
    before = contents(top)
    _, job = carry_out(tmp_path_factory.mktemp("job"), "clean", folder=data)
    assert sorted(files(top).values()) == sorted(raw for path, raw in before.items() if not path.endswith("/"))
    left = {raw for path, raw in files(data).items() if path.endswith((".png", ".jpg"))}
    assert {png(n) for n in (1, 2) if png(n) in _trained(before)} <= left
    assert propose("clean", folder=data).rows == ()
    if job.journal.exists():
        assert undo(job).failed == []
    assert contents(top) == before


def _trained(before: dict[str, bytes]) -> set[bytes]:
    """The pictures that lay where training looks for them."""
    hidden = ("thumbs/", ".ipynb_checkpoints/")
    return {
        raw for path, raw in before.items() if path.endswith((".png", ".jpg")) and not any(h in path for h in hidden)
    }
