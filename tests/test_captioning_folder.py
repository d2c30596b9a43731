"""`python -m captioning` on folders: what is written, kept and named, and that every write can be undone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from captioning_models import BLUE, RED, picture, write_tagger
from conftest import ROOT

from captioning import caption_tool
from captioning.__main__ import main
from captioning.caption_files import survey
from engine.errors import DatasetError
from engine.tools import jobs
from engine.tools.tool import make_settings
from tests import rights

RED_TAGS, BLUE_TAGS = "red background, 1girl, >_<, hatsune miku", "blue background, 1girl, >_<"


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagger(tmp_path_factory.mktemp("wd"))


@pytest.fixture
def run(tagger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run the command line; gives exit code, stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(part) for part in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    def caption(folder: Path, *changes: str, model: Path = tagger) -> tuple[int, str, str]:
        values = (f"model={model}", *changes)
        job = tmp_path / "jobs" / str(len(journals(tmp_path)))
        return call("caption", folder, "--job", job, *(part for value in values for part in ("--set", value)))

    caption.call = call
    return caption


def square(path: Path, color: tuple[int, int, int] = RED) -> Path:
    return picture(path, color, (20, 20))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def journals(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "jobs").glob("*/journal.jsonl"))


def test_every_image_that_training_sees_gets_its_caption_and_nothing_else_changes(run, tmp_path: Path):
    data = tmp_path / "data"
    square(data / "a.png")
    square(data / "10_cat" / "b.PNG", BLUE)
    square(data / "deep" / "5_dog" / "图🎈.png")
    square(data / ".hidden" / "c.png")
    before = contents(data)
    code, out, err = run(data)
    assert (code, err) == (0, "")
    new = {name: text.decode() for name, text in contents(data).items() if name not in before}
    assert new == {
        "a.txt": RED_TAGS + "\n",
        "10_cat/b.txt": BLUE_TAGS + "\n",
        "deep/5_dog/图🎈.txt": RED_TAGS + "\n",
    }
    assert {name: raw for name, raw in contents(data).items() if name in before} == before
    assert "3 done, " in out


def test_missing_and_empty_captions_are_written_by_default(run, tmp_path: Path):
    data = tmp_path / "data"
    for name in ("a", "b", "c", "d"):
        square(data / f"{name}.png")
    (data / "a.txt").write_bytes(b"\xef\xbb\xbfmine\r\n")
    (data / "b.TXT").write_bytes(b"loud")
    (data / "c.txt").write_bytes(b" \r\n")
    code, out, _ = run(data)
    assert code == 0
    assert (data / "a.txt").read_bytes() == b"\xef\xbb\xbfmine\r\n"
    assert (data / "b.TXT").read_bytes() == b"loud"
    assert not (data / "b.txt").exists()
    assert (data / "c.txt").read_text() == (data / "d.txt").read_text() == RED_TAGS + "\n"
    assert "2 done, 2 kept, 0 failed" in out


def test_keep_leaves_every_file_and_writes_only_missing_captions(run, tmp_path: Path):
    data = tmp_path / "data"
    for name in ("a", "b", "c"):
        square(data / f"{name}.png")
    (data / "a.txt").write_bytes(b"mine")
    (data / "b.txt").write_bytes(b"")
    assert run(data, "existing=keep")[0] == 0
    assert [(data / f"{name}.txt").read_text() for name in "abc"] == ["mine", "", RED_TAGS + "\n"]


def test_the_trigger_comes_first_and_fixed_tags_stand_around_whatever_is_there(run, tmp_path: Path):
    data = tmp_path / "data"
    square(data / "a.png")
    (data / "a.txt").write_text("blurry, QZY, 1girl")
    changes = ("existing=prepend", "trigger=qzy", "before=photo", "after=1girl, black background")
    for _ in range(2):
        assert run(data, *changes)[0] == 0
        assert (data / "a.txt").read_text() == (
            "qzy, photo, red background, >_<, hatsune miku, black background, blurry, 1girl\n"
        )


def test_a_preview_shows_what_would_be_written_and_writes_nothing(run, tmp_path: Path):
    data = tmp_path / "data"
    for number in range(5):
        square(data / f"{number}.png", BLUE if number == 4 else RED)
    (data / "0.txt").write_text("mine")
    before = contents(data)
    code, out, _ = run(data, "preview=3", "trigger=qzy", "existing=append")
    assert (code, contents(data), journals(tmp_path)) == (0, before, [])
    shown = json.loads((tmp_path / "jobs" / "0" / "preview.json").read_text())
    assert [Path(entry["image"]).name for entry in shown] == ["0.png", "2.png", "4.png"]
    assert [entry["new"] for entry in shown] == [f"qzy, mine, {RED_TAGS}", f"qzy, {RED_TAGS}", f"qzy, {BLUE_TAGS}"]
    assert (shown[0]["old"], shown[0]["said"]) == ("mine", RED_TAGS)
    assert f"4.png: qzy, {BLUE_TAGS}" in out


def test_faults_of_the_captioners_settings_are_told_before_a_model_is_loaded(run, tmp_path: Path):
    square(tmp_path / "data" / "a.png")
    code, _, err = run(tmp_path / "data", "wd.order=everything", model=tmp_path / "nowhere")
    assert code == 2
    assert "wd.order: must name some of" in err
    assert "nowhere" not in err


def test_nothing_to_do_loads_no_model_and_leaves_no_journal(run, tmp_path: Path):
    square(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "a.txt").write_text("mine")
    assert run(tmp_path / "data", model=tmp_path / "nowhere")[0] == 0
    assert journals(tmp_path) == []


def test_append_adds_to_the_first_line_what_is_not_there_and_twice_is_once(run, tmp_path: Path):
    data = tmp_path / "data"
    square(data / "a.png")
    (data / "a.txt").write_bytes("\ufeffqzy cat, 1girl,\r\nsecond line".encode("utf-16-le"))
    assert run(data, "existing=append")[0] == 0
    expected = "qzy cat, 1girl, red background, >_<, hatsune miku\nsecond line\n"
    assert (data / "a.txt").read_bytes() == expected.encode()
    code, out, _ = run(data, "existing=append")
    assert (code, (data / "a.txt").read_bytes()) == (0, expected.encode())
    assert "0 done, 1 kept" in out
    assert len(journals(tmp_path)) == 1


@pytest.mark.parametrize(
    ("existing", "writes"), [("replace", 7), ("append", 7), ("prepend", 7), ("only empty", 3), ("keep", 1)]
)
def test_undo_restores_every_byte(run, tmp_path: Path, existing: str, writes: int):
    data = tmp_path / "data"
    old = (b"\xff\xfeh\x00i\x00", b"caf\xe9, cat", b"", b"\n \n", b"\xef\xbb\xbfutf\r\nlines\r\n", None, b"tail  ")
    for number, raw in enumerate(old):
        square(data / f"{number % 2}_x" / f"i{number}.png", BLUE if number % 2 else RED)
        if raw is not None:
            (data / f"{number % 2}_x" / f"i{number}.txt").write_bytes(raw)
    before = contents(data)
    assert run(data, f"existing={existing}")[0] == 0
    assert contents(data) != before
    code, out, _ = run.call("undo", journals(tmp_path)[0])
    assert (code, contents(data)) == (0, before)
    assert f"restored {writes}" in out
    code, out, _ = run.call("undo", journals(tmp_path)[0])
    assert (code, contents(data)) == (0, before)
    assert "restored 0" in out


def test_undo_never_goes_over_an_edit_that_came_later(run, tmp_path: Path):
    data = tmp_path / "data"
    for name in ("a", "b"):
        square(data / f"{name}.png")
        (data / f"{name}.txt").write_text("old")
    run(data, "existing=replace")
    (data / "a.txt").write_text("edited by hand")
    code, out, err = run.call("undo", journals(tmp_path)[0])
    assert code == 2
    assert f"{data / 'a.txt'}: was edited since, so it is not restored." in err
    assert ((data / "a.txt").read_text(), (data / "b.txt").read_text()) == ("edited by hand", "old")
    assert "restored 1" in out


def test_a_broken_image_is_named_and_the_rest_is_done(run, tmp_path: Path):
    data = tmp_path / "data"
    for name in ("a", "c", "d"):
        square(data / f"{name}.png")
    (data / "b.png").write_bytes((data / "a.png").read_bytes()[:60])
    (data / "e.jpg").write_bytes(b"no image")
    (data / "f.png").symlink_to(data / "gone.png")
    code, out, err = run(data)
    assert code == 2
    assert [line.split(": ")[0] for line in err.splitlines()] == [
        str(data / name) for name in ("f.png", "b.png", "e.jpg")
    ]
    assert sorted(path.name for path in data.glob("*.txt")) == ["a.txt", "c.txt", "d.txt"]
    assert "3 done, 0 kept, 3 failed" in out


def test_two_images_of_one_caption_file_are_told(run, tmp_path: Path):
    square(tmp_path / "data" / "a.jpg", BLUE)
    square(tmp_path / "data" / "a.png")
    code, _, err = run(tmp_path / "data", "existing=replace")
    assert code == 2
    assert "a.png: has its caption in the same file as a.jpg. Rename one of the two." in err
    assert (tmp_path / "data" / "a.txt").read_text().startswith("blue")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A training folder with a part that may not be written to."""
    with rights.folder_for_anyone() as folder:
        square(folder / "1_locked" / "a.png")
        square(folder / "1_locked" / "b.png")
        (folder / "1_locked" / "b.txt").write_text("mine")
        square(folder / "1_open" / "c.png")
        (folder / "1_open").chmod(0o777)
        with rights.read_only(folder / "1_locked"):
            yield folder


