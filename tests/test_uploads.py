"""Uploads happen beside the run, are tried again, and never fail or delay it; a token is shown nowhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from engine import events
from engine.preset import ROOT, Preset
from engine.run import RunFolder, create
from engine.upload import is_refused, work_off
from engine.uploads import Uploads, is_waiting, uploads_folder

TOKEN = "hf_planted_token_that_must_not_be_seen"


class Idle:
    """A process that is at work for ever, or has ended."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self) -> int | None:
        return self.code


def preset(**sharing) -> Preset:
    named = {f"sharing.{name}": value for name, value in {"hub_repo": "me/cat", **sharing}.items()}
    return Preset().changed({"run.name": "cat", **named})


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return create(preset(), tmp_path / "a run")


def saved(run: RunFolder, name: str, what: str = "checkpoint", step: int = 5) -> events.Saved:
    folder = "state" if what == "state" else "checkpoints"
    (run.path / folder / name).write_bytes(b"weights of " + name.encode())
    return events.Saved(step, what, f"{folder}/{name}", 10)


def wishes(run: RunFolder) -> list[str]:
    return sorted(path.stem for path in uploads_folder(run).glob("*.json"))


def listening(run: RunFolder, code: int | None = 0, **sharing) -> tuple[Uploads, list, list]:
    started, warned = [], []
    return (
        Uploads(preset(**sharing), run, warned.append, lambda run: started.append(run) or Idle(code)),
        started,
        warned,
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ("final", ["cat-best.safetensors", "cat.safetensors"]),
        ("checkpoints", ["cat-000005.safetensors", "cat-best.safetensors", "cat.safetensors"]),
        (
            "checkpoints_and_states",
            ["cat-000005.safetensors", "cat-best.safetensors", "cat.safetensors", "step-00000005.safetensors"],
        ),
    ],
)
def test_what_is_asked_for_is_uploaded(run, files, expected):
    uploads, _, _ = listening(run, hub_files=files)
    for name in ("cat-000005.safetensors", "cat.safetensors", "cat-best.safetensors"):
        uploads(saved(run, name))
    uploads(saved(run, "step-00000005.safetensors", "state"))
    assert wishes(run) == expected


def test_one_process_at_a_time_and_one_more_at_the_end(run):
    uploads, started, _ = listening(run, code=None)
    uploads(saved(run, "cat.safetensors"))
    uploads(saved(run, "cat-best.safetensors"))
    assert len(started) == 1
    uploads(events.Finished(5, "x", 1.0))
    assert len(started) == 2


def test_what_was_left_over_is_taken_up_by_the_next_start(run):
    listening(run)[0](saved(run, "cat.safetensors"))
    _, started, _ = listening(run)
    assert started == [run]


def test_wishes_are_worked_off_the_oldest_first_and_told_in_the_log(run):
    uploads, _, _ = listening(run, hub_files="checkpoints", hub_folder="loras/")
    for number, name in enumerate(("cat-000005.safetensors", "cat.safetensors")):
        uploads(saved(run, name))
        os.utime(uploads_folder(run) / f"{name}.json", (number, number))
    sent = []
    work_off(run, lambda wish, file: sent.append((wish["path_in_repo"], wish["private"], file.read_bytes())) or "there")
    assert sent == [
        ("loras/cat-000005.safetensors", True, b"weights of cat-000005.safetensors"),
        ("loras/cat.safetensors", True, b"weights of cat.safetensors"),
    ]
    assert wishes(run) == [] and "Uploaded checkpoints/cat.safetensors to there" in run.log.read_text()


def test_a_network_that_comes_back_is_enough(run):
    listening(run)[0](saved(run, "cat.safetensors"))
    answers = iter([ConnectionError("gone"), TimeoutError("slow"), None])

    def send(wish, file):
        if (answer := next(answers)) is not None:
            raise answer
        return "there"

    work_off(run, send, waits_seconds=(0.0, 0.0))
    assert wishes(run) == []


