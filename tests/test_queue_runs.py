"""Real work through the queue: two trainings one after the other, then pictures with what the first one learned."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from engine import event_log, events, queue
from engine.queue import Entry, Queue, of_preset
from engine.run import RunFolder
from launchers.worker import start_worker
from tests.training import events_of, small_preset
from ui import api, run_answers, run_list, served
from ui.failure_page import report_of
from ui.run_view import view_of

pytestmark = pytest.mark.slow
TOKEN, KEY = "hf_" + "plantedTokenOfATest0123456789", "planted-key-0123456789-abcdef"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(run_list, "_known_folders", [tmp_path / "runs"])
    monkeypatch.setattr(served, "folders", [])
    return tmp_path


def wait(here: Queue, is_there, what: str) -> list[Entry]:
    deadline = time.monotonic() + 600
    while not is_there(here.entries()):
        assert time.monotonic() < deadline, f"{what}: {here.entries()} {(here.path / 'log.txt').read_text()}"
        time.sleep(0.1)
    return here.entries()


def spans(runs: list[RunFolder]) -> list[tuple[str, str]]:
    """When each run began and ended, by its events."""
    told = [event_log.read(run.events)[0] for run in runs]
    return [(entries[0].time, entries[-1].time) for entries in told]


def test_two_trainings_and_a_drawing_follow_each_other_and_no_token_gets_anywhere(home: Path) -> None:
    here = queue.queue()
    changes = {"run__steps": 2, "sample__prompts": "a sks thing", "sample__steps": 1, "sample__every_epochs": 0}
    for name in ("first", "second"):
        here.add(of_preset(small_preset(home, run__name=name, **changes)))
    assert start_worker()
    wait(here, lambda entries: entries[0].state != "waiting" and entries[1].state == "running", "the second training")
    first, second = (RunFolder(home / "runs" / name) for name in ("first", "second"))
    saved = first.last_checkpoint()
    assert saved is not None
    asked = {"ask": "draw", "run": str(first.path), "checkpoint": saved.name}
    assert run_answers.answer(asked) == {"message": ""}  # while the second one is trained
    assert "no such checkpoint" in run_answers.answer({**asked, "checkpoint": "../x"})["message"]
    done = wait(here, lambda entries: all(entry.is_over for entry in entries), "the end of all")
    assert [(entry.kind, entry.state) for entry in done] == [
        ("run", "finished"),
        ("run", "finished"),
        ("sample", "finished"),
    ]

    one, other = spans([first, second])
    assert one[0] < one[1] <= other[0] < other[1]
    assert [len(events_of(run, events.Finished)) for run in (first, second)] == [1, 1]
    (drawn,) = (first.path / "drawn" / saved.stem).glob("*.png")
    assert "a sks thing" in str(Image.open(drawn).info["parameters"])
    shown = run_answers.look(str(first.path), "", {})["parts"]["checkpoints"]["content"]
    assert all(f"data-{name}=" in shown for name in ("draw", "sample", "go-on")) and drawn.stem in shown

    for path in home.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert TOKEN.encode() not in content and KEY.encode() not in content, path
    told = [report_of(view_of(run.path), "finished") for run in (first, second)]
    api = answers(["runs", "runs/first", "runs/first/log", "runs/first/samples", "queue", f"queue/{done[2].id}"])
    assert not any(secret in text for secret in (TOKEN, KEY) for text in (*told, *api))


def answers(paths: list[str]) -> list[str]:
    """What the API tells."""
    app = FastAPI(openapi_url=None)
    api.add_to(app)
    asking = TestClient(app, base_url="http://127.0.0.1:7860")
    found = [asking.get(f"/api/v1/{path}") for path in paths]
    assert all(answer.status_code == 200 for answer in found)
    return [answer.text for answer in found]