def test_images_in_a_read_only_folder_are_named_before_the_work_and_the_rest_is_listed(read_only: Path):
    found = survey(read_only, ".txt", "keep")
    assert [item.image.name for item in found.items] == ["c.png"]
    assert [item.image.name for item in found.kept] == ["b.png"]
    assert [str(problem) for problem in found.failed] == [
        f"{read_only / '1_locked' / 'a.png'}: its folder may not be written to. Change its permissions."
    ]


@pytest.mark.parametrize(
    ("extension", "said"), [(".png", "belongs to images"), ("txt", "such as .txt"), ("./x", "such")]
)
def test_an_extension_that_could_hit_an_image_is_refused(run, tmp_path: Path, extension: str, said: str):
    square(tmp_path / "data" / "a.png")
    before = contents(tmp_path / "data")
    code, _, err = run(tmp_path / "data", f"extension={extension}", "existing=replace")
    assert code == 2
    assert said in err
    assert contents(tmp_path / "data") == before


def test_folders_without_images_and_unknown_ones_are_sentences(run, tmp_path: Path):
    code, _, err = run(tmp_path)
    assert code == 2
    assert "holds no images" in err
    with pytest.raises(DatasetError, match="there is no such folder"):
        survey(tmp_path / "nowhere", ".txt", "keep")


