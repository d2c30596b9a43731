"""The Captions tab in a real browser: edit, filter, change many, undo, two windows; no caption ever becomes HTML."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect

from engine.data.folders import natural_order
from engine.preset import ROOT
from tests.browser import Server, new_page
from tests.pages import WAIT_MS, first_visit, open_page, tab

pytestmark = [pytest.mark.browser, pytest.mark.slow]
DEMO = ROOT / "demo" / "images" / "10_zkt blob"

LOOK = """async ([first, filter]) => {
  window.atelierBench.state.filter = filter;
  const began = performance.now();
  await window.atelierBench.look({ first });
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  return performance.now() - began;
}"""
KEEP_TAGS = "() => { window.tagsBefore = [...document.querySelectorAll('#bench-tags li')]; }"
SAME_TAGS = "() => window.tagsBefore.every((tag, at) => tag === document.querySelectorAll('#bench-tags li')[at])"


@pytest.fixture
def server(page_server: Server) -> Server:
    return page_server


@pytest.fixture(scope="module")
def page(page_server: Server, context: BrowserContext) -> Iterator[Page]:
    """One page for all tests here: each opens its folder on it. Loading it takes longer than they do."""
    with first_visit(page_server), new_page(context) as opened:
        open_page(opened, page_server.url)
        yield opened


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A copy of the demo's pictures and captions."""
    return Path(shutil.copytree(DEMO, tmp_path / "10_zkt blob"))


def bench(page: Page, server: Server, folder: Path) -> None:
    """Open the tab on a folder and wait for its pictures."""
    if not page.url.startswith(server.url):
        open_page(page, server.url)
    tab(page, "captions")
    expect(page.locator("#bench-grid figure").first).to_be_visible(timeout=WAIT_MS)  # those of the data set
    page.fill("#bench-folder", str(folder))
    page.click("#bench-open")
    first = min((path.name for path in folder.glob("*.png")), key=natural_order)
    page.wait_for_function(
        "id => document.querySelector('#bench-grid figure')?.title === id", arg=first, timeout=WAIT_MS
    )


def captions(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}


def test_a_caption_is_edited_by_keys_saved_undone_and_done_again(server: Server, page: Page, images: Path) -> None:
    before = captions(images)
    first, second = sorted(before)[:2]
    bench(page, server, images)
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.keyboard.type(", on the moon")
    expect(page.locator("figure.focus .unsaved")).to_be_visible()
    assert captions(images) == before  # what is typed is no edit yet
    page.keyboard.press("Control+Enter")
    expect(page.locator("#bench-toast")).to_contain_text("Saved.", timeout=WAIT_MS)
    assert captions(images)[second].rstrip() == before[second].rstrip() + ", on the moon"
    assert captions(images)[first] == before[first]
    page.keyboard.press("Control+z")
    expect(page.locator("#bench-toast")).to_contain_text("Undone", timeout=WAIT_MS)
    assert captions(images) == before
    page.keyboard.press("Control+y")
    expect(page.locator("#bench-toast")).to_contain_text("Done again", timeout=WAIT_MS)
    expect(page.locator("#bench-text")).to_have_value(before[second].rstrip() + ", on the moon", timeout=WAIT_MS)


def test_many_captions_are_changed_by_filter_and_by_selection_and_undone(
    server: Server, page: Page, images: Path
) -> None:
    before = captions(images)
    wanted = [name for name, text in before.items() if "background" in text]
    bench(page, server, images)
    page.fill("#bench-filter", "background NOT (tags > 90 OR untagged)")
    expect(page.locator("#bench-found")).to_have_text(f"{len(wanted)} of {len(before)} pictures", timeout=WAIT_MS)
    page.click("#bench-panel-change")
    page.select_option("#bench-operation", "prefix")
    page.fill("#bench-value-text", "mine, ")
    page.click("#bench-look")
    expect(page.locator("#bench-summary")).to_contain_text(f"of {len(wanted)} would change", timeout=WAIT_MS)
    expect(page.locator(".example ins").first).to_contain_text("mine")
    assert captions(images) == before
    page.click("#bench-apply")
    expect(page.locator("#bench-toast")).to_contain_text("captions changed", timeout=WAIT_MS)
    after = captions(images)
    assert {name for name, text in after.items() if text.startswith("mine, ")} == set(wanted)
    page.click("#bench-toast >> text=Undo")
    expect(page.locator("#bench-toast")).to_contain_text("Undone", timeout=WAIT_MS)
    assert captions(images) == before

    page.fill("#bench-filter", "red (")
    expect(page.locator("#bench-fault")).to_contain_text("The filter:", timeout=WAIT_MS)
    page.fill("#bench-filter", "")
    expect(page.locator("#bench-found")).to_have_count(0, timeout=WAIT_MS)

    cards = page.locator("#bench-grid figure")
    cards.nth(1).click()
    cards.nth(3).click(modifiers=["Shift"])
    expect(page.locator("#bench-selected")).to_have_text("3 selected")
    page.click("#bench-panel-caption")
    page.fill("#bench-add", "night")
    page.keyboard.press("Enter")
    expect(page.locator("#bench-common li.all", has_text="night")).to_be_visible(timeout=WAIT_MS)
    changed = [text.rstrip().endswith(", night") for text in captions(images).values()]
    assert changed[:5] == [False, True, True, True, False]
    page.locator("#bench-common li", has_text="night").locator("button").click()
    expect(page.locator("#bench-common li", has_text="night")).to_have_count(0, timeout=WAIT_MS)
    assert captions(images) == before


