"""Steps that the browser tests share: a quick preset, opening the page, waiting for what it shows."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from engine import event_log, events
from engine.preset import ROOT, load
from engine.run import RunFolder
from tests.browser import Server, free_port
from ui.form import field_id
from ui.last import keep_first_steps, own_presets

WAIT_MS = 120_000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for presets, runs and thumbnails; a server that is started after it uses it."""
    folder = tmp_path / "home"
    (folder / "presets" / "user").mkdir(parents=True)
    monkeypatch.setenv("ATELIER_HOME", str(folder))
    keep_first_steps()  # the walk of the first visit has its own test
    return folder


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One page server for all browser tests: starting one takes longer than most of them."""
    folder = tmp_path_factory.mktemp("page")
    running = Server(free_port(), folder, {**os.environ, "ATELIER_HOME": str(folder / "home")})
    running.start()
    yield running
    running.kill()


@pytest.fixture
def cleared_home(page_server: Server) -> Iterator[Path]:
    """That server's folder, with nothing in it from other tests: each is a first visit."""
    with first_visit(page_server) as folder:
        yield folder


@contextmanager
def first_visit(server: Server) -> Iterator[Path]:
    """The server's folder, emptied, as that of this process too."""
    if server.process is None or server.process.poll() is not None:
        server.start()  # a test that failed has left it killed
    folder = server.folder / "home"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "presets" / "user").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_HOME", str(folder))
        keep_first_steps()
        yield folder


@pytest.fixture
def quick(home: Path) -> Path:
    """The demo with small steps, longer, in a runs folder of its own, as the user's preset "quick"."""
    preset = load(ROOT / "presets" / "demo.json").changed(
        {
            "run.name": "quick run",
            "run.folder": str(home / "runs"),
            "run.epochs": 100,
            "run.batch_size": 1,
            "data.regularization_folder": "",
            "sample.prompts": "a zkt blob on a white background\na red circle on a blue background",
            "sample.steps": 3,
            "data.cache_folder": str(home / "cache"),
        }
    )
    path = own_presets() / "quick.json"
    preset.save(path)
    return path


@pytest.fixture
def no_engine_left(home: Path) -> Iterator[None]:
    """Ends the engines that a test started and left, by the process id that the run itself tells."""
    yield
    for path in (home / "runs").glob("*/events.jsonl"):
        if RunFolder(path.parent).is_running():
            entries, _ = event_log.read(path)
            started = [entry.event for entry in entries if isinstance(entry.event, events.Started)]
            os.kill(started[-1].process_id, 9)


def open_page(page: Page, url: str, password: str = "") -> None:
    """Open the page, signing in where a password is given, and wait until it has looked at the form and at the runs."""
    page.goto(url)
    if password:
        page.fill("input[name=password]", password)
        page.keyboard.press("Enter")
    expect(page.locator("#plan-sentence .plan")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#status .status")).to_be_visible(timeout=WAIT_MS)


def entry(page: Page, path: str) -> Locator:
    """What a field is entered in, by the path of its setting."""
    return page.locator(f"#entry-{field_id(path)}")


def tab(page: Page, name: str) -> None:
    page.click(f"#tab-{name}-button")


def load_preset(page: Page, title: str) -> None:
    """Load a preset on its tab, by the name in the list."""
    tab(page, "presets")
    page.select_option("#preset-choice", label=f"{title} (yours)")
    page.click("#preset-load")
    expect(page.locator("#preset-message")).to_contain_text(f"“{title}” is in the form now", timeout=WAIT_MS)


def start(page: Page) -> None:
    """Press Start and wait until the tab Run shows that the engine has begun."""
    page.click("#start")
    expect(page.locator("#run-progress .run-state.running")).to_be_visible(timeout=WAIT_MS)


def steps_shown(page: Page) -> int:
    """The step that the tab Run shows; 0 before the first."""
    figure = page.locator("#run-progress .figures dd").first
    return int(figure.inner_text().split(" of ")[0].replace(",", "")) if figure.count() else 0


def until(condition: Callable[[], bool], what: str, seconds: float = WAIT_MS / 1000) -> None:
    """Wait for something that the page's own waiting cannot express. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"within {seconds:.0f} s not seen: {what}")
        time.sleep(0.2)
