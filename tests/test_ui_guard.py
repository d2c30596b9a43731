"""What the page's server refuses, asked of the running page: other sites, other names, files not meant for it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from PIL import Image

from ui import app, served, server
from ui.options import options

SECRET = b"what only the user may read"


@dataclass(frozen=True)
class Site:
    """The page's server, in this process, and the folders that the attacks speak of."""

    port: int
    allowed: Path
    outside: Path

    def ask(self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: str = "") -> tuple:
        """(status, body, headers) of a request, sent exactly as it is written here."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
        sent = {**(headers or {}), **({"Content-Length": str(len(body))} if body else {})}
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders(body.encode() or None)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content, dict(answer.getheaders())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    allowed, outside = folder / "runs" / "one" / "samples", folder / "outside"
    for made in (allowed, outside, folder / "runs" / "one" / "samples-of-others"):
        made.mkdir(parents=True)
    for path in (outside / "secret.png", outside / "secret.txt", allowed.parent / "preset.json"):
        path.write_bytes(SECRET)
    for path in (allowed.parent / "samples-of-others" / "secret.png", allowed / "page.html", allowed / "page.svg"):
        path.write_bytes(SECRET)
    (allowed / "link.png").symlink_to(outside / "secret.png")
    (allowed / "folder").symlink_to(outside)
    (allowed / "text.png").symlink_to(allowed / "page.html")
    Image.new("RGB", (8, 8)).save(allowed / "a b&c%41.png")
    before = list(served.folders)
    guard = server.guarded(app.build(), options([]), None)
    served.allow(allowed)
    running = uvicorn.Server(uvicorn.Config(guard, "127.0.0.1", 0, log_level="critical"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield Site(running.servers[0].sockets[0].getsockname()[1], allowed, outside)
    running.should_exit = True
    thread.join(10)
    served.folders[:] = before


@pytest.mark.slow
def test_a_picture_of_a_run_is_served_whatever_its_name_and_can_run_nothing(site: Site) -> None:
    path = site.allowed / "a b&c%41.png"
    status, content, headers = site.ask(f"/gradio_api/file={quote(str(path))}?v=1")
    assert (status, content) == (200, path.read_bytes())
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


ATTACKS = {
    "absolute": "/gradio_api/file={outside}/secret.png",
    "text": "/gradio_api/file={outside}/secret.txt",
    "dots": "/gradio_api/file={allowed}/../../../outside/secret.png",
    "encoded dots": "/gradio_api/file={allowed}/%2e%2e/%2e%2e/%2e%2e/outside/secret.png",
    "encoded slashes": "/gradio_api/file={allowed}%2f..%2f..%2f..%2foutside%2fsecret.png",
    "encoded twice": "/gradio_api/file={allowed}/%252e%252e/%252e%252e/%252e%252e/outside/secret.png",
    "overlong": "/gradio_api/file={allowed}/%c0%ae%c0%ae/secret.png",
    "backslashes": "/gradio_api/file={allowed}\\..\\..\\..\\outside\\secret.png",
    "zero byte": "/gradio_api/file={outside}/secret.txt%00.png",
    "link to a file": "/gradio_api/file={allowed}/link.png",
    "link to a folder": "/gradio_api/file={allowed}/folder/secret.png",
    "link to another kind": "/gradio_api/file={allowed}/text.png",
    "page": "/gradio_api/file={allowed}/page.html",
    "drawing with scripts": "/gradio_api/file={allowed}/page.svg",
    "preset": "/gradio_api/file={allowed}/../preset.json",
    "folder of a like name": "/gradio_api/file={allowed}-of-others/secret.png",
    "folder itself": "/gradio_api/file={allowed}",
    "relative": "/gradio_api/file=README.md",
    "home": "/gradio_api/file=~/.ssh/id_rsa.png",
    "protocol": "/gradio_api/file=file://{outside}/secret.png",
    "other host": "/gradio_api/file=http://127.0.0.1:{port}/gradio_api/app_id",
    "old address": "/gradio_api/file/{outside}/secret.png",
    "older address": "/file={outside}/secret.png",
    "two slashes": "//gradio_api/file={outside}/secret.png",
    "static": "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f{outside}/secret.png",
    "assets": "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/gradio/routes.py",
    "svelte": "/svelte/{outside}/secret.png",
    "proxy": "/gradio_api/proxy=http://127.0.0.1:{port}/gradio_api/app_id",
    "components": "/gradio_api/custom_component/x/client/..%2f..%2f/secret.png",
    "profiling": "/gradio_api/profiling/traces",
    "monitoring": "/monitoring/summary",
    "hub buckets": "/gradio_api/run-history/buckets",
    "code": "/gradio_api/vibe-code",
    "kept forms": "/?deep_link=..%2f..%2foutside",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_outside_the_folders_of_the_page_is_never_served(site: Site, attack: str) -> None:
    path = ATTACKS[attack].format(allowed=site.allowed, outside=site.outside, port=site.port)
    status, content, _ = site.ask(path)
    assert SECRET not in content
    assert b"import " not in content[:2000]
    assert status in (400, 403, 404, 405, 307) or path.startswith("/?")


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/vibe-edit",
        "/gradio_api/process_recording",
        "/gradio_api/run-history/connect",
        "/gradio_api/upload",
        "/login",
    ],
)
def test_gradios_other_doors_are_shut(site: Site, path: str) -> None:
    assert site.ask(path, {"Content-Type": "application/json"}, "POST", "{}")[0] == 404


def test_no_part_of_the_page_takes_files_by_gradios_way_of_uploading(site: Site) -> None:
    """Files come in as content of a question (presets, pictures), never as a path that the browser tells."""
    config = json.loads(site.ask("/config")[1])
    assert not {"uploadbutton", "file", "image"} & {item["type"] for item in config["components"]}


@pytest.mark.parametrize(
    ("host", "is_let_in"),
    [
        ("127.0.0.1:{port}", True),
        ("localhost:{port}", True),
        ("LOCALHOST:9000", True),  # through a tunnel
        ("[::1]:{port}", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:{port}", False),
        ("localhost.evil.example", False),
        ("192.168.1.7:{port}", False),
        ("127.0.0.1:{port}@evil.example", False),
        ("", False),
    ],
)
def test_only_the_servers_own_names_are_answered(site: Site, host: str, is_let_in: bool) -> None:
    """DNS rebinding: another site's name that leads to this machine brings that site's scripts along."""
    status, _, _ = site.ask("/gradio_api/app_id", {"Host": host.format(port=site.port)})
    assert (status == 200) == is_let_in


FOREIGN: dict[str, dict[str, str]] = {
    "other site": {"Origin": "https://evil.example"},
    "no site": {"Origin": "null"},
    "other program of this machine": {"Origin": "http://127.0.0.1:1"},
    "other name of this machine": {"Origin": "http://localhost:{port}"},
    "like name": {"Origin": "http://127.0.0.1:{port}.evil.example"},
    "picture in another site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "page of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    "frame": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
}


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_sites_are_refused(site: Site, case: str, method: str) -> None:
    headers = {name: value.format(port=site.port) for name, value in FOREIGN[case].items()}
    path = "/gradio_api/app_id" if method == "GET" else "/gradio_api/run/predict"
    status, _, answered = site.ask(path, {**headers, "Content-Type": "application/json"}, method, "{}")
    assert status == 403
    assert "access-control-allow-origin" not in {name.lower() for name in answered}


def test_a_link_from_another_site_opens_the_page_and_our_own_page_may_ask(site: Site) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    status, _, headers = site.ask("/", link)
    assert status == 200
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    own = {"Origin": f"http://127.0.0.1:{site.port}", "Sec-Fetch-Site": "same-origin"}
    assert site.ask("/gradio_api/app_id", own)[0] == 200


def test_a_form_of_another_site_without_an_origin_is_refused(site: Site) -> None:
    assert site.ask("/gradio_api/run/predict", {"Referer": "https://evil.example/"}, "POST", "{}")[0] == 403


def test_a_forged_forwarded_host_changes_nothing(site: Site) -> None:
    status, content, _ = site.ask("/config", {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"})
    assert status == 200
    assert b"evil.example" not in content


@pytest.mark.slow
def test_the_program_rests_while_nothing_happens() -> None:
    blocks = app.build()
    server.guarded(blocks, options([]), None)
    assert blocks._queue.sleep_when_free >= 0.05  # Gradio's own 0.001 is a tenth of a core
