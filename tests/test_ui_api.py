"""The JSON API: every example of its page works, faults are sentences, and nothing but listed runs can be reached."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from PIL import Image
from starlette.testclient import TestClient

from engine import event_log, events
from engine.preset import ROOT, Preset, load
from engine.queue import Queue
from engine.run import RunFolder, create, held
from ui import api, history, run_list, served
from ui.guard import Guard

EXAMPLES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]
OPTIONS = {"-X": "method", "--json": "body", "-o": "out"}


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    changes = {"run.folder": str(tmp_path / "runs"), "run.name": "demo"}
    return load(ROOT / "presets" / "demo.json").changed(changes)


@pytest.fixture
def runs(tmp_path: Path, preset: Preset, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunFolder]]:
    """Two runs, "demo" and "demo-2", as they lie in their folders; nothing is really started."""
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    monkeypatch.setattr(run_list, "_known_folders", [tmp_path / "runs"])
    monkeypatch.setattr(run_list, "launch", lambda path, gpus=1: None)
    monkeypatch.setattr(api, "start_worker", lambda: False)
    before = list(served.folders)
    made = [create(preset), create(preset.changed({"adapter.rank": 3}))]
    for run in made:
        log = event_log.EventLog(run.events)
        log.emit(events.Started(run.name, 2, 1, 2, 0, 1, "cpu"))
        log.emit(events.Step(1, 1, 0.5, {"unet": 1e-4}, None, 0.1, 1, 0))
        log.emit(events.Sampled(0, 0, "a blob", 1, "samples/step-000000_00.png", 0.1))
        log.emit(events.Stopped(1))
        Image.new("RGB", (8, 8)).save(run.samples / "step-000000_00.png")
        run.log.write_text("one\ntwo\n")
    yield made
    served.folders[:] = before


@pytest.fixture
def client(runs: list[RunFolder]) -> TestClient:
    app = FastAPI(openapi_url=None)
    api.add_to(app)
    return TestClient(Guard(app, frozenset({"127.0.0.1"}), loopback_only=True), base_url="http://127.0.0.1:7860")


def curl(client: TestClient, line: str, preset: Preset, names: dict[str, str]) -> Any:
    """What curl does with one line of the page, for the options that the page uses."""
    words = shlex.split(line)
    assert words.pop(0) == "curl"
    given: dict[str, str] = {}
    while words[0].startswith("-"):
        word = words.pop(0)
        if word != "-s":
            given[OPTIONS[word]] = words.pop(0)
    (url,) = words
    for name, value in names.items():
        url = re.sub(rf"(?<=/){name}(?=/|$)", value, url)
    body = given.get("body")
    if body and body.startswith("@"):
        body = preset.model_dump_json()
    headers = {"Content-Type": "application/json"} if body is not None else {}
    return client.request(
        given.get("method", "POST" if body is not None else "GET"), url, content=body, headers=headers
    )


@pytest.mark.slow
def test_every_example_of_the_page_works(client: TestClient, runs: list[RunFolder], preset: Preset) -> None:
    names, tried = {}, 0
    for line in EXAMPLES:
        if re.search("/runs/demo/(s|pause|continue)", line) and "-X POST" in line:  # of a run that is running
            with held(runs[0]):
                answer = curl(client, line, preset, names)
        elif line.endswith(("/again", "/ID/stop")):  # of an entry in that state
            queue = Queue(runs[0].path.parent.parent / "queue")
            with queue.changing():
                state = "running" if line.endswith("stop") else "failed"
                entry = queue.get(names["ID"])
                queue.write(type(entry)(**{**entry.__dict__, "state": state, "folder": str(runs[0].path)}))
            answer = curl(client, line, preset, names)
            with queue.changing():
                queue.write(entry)
        else:
            answer = curl(client, line, preset, names)
        assert answer.status_code in (200, 201, 202), (line, answer.text)
        if answer.headers["content-type"] == "application/json":
            told = answer.json()
            names |= {"ID": told["id"]} if "id" in told and "ID" not in names else {}
            if isinstance(told.get("bin"), str):
                names["NAME"] = told["bin"]
            if line.endswith("/restore"):
                curl(client, f"curl -s -X DELETE http://127.0.0.1:7860{api.PREFIX}/runs/{told['run']}", preset, names)
                names["NAME"] = client.get(f"{api.PREFIX}/bin").json()["bin"][0]["name"]
        tried += 1
    assert tried == len(EXAMPLES) > 25


def test_every_address_stands_on_the_page() -> None:
    page = "\n".join(EXAMPLES)
    for route in api.router.routes:
        assert isinstance(route, APIRoute)
        pattern = re.sub(r"\\\{\w+\\\}", "[^/ ]+", re.escape(route.path))
        assert re.search(rf"{pattern}(\?[^ ]*)?\"?$", page, re.MULTILINE), route.path


def test_answers_tell_what_the_folders_hold(client: TestClient, preset: Preset) -> None:
    status = client.get("/api/v1/runs/demo").json()
    assert (status["state"], status["step"], status["steps"], status["smoothed_loss"]) == ("stopped", 1, 2, 0.5)
    assert client.get("/api/v1/runs/demo/log?lines=1").json()["lines"] == ["two"]
    (sample,) = client.get("/api/v1/runs/demo/samples").json()["samples"]
    assert client.get(sample["file"]).content[:4] == b"\x89PNG"
    (row,) = client.get("/api/v1/compare?first=demo&second=demo-2").json()["differences"]
    assert (row["path"], row["second"]) == ("adapter.rank", 3)
    found = client.post("/api/v1/check", content=preset.model_dump_json(), headers={"Content-Type": "application/json"})
    assert found.json()["steps"] > 0
    assert found.json()["problems"] == []


def test_faults_are_sentences_that_name_the_setting(client: TestClient, preset: Preset) -> None:
    bad = json.loads(preset.model_dump_json())
    bad["adapter"]["rank"] = 0
    for path in ("runs", "queue"):
        answer = client.post(f"/api/v1/{path}", json=bad)
        assert answer.status_code == 422
        assert answer.json()["problems"][0]["where"] == "adapter.rank"
    assert client.post("/api/v1/runs/demo/stop", json={}).json()["error"].endswith("is not running.")
    assert client.post("/api/v1/check", json={"version": 999}).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "runs/other", "runs/..%2Fdemo", "runs/%2Fetc", "runs/demo/samples/..%2Fpreset.json", "runs/.bin",
        "runs/demo/samples/%2Fetc%2Fpasswd", "runs/demo/samples/link.png", "runs/demo/samples/preset.json", "bin/demo",
        "queue/..%2Forder",
    ],
)  # fmt: skip
def test_nothing_but_what_is_listed_is_reached(
    client: TestClient, runs: list[RunFolder], tmp_path: Path, path: str
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (runs[0].samples / "link.png").symlink_to(tmp_path / "secret.png")
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code in (404, 405, 422)
    assert b"secret" not in answer.content


def test_pictures_outside_of_a_runs_folder_that_its_list_names_are_not_shown(
    client: TestClient, runs: list[RunFolder], tmp_path: Path
) -> None:
    """A run folder of somebody else's may name any file of this machine in its events."""
    Image.new("RGB", (8, 8)).save(tmp_path / "private.png")
    (runs[0].samples / "link.png").symlink_to(tmp_path / "private.png")
    log = event_log.EventLog(runs[0].events)
    for index, path in enumerate(
        (str(tmp_path / "private.png"), "samples/../../../private.png", "samples/link.png"), 1
    ):
        log.emit(events.Sampled(0, index, "a blob", 1, path, 0.1))
    assert len(client.get("/api/v1/runs/demo/samples").json()["samples"]) == 1


def test_a_form_of_another_site_changes_nothing(client: TestClient) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/json", "Origin": "http://evil"}):
        answer = client.post("/api/v1/queue/pause", content='{"paused": true}', headers=headers)
        assert answer.status_code in (403, 415)
    assert client.get("/api/v1/queue").json()["paused"] is False


def test_a_run_in_the_bin_comes_back_beside_one_that_took_its_name(runs: list[RunFolder], preset: Preset) -> None:
    history.set_note(runs[0], "mine")
    name = history.throw_away(runs[0])
    assert [run.name for run in run_list.all_runs()] == ["demo-2"]
    create(preset, runs[0].path)
    back = history.bring_back(name)
    assert back.name not in ("demo", "demo-2")
    assert history.note(history.find(back.name)) == "mine"
    assert history.thrown_away() == []


def test_a_running_run_cannot_be_thrown_away(runs: list[RunFolder]) -> None:
    with held(runs[0]), pytest.raises(Exception, match="Stop it first"):
        history.throw_away(runs[0])
