"""In a real browser: a file is chosen by keyboard, changes that fit are applied and undone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import Server
from tests.pages import WAIT_MS, entry, open_page, tab

pytestmark = pytest.mark.browser


def test_a_file_is_chosen_by_keyboard_and_what_fits_is_applied_and_undone(
    page_server: Server, page: Page, cleared_home: Path
) -> None:
    open_page(page, page_server.url)
    tab(page, "training")
    base = page.locator("#field-model-base")
    box = base.locator("input")
    expect(box).to_have_value("demo/model.safetensors", timeout=WAIT_MS)
    expect(page.locator("#forecast")).to_contain_text("Steps", timeout=WAIT_MS)

    base.locator(".choose-path").click()
    chosen = page.locator("#path-chooser .chooser-list button", has_text="model.safetensors")
    expect(chosen).to_be_visible(timeout=WAIT_MS)
    page.locator("#path-chooser .chooser-parts button").last.focus()
    page.keyboard.press("Backspace")  # up, and back down by the keys
    folder = page.locator("#path-chooser .chooser-list button", has_text="▸ demo")
    expect(folder).to_be_visible(timeout=WAIT_MS)
    folder.focus()
    page.keyboard.press("Enter")
    expect(chosen).to_be_visible(timeout=WAIT_MS)
    page.keyboard.press("Escape")
    expect(page.locator("#path-chooser")).to_have_count(0)
    expect(box).to_have_value("demo/model.safetensors")
    base.locator(".choose-path").click()
    chosen.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#path-chooser")).to_have_count(0)
    assert Path(box.input_value()).is_absolute() and Path(box.input_value()).name == "model.safetensors"
    expect(page.locator("#plan-sentence")).to_contain_text("rank 16", timeout=WAIT_MS)

    entry(page, "run.batch_size").fill("64")
    page.keyboard.press("Tab")
    expect(page.locator("#plan-sentence")).to_contain_text("÷ batch 64", timeout=WAIT_MS)
    page.locator("#fit-gb input").fill("1")
    page.click("#fit")
    expect(page.locator("#forecast-message")).to_contain_text("cheapest changes", timeout=WAIT_MS)
    page.click("#fit-apply")
    expect(page.locator("#forecast-message")).to_contain_text("Applied", timeout=WAIT_MS)
    page.click("#fit-undo")
    expect(page.locator("#forecast-message")).to_contain_text("The form is as before", timeout=WAIT_MS)
    expect(page.locator("#plan-sentence")).to_contain_text("÷ batch 64 =", timeout=WAIT_MS)
