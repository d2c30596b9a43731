"""The tab Compare in a real browser: a small plot is drawn with the demo model, through a reload, and used again."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from engine import event_log, events
from engine.drawing.settings import DrawingPreset
from engine.preset import ROOT, load
from engine.run import create
from engine.tools.jobs import jobs_in
from tests.browser import Server
from tests.pages import WAIT_MS, open_page, tab, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
HOSTILE = "<img src=x onerror=document.title='hacked'> & $x"


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """A drawing of few steps with the demo model."""
    values = {
        "picture.prompt": HOSTILE, "picture.width_px": 64, "picture.height_px": 64, "sampling.steps": 2,
        "model.base": "demo/model.safetensors", "model.precision": "fp32", "model.device": "cpu", "model.threads": 1,
    }  # fmt: skip
    DrawingPreset().changed(values).save(tmp_path / "small.json")
    return tmp_path / "small.json"


@pytest.fixture
def run(cleared_home: Path) -> Path:
    """A run that saved a checkpoint."""
    made = create(
        load(ROOT / "presets" / "demo.json").changed({"run.name": "mine", "run.folder": str(cleared_home / "runs")})
    )
    made.checkpoints.mkdir(exist_ok=True)
    (made.checkpoints / "mine-000002.safetensors").write_bytes(b"none that could be drawn with")
    log = event_log.EventLog(made.events)
    log.emit(events.Started("mine", 3, 1, 3, 0, 1, "cpu"))
    log.emit(events.Saved(2, "checkpoint", "checkpoints/mine-000002.safetensors", 1))
    log.emit(events.Finished(3, "", 1.0))
    return made.path


def test_a_plot_is_drawn_through_a_reload_and_its_settings_are_used(
    page_server: Server, run: Path, preset: Path, page: Page
) -> None:
    open_page(page, page_server.url)
    tab(page, "run")
    page.get_by_role("button", name="Compare checkpoints").click()
    values = {axis: page.locator(f"#entry-field-comparing-compare-{axis}-values") for axis in "xy"}
    kinds = {axis: page.locator(f"#entry-field-comparing-compare-{axis}-kind") for axis in "xy"}
    expect(values["x"]).to_have_value(str(run), timeout=WAIT_MS)
    expect(kinds["x"]).to_have_value("checkpoint")
    expect(page.locator("#comparing-job")).to_contain_text("Nothing was compared yet", timeout=WAIT_MS)

    page.locator("#step-comparing-source input").fill(str(preset))
    page.click("#comparing-take")
    expect(page.locator("#entry-field-comparing-picture-prompt")).to_have_value(HOSTILE, timeout=WAIT_MS)
    kinds["x"].select_option(label="Seed")
    expect(values["x"]).to_have_attribute("placeholder", "1-4")
    values["x"].fill("many")
    expect(page.locator("#field-comparing-compare-x-values .problem-text")).to_contain_text(
        "no number", timeout=WAIT_MS
    )
    values["x"].fill("1, 2")
    kinds["y"].select_option(label="Sampling steps")
    values["y"].fill("1, 2")
    expect(page.locator("#comparing-estimate")).to_contain_text("Pictures to draw: 4.", timeout=WAIT_MS)
    expect(page.locator("#comparing-estimate td .blank")).to_have_count(4)

    page.click("#comparing-start")
    expect(page.locator("#comparing-state .run-state")).to_be_visible(timeout=WAIT_MS)
    page.reload()
    tab(page, "compare")
    expect(values["y"]).to_have_value("1, 2", timeout=WAIT_MS)
    cells = page.locator("#comparing-grid button.cell")
    expect(cells).to_have_count(4, timeout=WAIT_MS)
    [job] = jobs_in()
    until(lambda: job.status() == "finished", "the end of the job")
    expect(page.locator("#comparing-made a[download]")).to_have_attribute("download", "grid.png", timeout=WAIT_MS)
    drawn = cells.first.locator("img")
    until(lambda: drawn.evaluate("image => image.complete && image.naturalWidth === 64"), "a picture that loads")

    cells.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.locator("#comparing-cell")
    expect(dialog.locator("h4")).to_have_text("seed 2 · steps 1", timeout=WAIT_MS)
    page.keyboard.press("ArrowDown")
    expect(dialog.locator("h4")).to_have_text("seed 2 · steps 2")
    expect(dialog.locator("p.prompt")).to_have_text(HOSTILE, timeout=WAIT_MS)
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    with Image.open(download.value.path()) as picture:
        assert picture.size == (64, 64) and picture.info["parameters"].startswith(HOSTILE)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(cells.nth(3)).to_be_focused()
    page.keyboard.press("Enter")
    page.click("#comparing-use-cell", timeout=WAIT_MS)
    expect(page.locator("#field-drawing-picture-seed input")).to_have_value("2", timeout=WAIT_MS)
    expect(page.locator("#field-drawing-picture-prompt textarea")).to_have_value(HOSTILE)
    assert page.title() == "Atelier"