def test_without_a_network_there_is_one_warning_and_the_files_stay(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    uploads, _, warned = listening(run)
    uploads(saved(run, "cat.safetensors"))
    tries = []

    def send(wish, file):
        tries.append(wish)
        raise ConnectionError(f"no route to the hub with {TOKEN}")

    assert is_waiting(run, run.checkpoints / "cat.safetensors")
    work_off(run, send, waits_seconds=(0.0, 0.0))
    assert len(tries) == 3
    for event in (events.Saved(6, "state", "state/x", 1), events.Saved(7, "state", "state/y", 1), events.Stopped(7)):
        uploads(event)
    (text,) = warned
    assert "me/cat" in text and "no route" in text and "stay in the run folder" in text and TOKEN not in text
    assert (run.checkpoints / "cat.safetensors").exists() and wishes(run) == ["cat.safetensors"]
    assert not is_waiting(run, run.checkpoints / "cat.safetensors")  # so that thinning out does not wait for it
    assert not [path for path in run.path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_file_that_was_saved_anew_meanwhile_is_uploaded_again(run):
    uploads, _, _ = listening(run)
    uploads(saved(run, "cat-best.safetensors", step=5))
    seen = []

    def send(wish, file):
        seen.append(wish["message"])
        if len(seen) == 1:
            uploads(saved(run, "cat-best.safetensors", step=9))
        return "there"

    work_off(run, send)
    assert seen == ["a run, step 5", "a run, step 9"]


def test_a_file_that_was_thinned_out_meanwhile_is_forgotten(run):
    listening(run)[0](saved(run, "cat.safetensors"))
    (run.checkpoints / "cat.safetensors").unlink()
    work_off(run, lambda wish, file: pytest.fail("there is nothing to send"))
    assert wishes(run) == []


@pytest.mark.parametrize(("status", "refused"), [(401, True), (403, True), (404, True), (429, False), (503, False)])
def test_a_no_from_the_hub_is_not_asked_again(status, refused):
    error = RuntimeError("answer")
    error.response = type("Response", (), {"status_code": status})()  # type: ignore[attr-defined]
    assert is_refused(error) is refused
    assert is_refused(ConnectionError("gone")) is False and is_refused(ValueError("not logged in")) is True


class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub as one small file needs."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))  # type: ignore[attr-defined]
        base = f"http://127.0.0.1:{self.server.server_address[1]}"  # type: ignore[attr-defined]
        if self.path == "/api/repos/create":
            self._answer({"url": f"{base}/me/cat", "name": "me/cat", "id": "me/cat"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self._answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        else:
            self._answer({"commitUrl": f"{base}/me/cat/commit/1", "commitOid": "1", "success": True})

    def do_GET(self) -> None:
        self._answer({"id": "me/cat", "siblings": [], "type": "user", "name": "me"})

    def _answer(self, content) -> None:
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_process_uploads_by_the_hub_s_own_protocol_with_the_token_of_the_environment(run, hub, tmp_path):
    uploads, _, _ = listening(run, hub_visibility="private")
    uploads(saved(run, "cat.safetensors"))
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    command = [sys.executable, "-m", "engine.upload", str(run.path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    faults = [path.read_text() for path in uploads_folder(run).glob("*.fault")]
    assert faults == [] and wishes(run) == []
    paths = [path for path, _, _ in hub.asked]
    assert paths[0] == "/api/repos/create" and any("/commit/" in path for path in paths)
    made = json.loads(hub.asked[0][2])
    assert made.get("visibility") == "private" or made.get("private") is True
    assert all(token == f"Bearer {TOKEN}" for _, token, _ in hub.asked)
    commit = next(body for path, _, body in hub.asked if "/commit/" in path)
    lines = [json.loads(line) for line in commit.splitlines()]
    (file,) = [line["value"] for line in lines if line["key"] == "file"]
    assert base64.b64decode(file["content"]) == b"weights of cat.safetensors" and file["path"] == "cat.safetensors"
    assert not [path for path in run.path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