def test_the_second_of_two_windows_is_told_and_merges(
    server: Server, page: Page, browser: Browser, images: Path
) -> None:
    target = sorted(images.glob("*.txt"))[0]
    target.write_text("cat, red")
    bench(page, server, images)
    other = browser.new_context().new_page()
    bench(other, server, images)
    for window, text in ((page, "cat, red, big"), (other, "cute cat, red")):
        window.locator("#bench-grid figure").first.click()
        window.fill("#bench-text", text)
    page.click("#bench-save")
    expect(page.locator("#bench-toast")).to_contain_text("Saved.", timeout=WAIT_MS)
    other.click("#bench-save")
    expect(other.locator("#bench-conflict")).to_be_visible(timeout=WAIT_MS)
    assert target.read_text() == "cat, red, big"
    expect(other.locator("#bench-merged")).to_have_value("cute cat, red, big")
    other.click("#bench-merge")
    expect(other.locator("#bench-toast")).to_contain_text("Saved.", timeout=WAIT_MS)
    assert target.read_text() == "cute cat, red, big"
    expect(page.locator("#bench-text")).to_have_value("cute cat, red, big", timeout=WAIT_MS)  # seen without a click
    other.context.close()


def test_no_caption_name_or_tag_is_ever_html(server: Server, page: Page, tmp_path: Path) -> None:
    evil = "<img src=x onerror=window.broken=1>"
    folder = tmp_path / "10_<b>x<b>"
    folder.mkdir()
    for name in ("<i onclick=1>", "b ${1} {{a}}"):
        Image.new("RGB", (9, 9)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"{evil}, <script>window.broken=1</script>, ${{value}} {{{{x}}}}\n")
    bench(page, server, folder)
    card = page.locator("#bench-grid figure").last
    expect(card.locator("figcaption p")).to_contain_text(evil)
    card.click()
    page.click("#bench-panel-change")
    page.select_option("#bench-operation", "delete_tag")
    page.fill("#bench-value-old", evil)
    page.click("#bench-look")
    expect(page.locator(".example del").first).to_contain_text("<img", timeout=WAIT_MS)
    page.click("#bench-select-all")
    page.click("#bench-panel-caption")
    expect(page.locator("#bench-common li").first).to_contain_text("<", timeout=WAIT_MS)
    assert page.evaluate("window.broken") is None
    assert page.locator("#bench :is(script, b b, i[onclick], img[src=x])").count() == 0


def test_two_thousand_pictures_stay_responsive(server: Server, page: Page, tmp_path: Path) -> None:
    """Aimed at are 300 ms from the question to the drawn page; the limit here allows for a busy machine.

    That turning a page costs little does not hang on the machine: the tags stay as they are, and pictures far below
    what is seen are not fetched.
    """
    folder = tmp_path / "many"
    folder.mkdir()
    Image.new("RGB", (64, 48), "teal").save(folder / "0.png")
    for number in range(2000):
        if number:
            os.link(folder / "0.png", folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"tag {number % 7}, other {number % 300}, number {number}")
    bench(page, server, folder)
    page.click("#bench-more")
    expect(page.locator('#bench-grid figure[title="60.png"]')).to_be_visible(timeout=WAIT_MS)
    page.evaluate(KEEP_TAGS)
    times_ms = [page.evaluate(LOOK, [first, ""]) for first in (120, 180, 240)]
    assert page.evaluate(SAME_TAGS)
    seen, last = page.locator("#bench-grid figure").first, page.locator("#bench-grid figure").last
    expect(seen.locator("img[src]")).to_have_count(1, timeout=WAIT_MS)
    assert page.locator("#bench-grid img[src]").count() < 40
    last.scroll_into_view_if_needed()
    expect(last.locator("img[src]")).to_have_count(1, timeout=WAIT_MS)
    times_ms.append(page.evaluate(LOOK, [0, 'tag:"tag 3" number']))
    expect(page.locator("#bench-found")).to_have_text("286 of 2,000 pictures")
    print("ms a page:", [round(item) for item in times_ms])
    assert min(times_ms) < 3000
    assert page.locator("#bench-grid figure").count() == 60  # not 2,000: that is why
