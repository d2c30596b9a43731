"""The Queue tab in a real browser: what is put into the queue is changed there, and past runs are compared and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from engine import event_log, events
from engine.preset import ROOT, load
from engine.queue import Queue, preset_of
from engine.run import create
from tests.browser import Server
from tests.pages import WAIT_MS, entry, open_page, tab, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = "<img src=x onerror=document.title='hacked'> & ${document.title='hacked'}"


@pytest.fixture
def past(cleared_home: Path) -> Path:
    """Two runs that ended, in the server's own runs folder, and a queue that starts nothing."""
    preset = load(ROOT / "presets" / "demo.json").changed({"run.folder": str(cleared_home / "runs")})
    for name, rank, losses in (("first", 4, (0.5, 0.4, 0.3)), ("second", 8, (0.6, 0.3, 0.2))):
        run = create(preset.changed({"run.name": name, "adapter.rank": rank}))
        log = event_log.EventLog(run.events)
        log.emit(events.Started(name, 3, 1, 3, 0, 1, "cpu"))
        log.emit(events.Sampled(0, 0, HOSTILE, 1, "samples/step-000000_00.png", 0.1))
        for step, loss in enumerate(losses, 1):
            log.emit(events.Step(step, 1, loss, {"unet": 1e-4}, None, 0.1, 1, 0))
        log.emit(events.Failed(HOSTILE, 2) if rank == 8 else events.Finished(3, "", 1.0))
        Image.new("RGB", (64, 64), "teal").save(run.samples / "step-000000_00.png")
        run.log.write_text(HOSTILE)
        (run.path / "note.txt").write_text(HOSTILE)
    Queue(cleared_home / "queue").pause()
    return cleared_home


def test_the_queue_and_the_history(page_server: Server, past: Path, page: Page) -> None:
    queue = Queue(past / "queue")
    open_page(page, page_server.url)
    for count in (1, 2):
        page.click("#queue-add")
        until(lambda count=count: len(queue.entries()) == count, f"{count} entries in the queue")
    first, second = queue.entries()
    tab(page, "queue")
    expect(page.locator("#queue-list li")).to_have_count(2, timeout=WAIT_MS)

    page.locator("#queue-list li").nth(1).get_by_role("button", name="Earlier").click()
    expect(page.locator("#queue-list li").first).to_have_attribute("data-entry", second.id, timeout=WAIT_MS)
    assert [entry.id for entry in queue.entries()] == [second.id, first.id]
    page.locator("#queue-list li").first.get_by_role("button", name="Load it").click()
    expect(page.locator("#start-message")).to_contain_text("is in the form", timeout=30_000)
    tab(page, "training")
    entry(page, "adapter.rank").fill("5")
    expect(page.locator("#plan-sentence")).to_contain_text("rank 5", timeout=WAIT_MS)
    open_page(page, page_server.url)  # it is still known that the form holds an entry
    expect(page.locator("#queue-add")).to_have_text("Change in queue", timeout=WAIT_MS)
    page.click("#queue-add")
    expect(page.locator("#start-message")).to_contain_text("in the queue is changed", timeout=WAIT_MS)
    expect(page.locator("#queue-add")).to_have_text("Add to queue")
    assert preset_of(queue.get(second.id)).adapter.rank == 5
    assert len(queue.entries()) == 2

    tab(page, "queue")
    page.locator("#queue-list li").first.get_by_role("button", name="Load it").click()
    expect(page.locator("#queue-add")).to_have_text("Change in queue", timeout=WAIT_MS)
    tab(page, "presets")
    page.click("#preset-load")
    expect(page.locator("#queue-add")).to_have_text("Add to queue", timeout=WAIT_MS)  # the form holds something else

    tab(page, "queue")
    for name in ("first", "second"):
        page.get_by_role("checkbox", name=f"Compare {name}").check()
    page.click("#history-compare")
    expect(page.locator("#compared tbody tr").first).to_contain_text("Rank")
    expect(page.locator("#compared polyline")).to_have_count(2)
    picture = page.locator("#compared img").first
    until(lambda: picture.evaluate("image => image.complete && image.naturalWidth === 64"), "a picture that loads")

    row = page.locator("#history-list tr", has_text="second")
    row.get_by_role("button", name="Move it into the bin").click()
    expect(page.locator("#history-list tr")).to_have_count(1, timeout=WAIT_MS)
    page.locator("#bin summary").click()
    page.get_by_role("button", name="Put it back").click()
    expect(page.locator("#history-list tr")).to_have_count(2, timeout=WAIT_MS)
    assert (past / "runs" / "second" / "preset.json").is_file()
    tab(page, "run")  # where the hostile run is shown by what the server draws
    page.wait_for_timeout(2500)
    assert page.title() == "Atelier"
    assert json.loads((past / "runs" / "first" / "preset.json").read_text())["run"]["name"] == "first"
