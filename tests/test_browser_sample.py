"""The tab Sample in a real browser: a picture is drawn with the demo model, and its settings come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from engine.drawing.desk import Desk, pictures_in
from engine.drawing.picture_text import read_settings
from tests.browser import Server
from tests.pages import WAIT_MS, open_page, tab, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = "<img src=x onerror=document.title='hacked'> & $x"


@pytest.fixture
def no_drawing_left(home: Path) -> Iterator[Desk]:
    """The folder of the process that draws; asked to leave at the end, and waited for."""
    here = Desk(home / "drawing")
    yield here
    here.cancel()
    here.ask_to_leave()
    deadline = time.monotonic() + 60
    while here.is_running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not here.is_running()


def test_a_picture_is_drawn_kept_and_its_settings_are_used_again(
    home: Path, server: Server, page: Page, no_drawing_left: Desk
) -> None:
    open_page(page, server.url)
    tab(page, "sample")
    expect(page.locator("#sample-live .stage.empty")).to_contain_text("Your picture appears here", timeout=WAIT_MS)
    prompt = page.locator("#field-drawing-picture-prompt textarea")
    expect(prompt).not_to_have_value("", timeout=WAIT_MS)  # the training form's first sample prompt
    prompt.fill(HOSTILE)
    steps = page.locator("#field-drawing-sampling-steps input[type=number]").first
    steps.fill("3")
    steps.blur()
    page.locator("#sample-sizes select").select_option("1024×1024")
    expect(page.locator("#field-drawing-picture-width_px input")).to_have_value("1024", timeout=WAIT_MS)
    for side in ("width_px", "height_px"):
        page.locator(f"#field-drawing-picture-{side} input").fill("64")
    page.locator("#field-drawing-picture-height_px input").blur()

    page.click("#sample-draw")
    expect(page.locator("#sample-stop")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#sample-history .grid button")).to_have_count(1, timeout=WAIT_MS)
    [drawn] = pictures_in(home / "pictures")
    with Image.open(drawn) as picture:
        assert picture.size == (64, 64) and picture.info["parameters"].startswith(HOSTILE)
    found = read_settings(drawn).values
    assert (found["picture.prompt"], found["sampling.steps"]) == (HOSTILE, 3)
    expect(page.locator("#sample-live .stage img")).to_have_attribute("alt", drawn.name, timeout=WAIT_MS)
    expect(page.locator("#sample-live .sample-about .prompt")).to_have_text(HOSTILE)
    expect(page.locator("#sample-stop")).to_have_count(0)

    prompt.fill("something else")
    page.click("#sample-use")
    expect(prompt).to_have_value(HOSTILE, timeout=WAIT_MS)
    expect(page.locator("#field-drawing-picture-seed input")).to_have_value(str(found["picture.seed"]))

    page.click("#sample-delete")
    expect(page.locator("#sample-history .grid button")).to_have_count(0, timeout=WAIT_MS)
    page.get_by_role("button", name="Put back").click()
    expect(page.locator("#sample-history .grid button")).to_have_count(1, timeout=WAIT_MS)
    page.set_input_files("#sample-read", drawn)
    expect(page.locator("#sample-live .sample-about h4")).to_contain_text("Settings in the picture", timeout=WAIT_MS)

    page.locator("#field-drawing-model-base input").fill("nothing.safetensors")
    page.locator("#field-drawing-model-base input").blur()
    page.click("#sample-draw")
    expect(page.locator("#field-drawing-model-base .problem-text")).to_contain_text("nothing", timeout=WAIT_MS)
    until(lambda: page.title() == "Atelier", "the page's own title")
