"""How quick the page is, in a real Chromium: from the start of the server to a page that can be used, and at rest.

    python -m benchmarks.page [--rounds 3] [--rest-seconds 10]

Each round starts gui.py in an empty home folder and opens it in a new browser window as soon as it answers. "Usable":
the form holds a preset and the bar at the bottom says what will be trained. A switch of tabs counts from the click to
the second frame in which the tab is seen. Blocked: the longest task of the browser from there on, in which it answers
nothing, while tabs are switched and a field is typed into. Aims, on two cores: usable in less than 6 s, a switch in
less than 200 ms, blocked for no more than that, less than 500 MB of the server. kohya_ss on such a machine: 6.7 s until
it listens and 3.0 s in the browser.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.browser import ARGUMENTS, Server, chromium, free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TABS = ("captions", "training", "run", "sample", "compare", "tools", "queue", "presets", "data")
USABLE = "#plan-sentence .plan"
_MOST_MS = 60_000
_SWITCH = """async (name) => {
  const frame = () => new Promise(requestAnimationFrame);
  const begun = performance.now();
  document.getElementById(`tab-${name}-button`).click();
  while (!document.getElementById(`tab-${name}`)?.offsetParent) await frame();
  await frame();
  await frame();
  return performance.now() - begun;
}"""

_WATCH = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({ entryTypes: ["longtask"] });
}"""
TYPED = "#entry-field-adapter-rank"


@dataclass
class Round:
    """What one start gave. Processor use is in cores: 0.01 is a hundredth of one core."""

    listens_seconds: float = 0.0
    usable_seconds: float = 0.0
    switches_ms: dict[str, float] = field(default_factory=dict)
    blocked_ms: float = 0.0
    server_bytes: int = 0
    server_at_rest_cores: float = 0.0
    browser_at_rest_cores: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest-seconds", type=float, default=10.0)
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    rounds = []
    with sync_playwright() as playwright:
        for number in range(1, chosen.rounds + 1):
            browser = playwright.chromium.launch(executable_path=chromium(), headless=True, args=ARGUMENTS)
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(measure(browser, Path(folder), chosen.rest_seconds))
            browser.close()
            print(f"round {number}: {_words(rounds[-1])}", flush=True)
    print(f"median of {len(rounds)}: {_words(_median(rounds))}")


def measure(browser: Browser, folder: Path, rest_seconds: float) -> Round:
    """Start the server, open the page, go through all tabs twice, and wait."""
    server = Server(free_port(), folder, {**os.environ, "ATELIER_HOME": str(folder / "home")})
    found = Round()
    begun = time.monotonic()
    try:
        server.start()
        found.listens_seconds = time.monotonic() - begun
        page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
        page.goto(server.url)
        page.wait_for_selector(USABLE, timeout=_MOST_MS)
        found.usable_seconds = time.monotonic() - begun
        found.switches_ms = _switches(page)
        page.click("#tab-training-button")
        page.locator(TYPED).press_sequentially("12", delay=150)
        page.wait_for_timeout(2000)
        found.blocked_ms = float(page.evaluate("() => window.longest"))
        _at_rest(server, found, rest_seconds)
    finally:
        server.kill()
    return found


def _switches(page: Page) -> dict[str, float]:
    """For each tab the slower of two switches to it: the first draws what was not drawn yet."""
    page.wait_for_timeout(1000)  # what is drawn after the page became usable is not the switch's
    page.evaluate(_WATCH)
    turns = [{name: float(page.evaluate(_SWITCH, name)) for name in TABS} for _ in range(2)]
    return {name: max(turn[name] for turn in turns) for name in TABS}


def _at_rest(server: Server, found: Round, seconds: float) -> None:
    assert server.process is not None
    own = psutil.Process(server.process.pid)
    found.server_bytes = own.memory_info().rss
    browsers = [item for item in psutil.Process().children(recursive=True) if "chrom" in _name(item)]
    before = _seconds([own]), _seconds(browsers)
    time.sleep(seconds)
    found.server_at_rest_cores = (_seconds([own]) - before[0]) / seconds
    found.browser_at_rest_cores = (_seconds(browsers) - before[1]) / seconds


def _name(process: psutil.Process) -> str:
    try:
        return process.name().lower()
    except psutil.NoSuchProcess:
        return ""


def _seconds(processes: list[psutil.Process]) -> float:
    """Processor time that living processes have taken."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _median(rounds: list[Round]) -> Round:
    def of(name: str) -> float:
        return statistics.median(getattr(each, name) for each in rounds)

    switches = {name: statistics.median(each.switches_ms[name] for each in rounds) for name in TABS}
    return Round(
        listens_seconds=of("listens_seconds"),
        usable_seconds=of("usable_seconds"),
        switches_ms=switches,
        blocked_ms=of("blocked_ms"),
        server_bytes=round(of("server_bytes")),
        server_at_rest_cores=of("server_at_rest_cores"),
        browser_at_rest_cores=of("browser_at_rest_cores"),
    )


def _words(found: Round) -> str:
    slowest = max(found.switches_ms, key=lambda name: found.switches_ms[name])
    return (
        f"answers after {found.listens_seconds:.1f} s, usable after {found.usable_seconds:.1f} s, slowest switch of "
        f"tabs {found.switches_ms[slowest]:.0f} ms (to {slowest}), blocked for {found.blocked_ms:.0f} ms at most, "
        f"server {found.server_bytes / 1e6:.0f} MB; at rest "
        f"{found.server_at_rest_cores:.3f} cores of the server, {found.browser_at_rest_cores:.3f} of the browser"
    )


if __name__ == "__main__":
    main()
