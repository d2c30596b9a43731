"""The tools in a real browser: look, do, undo; a captioner at work; the report; the same job after a reload."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from captioning.rename import Settings as RenameSettings
from engine import event_log, events
from engine.preset import ROOT
from engine.queue import Queue
from engine.tools import jobs
from tests.browser import Server
from tests.captioning_models import BLUE, RED, picture, write_tagger
from tests.pages import WAIT_MS, entry, open_page, tab
from ui.form import field_id

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ATTACK = "<img src=x onerror=\"document.title='taken'\">"


@pytest.fixture
def home(cleared_home: Path) -> Path:
    return cleared_home


@pytest.fixture
def server(page_server: Server, home: Path) -> Server:
    return page_server


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A training folder with the demo's first pictures."""
    source = ROOT / "demo" / "images" / "10_zkt blob"
    folder = tmp_path / "set" / source.name
    folder.mkdir(parents=True)
    for file in sorted(source.iterdir())[:6]:
        shutil.copy(file, folder / file.name)
    return folder.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def choose_folder(page: Page, folder: Path) -> None:
    entry(page, "data.folder").fill(str(folder))
    expect(page.locator("#plan-sentence")).to_contain_text("images", timeout=WAIT_MS)


def test_renaming_is_shown_done_and_undone(server: Server, page: Page, pictures: Path) -> None:
    before = contents(pictures)
    open_page(page, server.url)
    choose_folder(page, pictures)
    page.click("#part-prepare-button")
    page.locator("#prepare-tool").get_by_label("Renaming").check()
    pattern = page.locator(f"#{field_id('tool.rename.pattern')} input")
    pattern.fill("{nonsense}")
    page.click("#prepare-look")
    expect(page.locator(f"#{field_id('tool.rename.pattern')} .problem-text")).to_be_visible(timeout=WAIT_MS)

    pattern.fill("blob_{n:03}")
    page.click("#prepare-look")
    expect(page.locator("#prepare-proposal table.files")).to_contain_text("blob_001.png", timeout=WAIT_MS)
    assert contents(pictures) == before
    page.click("#prepare-go")
    expect(page.locator("#prepare-state h3")).to_contain_text("done", timeout=WAIT_MS)
    assert set(contents(pictures).values()) == set(before.values())
    assert "10_zkt blob/blob_001.txt" in contents(pictures)

    page.click("#prepare-undo")
    page.click("#prepare-sure")
    expect(page.locator("#prepare-state h3")).to_contain_text("undone", timeout=WAIT_MS)
    assert contents(pictures) == before


def test_each_tool_shows_what_it_would_do_and_what_arranging_made_is_taken_over(
    server: Server, page: Page, pictures: Path
) -> None:
    general = pictures / "reg" / "1_shape"
    shutil.copytree(ROOT / "demo" / "images" / "10_zkt blob", general, ignore=lambda _, names: sorted(names)[2:])
    (pictures / "10_zkt blob" / ".DS_Store").write_bytes(b"x")
    before = contents(pictures)
    open_page(page, server.url)
    choose_folder(page, pictures)
    page.click("#part-prepare-button")
    shown = page.locator("#prepare-proposal")
    for tool, text in (
        ("Captions from names", "zkt"),
        ("Clean up", ".DS_Store"),
        ("Crop and resize", "(cropped)"),
        ("Balancing", "has one class only"),
        ("Arranging", "set-arranged"),
    ):
        page.locator("#prepare-tool").get_by_label(tool).check()
        page.click("#prepare-look")
        expect(shown).to_contain_text(text, timeout=WAIT_MS)
    assert contents(pictures) == before
    page.click("#prepare-go")
    page.click("#prepare-use", timeout=WAIT_MS)
    made = pictures.with_name("set-arranged")
    for path, folder in (("data.folder", "train"), ("data.regularization_folder", "regularization")):
        expect(entry(page, path)).to_have_value(str(made / folder), timeout=WAIT_MS)
    assert contents(pictures) == before


