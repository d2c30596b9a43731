"""A real Chromium and a real page for the browser tests.

Fixtures, known to all tests (tests/conftest.py names this file as a plugin): `server` is gui.py on a free port, `page`
an empty Playwright page. `python -m tests.browser` tells where the browser is, or what to do. A missing browser is a
failure, never a skip.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ROOT = Path(__file__).resolve().parent.parent
# The first has no window, no bars and no extensions of its own to draw and to run; all show a page alike.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium() -> Path:
    """The browser's program: one of the system's, else Playwright's own. Raises RuntimeError when there is none."""
    for name in NAMES:
        found = shutil.which(name)
        if found and _answers(found):
            return Path(found)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    if own.exists():
        return own
    raise RuntimeError("no Chromium for the browser tests. Run ./test.sh: it installs one.")


def _answers(program: str) -> bool:
    """Whether it starts at all: Ubuntu's chromium-browser, without snap, does not."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all browser tests."""
    from playwright.sync_api import sync_playwright

    program = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, headless=True, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What all pages share: the files of the page that the browser has fetched and read, a quarter of a first look."""
    opened = browser.new_context(viewport={"width": 1400, "height": 1000})
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """An empty page with nothing remembered from other tests."""
    with new_page(context) as opened:
        yield opened


@contextmanager
def new_page(context: BrowserContext) -> Iterator[Page]:
    """An empty page. What it remembers, in cookies and in the browser's store, goes when it is closed."""
    opened = context.new_page()
    yield opened
    if opened.url.startswith("http"):
        opened.evaluate("localStorage.clear()")
    opened.close()
    context.clear_cookies()


@dataclass
class Server:
    """A running gui.py. `process` may be killed and `start()`ed again on the same port."""

    port: int
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "page.txt").read_text(encoding="utf-8", errors="replace")

    def start(self, seconds: float = 90) -> None:
        """Start gui.py and return when it answers. Raises RuntimeError with what it printed when it does not."""
        command = [sys.executable, str(ROOT / "gui.py"), "--port", str(self.port), "--no-browser"]
        with (self.folder / "page.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"gui.py does not answer on {self.url}. It printed:\n{self.log[-4000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            return error.code == 401  # it asks for its password
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """gui.py, started on a free port of this machine and answering."""
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    running = Server(free_port(), tmp_path, environment)
    running.start()
    yield running
    running.kill()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    try:
        print(chromium())
    except RuntimeError as reason:
        sys.exit(str(reason))