def test_an_incomplete_model_is_one_sentence_and_leaves_nothing_behind(run, tmp_path: Path):
    square(tmp_path / "data" / "a.png")
    (tmp_path / "model").mkdir()
    code, _, err = run(tmp_path / "data", model=tmp_path / "model")
    assert code == 2
    assert err.startswith(f"{tmp_path / 'model'}: the model is incomplete: model.onnx, selected_tags.csv missing.")
    assert len(err.splitlines()) == 1
    assert journals(tmp_path) == []


def test_an_image_without_any_tag_is_named_and_no_empty_caption_written(run, tmp_path: Path):
    square(tmp_path / "data" / "a.png")
    code, _, err = run(tmp_path / "data", "wd.general_threshold=1", "wd.character_threshold=1")
    assert code == 2
    assert "a.png: the captioner found nothing to say, so nothing was written." in err
    assert not (tmp_path / "data" / "a.txt").exists()


@pytest.mark.slow
def test_a_job_that_the_page_made_runs_as_a_program(tagger: Path, tmp_path: Path):
    square(tmp_path / "data" / "a.png")
    values = {"folder": str(tmp_path / "data"), "model": str(tagger), "batch": 2}
    job = jobs.create("caption", make_settings("caption", caption_tool.Settings, values), tmp_path / "job")
    assert job.status() == "new"
    done = subprocess.run([sys.executable, "-m", "captioning", "run", str(job.path)], cwd=ROOT, check=False)
    assert (done.returncode, job.status()) == (0, "finished")
    assert (tmp_path / "data" / "a.txt").is_file()


def test_what_is_lacking_is_asked_for(tagger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["caption", "--set", f"model={tagger}"]) == 2
    assert main(["caption", str(square(tmp_path / "a.png").parent)]) == 2
    assert [line.split(".")[0] for line in capsys.readouterr().err.splitlines()] == [
        "folder: is empty",
        "model: is empty",
    ]