def test_a_captioner_is_tried_put_into_the_queue_and_then_writes(
    home: Path, server: Server, page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "set" / "5_square"
    for name, color in (("a", RED), ("b", BLUE), (ATTACK.replace("/", ""), RED)):
        picture(folder / f"{name}.png", color)
    tagger = write_tagger(tmp_path / "tagger")
    open_page(page, server.url)
    choose_folder(page, folder.parent)
    tab(page, "captions")
    page.click("#part-captioner-button")
    page.click("#caption-try")
    model = page.locator(f"#{field_id('tool.caption.model')}")
    expect(model.locator(".problem-text")).to_be_visible(timeout=WAIT_MS)

    model.locator("input").fill(str(tagger))
    page.locator(f"#{field_id('tool.caption.trigger')} input").fill("zkt")
    page.click("#caption-try")
    tried = page.locator("#caption-state .tried figcaption")
    expect(tried.filter(has_text="zkt, 1girl, red background")).to_have_count(2, timeout=WAIT_MS)
    assert list(folder.glob("*.txt")) == []

    Queue(home / "queue").pause()
    page.click("#caption-look")
    page.click("#caption-queue", timeout=WAIT_MS)
    expect(page.locator("#caption-state .detail")).to_have_text("waits in the queue", timeout=WAIT_MS)
    (waiting,) = Queue(home / "queue").entries()
    assert (waiting.kind, waiting.title, list(folder.glob("*.txt"))) == ("job", "Writing captions: set", [])

    page.click("#caption-look")
    page.click("#caption-go", timeout=WAIT_MS)
    expect(page.locator("#caption-state h3")).to_have_text("Writing captions: done", timeout=WAIT_MS)
    assert (folder / "b.txt").read_text(encoding="utf-8") == "zkt, 1girl, blue background, >_<\n"
    assert len(list(folder.glob("*.txt"))) == 3
    assert page.title() == "Atelier"  # no file name became HTML


def test_the_report_names_what_is_wrong_with_a_data_set(server: Server, page: Page, pictures: Path) -> None:
    subset = pictures / "10_zkt blob"
    shutil.copy(subset / "zkt_01.png", subset / f"{ATTACK}.png")
    (subset / "broken.png").write_bytes(b"no picture")
    open_page(page, server.url)
    choose_folder(page, pictures)
    page.click("#part-report-button")
    expect(page.locator("#report .twins figure")).to_have_count(2, timeout=WAIT_MS)
    lists = page.locator("#report .lists")
    lists.get_by_text("1 image without a caption").click()
    expect(lists).to_contain_text(f"{ATTACK}.png")
    expect(lists).to_contain_text("1 image that cannot be used")
    expect(page.locator("#report table", has_text="a zkt blob on a white background")).to_be_visible()
    assert page.title() == "Atelier"


def test_a_job_that_runs_is_shown_again_after_a_reload(server: Server, page: Page, pictures: Path) -> None:
    job = jobs.create("rename", RenameSettings(folder=str(pictures)))
    log = event_log.EventLog(job.events)
    with jobs.held(job):
        log.emit(events.Stage("Renaming"))
        log.emit(events.Progress("Renaming", 40, 120))
        for _ in range(2):
            open_page(page, server.url)
            page.click("#part-prepare-button")
            expect(page.locator("#prepare-state .detail")).to_have_text("40 of 120", timeout=WAIT_MS)
        log.emit(events.Progress("Renaming", 80, 120))
        expect(page.locator("#prepare-state .detail")).to_have_text("80 of 120", timeout=WAIT_MS)
        page.click("#prepare-stop")
        expect(page.locator("#prepare-state .detail")).to_contain_text("stopping", timeout=WAIT_MS)
        assert job.stop_request.exists()
        log.emit(events.Stopped(80))
    expect(page.locator("#prepare-state h3")).to_contain_text("stopped", timeout=WAIT_MS)
