"""Captions for the images of a folder while a captioner works: faults, stops, edits meanwhile, and the journal."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from captioning_models import picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.caption_files import caption_text, survey
from captioning.job import Captioning
from captioning.wording import Wording, appended
from engine.errors import UserError
from engine.tools import journal
from engine.tools.jobs import Done, JobFolder
from engine.tools.working import JobReport


class Stubborn:
    """A captioner that cannot bear wide images, neither alone nor in a batch."""

    side_px = 100

    def __init__(self, fault: BaseException) -> None:
        self.fault = fault

    def prepare(self, image: Image.Image) -> Image.Image:
        return image

    def caption(self, prepared: Sequence[Image.Image]) -> list[str]:
        if any(image.width > 30 for image in prepared):
            raise self.fault
        return [f"line one\nand\ttwo of {image.width}" for image in prepared]


def work(folder: Path, captioner: Stubborn, batch: int = 1, report: JobReport | None = None) -> JobReport:
    report = report or JobReport(new_job(folder.parent))
    Captioning(captioner, Wording(), batch, report).run(survey(folder, ".txt", "only empty").items)
    return report


def new_job(folder: Path) -> JobFolder:
    (folder / "job").mkdir()
    return JobFolder(folder / "job")


def told(report: JobReport, outcome: str) -> list[Done]:
    return [done for done in report.job.read_table()[0] if done.outcome == outcome]


def names(report: JobReport, outcome: str) -> list[str]:
    return [Path(done.row.source).name for done in told(report, outcome)]


@pytest.mark.parametrize(("fault", "code"), [(RuntimeError("odd shape"), 1), (UserError("odd shape"), 2)])
def test_a_captioner_that_fails_on_one_image_captions_the_others_of_its_batch(tmp_path: Path, fault, code: int):
    for number in range(5):
        picture(tmp_path / "data" / f"{number}.png", size_px=(40 if number == 2 else 20, 20))
    report = work(tmp_path / "data", Stubborn(fault), batch=3)
    assert report.finish(0) == code
    assert names(report, "done") == ["0.png", "1.png", "3.png", "4.png"]
    assert [done.row.note for done in told(report, "failed")] == ["the captioner failed (odd shape)."]
    assert names(report, "failed") == ["2.png"]
    assert (tmp_path / "data" / "4.txt").read_text() == "line one and two of 20\n"


def test_large_images_come_reduced_to_no_less_than_twice_what_the_model_sees(tmp_path: Path):
    seen: list[tuple[int, int]] = []

    class Small(Stubborn):
        side_px = 5

        def prepare(self, image: Image.Image) -> Image.Image:
            seen.append(image.size)
            return image

    picture(tmp_path / "data" / "a.jpg", size_px=(400, 90))
    picture(tmp_path / "data" / "b.png", size_px=(19, 12))
    work(tmp_path / "data", Small(ValueError()))
    assert sorted(seen) == [(19, 12), (50, 12)]


def test_a_stop_ends_between_two_batches(tmp_path: Path):
    for number in range(4):
        picture(tmp_path / "data" / f"{number}.png")
    report = JobReport(new_job(tmp_path))

    class Stopper(Stubborn):
        def caption(self, prepared: Sequence[Image.Image]) -> list[str]:
            report.job.request_stop()
            return super().caption(prepared)

    work(tmp_path / "data", Stopper(ValueError()), 2, report)
    assert (report.finish(0), report.job.status()) == (0, "stopped")
    assert sorted(path.name for path in (tmp_path / "data").glob("*.txt")) == ["0.txt", "1.txt"]


def test_a_caption_edited_while_the_captioner_works_is_kept(tmp_path: Path):
    picture(tmp_path / "data" / "a.png")

    class Slow(Stubborn):
        def caption(self, prepared: Sequence[Image.Image]) -> list[str]:
            (tmp_path / "data" / "a.txt").write_text("typed meanwhile")
            return super().caption(prepared)

    assert names(work(tmp_path / "data", Slow(ValueError())), "kept") == ["a.png"]
    assert (tmp_path / "data" / "a.txt").read_text() == "typed meanwhile"


def test_a_journal_that_cannot_take_an_entry_stops_the_write_and_stays_readable(tmp_path: Path, monkeypatch):
    for number in range(3):
        picture(tmp_path / "data" / f"{number}.png")
    sync, calls = os.fsync, iter([False, True, False])

    def sometimes_full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == journal.FILE_NAME and next(calls):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    report = JobReport(new_job(tmp_path))
    report.journal.prepare()
    monkeypatch.setattr(os, "fsync", sometimes_full)
    work(tmp_path / "data", Stubborn(ValueError()), report=report)
    assert names(report, "done") == ["0.png", "2.png"]
    assert "the disk is full" in told(report, "failed")[0].row.note
    assert [entry.deed.path.name for entry in journal.read(report.journal.path)] == ["0.txt", "2.txt"]
    assert not (tmp_path / "data" / "1.txt").exists()


def test_a_journal_of_the_first_format_can_be_undone_also_where_its_last_line_is_torn(tmp_path: Path):
    caption = tmp_path / "a.txt"
    line = {"v": 1, "time": "2026", "path": str(caption), "old": "b2xk", "new": "new\n"}
    (tmp_path / "x.jsonl").write_bytes(json.dumps(line).encode() + b'\n{"v": 1, "time": "2026')
    caption.write_bytes(b"new\n")
    assert journal.undo(tmp_path / "x.jsonl").restored == [caption]
    assert caption.read_bytes() == b"old"
    assert journal.redo(tmp_path / "x.jsonl").restored == [caption]
    assert caption.read_bytes() == b"new\n"


@pytest.mark.parametrize("content", [b"[1]\n", b"nonsense\n", b'{"v": 9, "path": "x", "old": null, "new": ""}\n'])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(UserError, match="line 1 is"):
        journal.undo(tmp_path / "x.jsonl")


WORDS = st.lists(st.sampled_from(["cat", "Dog", "red hat", "o_o", "日本"]), max_size=5).map(", ".join)


@given(old=st.one_of(WORDS, st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)), new=WORDS)
def test_appending_twice_is_appending_once_and_loses_no_word(old: str, new: str):
    once = appended(old, new)
    assert appended(once, new) == once
    line = caption_text(once.encode("utf-8", errors="replace"))
    assert all(part in line.lower() for part in new.lower().split(", ")) or not new
