"""In a real browser: the walk of the first visit, by keyboard, from nothing to a form that can be started."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Server
from tests.pages import WAIT_MS, open_page
from ui.last import own_presets

pytestmark = pytest.mark.browser


def test_the_first_visit_is_walked_by_keyboard_and_comes_once(page_server: Server, page: Page, cleared_home) -> None:
    (own_presets() / ".first-steps.json").unlink()
    open_page(page, page_server.url)
    walk = page.locator("#first-steps")
    expect(walk.locator("h3")).to_have_text("Which model shall learn something new?", timeout=WAIT_MS)
    entry = page.locator("#step-entry-model")
    entry.fill("nowhere.safetensors")
    expect(page.locator("#step-found-model")).to_contain_text("there is no such file", timeout=WAIT_MS)
    expect(page.locator("#plan-sentence")).to_contain_text("there is no such file", timeout=WAIT_MS)  # the form has it
    walk.get_by_role("button", name="Choose…").click()
    chosen = page.locator("#path-chooser .chooser-list button", has_text="▸ demo")
    expect(chosen).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("Escape")
    expect(walk.get_by_role("button", name="Choose…")).to_be_focused()

    entry.fill("demo/model.safetensors")
    expect(page.locator("#step-found-model")).to_contain_text("is an SDXL base model", timeout=WAIT_MS)
    expect(page.locator("#plan-sentence")).to_contain_text("Will be trained", timeout=WAIT_MS)
    entry.press("Enter")
    expect(walk.locator("h3")).to_be_focused()
    page.locator("#step-entry-folder").fill("demo/images")
    expect(page.locator("#step-found-folder")).to_contain_text("16 with a caption", timeout=WAIT_MS)
    page.locator("#step-next").press("Enter")

    demo = walk.get_by_role("radio", name="demo")
    expect(demo).to_be_visible(timeout=WAIT_MS)
    expect(walk.locator("[data-takes]").first).to_contain_text("steps", timeout=WAIT_MS)
    demo.focus()
    page.keyboard.press("Space")
    page.locator("#step-next").press("Enter")
    expect(walk.locator(".steps-sentence")).to_contain_text("rank 16, conv rank 16, 16 images", timeout=WAIT_MS)
    expect(page.locator("#plan-sentence")).to_contain_text(walk.locator(".steps-sentence").inner_text())
    expect(page.locator("#step-start")).to_be_enabled()

    walk.get_by_role("button", name="Not now").click()
    expect(walk.locator("section")).to_have_count(0)
    page.reload()
    expect(page.locator("#plan-sentence")).to_contain_text("conv rank 16", timeout=WAIT_MS)
    expect(walk.locator("section")).to_have_count(0)
    page.locator("#first-steps-open").click()
    expect(walk.locator("h3")).to_be_focused(timeout=WAIT_MS)
