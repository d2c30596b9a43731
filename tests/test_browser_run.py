"""A run followed in a real browser: it outlives the page, and every tab shows the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from engine.queue import Queue
from tests.browser import Server
from tests.pages import WAIT_MS, entry, load_preset, open_page, start, steps_shown, tab, until
from ui import passwords
from ui.options import password_file

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.usefixtures("quick", "no_engine_left")]


def loads(picture: Locator) -> bool:
    return picture.evaluate("image => image.complete && image.naturalWidth > 0")


def test_a_run_is_started_watched_paused_changed_stopped_and_leaves_a_checkpoint(
    home: Path, server: Server, page: Page
) -> None:
    open_page(page, server.url)
    load_preset(page, "quick")
    start(page)
    expect(page.locator("table.samples img")).to_have_count(2, timeout=WAIT_MS)  # both prompts, before the first step
    until(lambda: steps_shown(page) >= 3, "three steps")
    expect(page.locator("#run-curves path.line.smooth")).to_have_count(1)
    until(lambda: loads(page.locator("table.samples img").first), "a picture that loads")

    page.click("#pause")
    expect(page.locator("#run-progress h3")).to_have_text("Paused", timeout=WAIT_MS)
    expect(page.locator("#pause")).to_have_text("Continue")
    page.locator("#run-change summary").click()
    expect(page.locator("#rate-factor")).to_have_value("1")
    page.locator("#rate-factor").fill("0")
    page.locator("#run-change button").first.click()
    expect(page.locator("#run-message")).to_contain_text("from 0.001 to 100", timeout=WAIT_MS)
    page.locator("#rate-factor").fill("0.5")
    page.locator("#run-change button").first.click()
    expect(page.locator("#change-waits")).to_be_visible(timeout=WAIT_MS)

    drawn = page.locator("table.samples img").count()
    page.click("#sample-now")
    page.click("#pause")
    expect(page.locator("#run-timeline li.changed")).to_have_count(1, timeout=WAIT_MS)
    until(lambda: page.locator("table.samples img").count() > drawn, "pictures that were asked for")
    page.locator("[data-star]").first.click()
    expect(page.locator('[data-star][aria-pressed="true"]')).to_have_count(1, timeout=WAIT_MS)
    page.locator("[data-compare]").first.click()
    left = page.locator("#compare img").last
    expect(left).to_have_attribute("style", "clip-path: inset(0px 50% 0px 0px);")
    page.keyboard.press("ArrowRight")  # the slider has the focus
    expect(left).to_have_attribute("style", "clip-path: inset(0px 49% 0px 0px);")
    page.keyboard.press("Escape")
    expect(page.locator("#compare")).to_have_count(0)
    assert (home / "runs" / "quick run" / "stars.json").is_file()

    page.click("#stop")
    expect(page.locator("#run-progress h3")).to_have_text("Stopped", timeout=WAIT_MS)
    link = page.locator("#run-checkpoints a[download]").first
    expect(link).to_be_visible(timeout=WAIT_MS)
    with page.expect_download() as download:
        link.click()
    saved = home / "runs" / "quick run" / "checkpoints" / download.value.suggested_filename
    assert Path(download.value.path()).read_bytes() == saved.read_bytes()

    row = page.locator("table.samples tr").last.locator("a")
    steps = [str(link.get_attribute("data-full")) for link in row.all()]
    row.first.press("Enter")
    for key, about in (("ArrowRight", steps[1]), ("ArrowLeft", steps[0]), ("ArrowLeft", steps[0])):
        page.keyboard.press(key)
        expect(page.locator("#full-picture p")).to_have_text(about)
    page.keyboard.press("Escape")
    expect(page.locator("#full-picture")).to_have_count(0)

    queue = Queue(home / "queue")
    queue.pause()  # that it is drawn then: test_queue_runs
    page.locator("#run-checkpoints [data-draw]").first.click()
    expect(page.locator("#run-checkpoints table.later")).to_contain_text("waits in the queue", timeout=WAIT_MS)
    assert [entry.folder for entry in queue.entries()] == [str(home / "runs" / "quick run" / "drawn" / saved.stem)]
    page.locator("#run-checkpoints [data-go-on]").first.click()
    expect(entry(page, "adapter.start_from")).to_have_value(str(saved), timeout=WAIT_MS)


@pytest.fixture
def password(home: Path) -> str:
    """The password that a server asks for which is started after it."""
    word = "correct horse"
    passwords.save(passwords.make(word), password_file())
    return word


def test_a_killed_page_server_does_not_touch_the_run_and_two_browsers_show_it_again_still_signed_in(
    password: str, server: Server, browser: Browser, page: Page
) -> None:
    open_page(page, server.url, password)
    load_preset(page, "quick")
    other = browser.new_context().new_page()
    open_page(other, server.url, password)
    start(page)
    until(lambda: steps_shown(page) >= 1, "a first step")
    tab(other, "run")  # nothing was clicked here: the run is followed all the same
    until(lambda: steps_shown(other) >= 1, "the run in the other tab")
    server.kill()
    expect(page.locator("#away")).to_be_visible(timeout=WAIT_MS)
    before = steps_shown(page)
    tab(page, "training")
    entry(page, "adapter.rank").fill("13")
    tab(page, "run")

    server.start()  # the open pages notice by themselves
    for shown in (page, other):
        expect(shown.locator("#away")).to_have_count(0, timeout=WAIT_MS)
        expect(shown.locator("#run-progress h3")).to_have_text("Training", timeout=WAIT_MS)
    until(lambda: steps_shown(page) > before, "steps that were made without the page, and later ones")
    expect(page.locator("table.samples img").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#plan-sentence")).to_contain_text("rank 13", timeout=WAIT_MS)  # entered while it was away

    other.click("#start")  # only one can be started
    expect(other.locator("#start-message")).to_contain_text("still running", timeout=WAIT_MS)
    other.click("#stop")
    for shown in (page, other):
        expect(shown.locator("#run-progress h3")).to_have_text("Stopped", timeout=WAIT_MS)

    other.click("#sign-out button")
    expect(other.locator("input[name=password]")).to_be_visible(timeout=WAIT_MS)
    assert other.request.get(f"{server.url}/api/v1/queue").status == 401
    assert page.request.get(f"{server.url}/api/v1/queue").status == 200  # who signed in elsewhere stays so
    other.context.close()
