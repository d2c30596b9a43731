"""A hub of models on this machine: the few addresses that `huggingface_hub` asks, with faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "maker/tagger"


class Hub(ThreadingHTTPServer):
    """Serves `files` as REPOSITORY at COMMIT; every request is noted in `asked` as (method, path, range)."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = files
        self.asked: list[tuple[str, str, str]] = []
        self.breaks_after: list[int] = []  # bytes of the next answers after which the line is cut
        self.lies: dict[str, bytes] = {}  # what comes in the place of a file
        self.large = 100  # bytes from which a file is kept under its SHA-256

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub  # type: ignore[assignment]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server, self.path.split("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if path == f"/api/models/{REPOSITORY}/revision/main":
            self._send(200, json.dumps(self._listing()).encode(), {"Content-Type": "application/json"})
        elif found := re.fullmatch(rf"/{REPOSITORY}/resolve/{COMMIT}/(.+)", path):
            self._send_file(found[1])
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _listing(self) -> dict:
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [self._about(name) for name in self.server.files]}

    def _about(self, name: str) -> dict:
        content = self.server.files[name]
        about = {"rfilename": name, "size": len(content), "blobId": _git_sha1(content)}
        if len(content) >= self.server.large:
            sha256 = hashlib.sha256(content).hexdigest()
            about["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
        return about

    def _send_file(self, name: str) -> None:
        content = self.server.lies.get(name, self.server.files[name])
        start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, content[start:], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            is_file, breaks = "X-Repo-Commit" in headers, self.server.breaks_after
            self.wfile.write(body[: breaks.pop(0)] if is_file and breaks else body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Hub]:
    with Hub(files) as hub:
        thread = Thread(target=hub.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
