"""The report on a failed run tells what helps, and no key, name, path or text of the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import event_log, events
from engine.failures import Facts, diagnose
from engine.failures.private import Private
from engine.failures.report import LOG_LINES, report
from engine.preset import ROOT, Preset
from engine.run import RunFolder, create
from ui import run_answers, run_list

TOKEN = "hf_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7"
KEY = "plantedsecretvalue42"
PRIVATE = (
    TOKEN, KEY, "zebedee", "Zebedee", "Quimby", "quimbyhost", "sks woman", "holiday", "Holiday", "beach portrait",
    "/home/", "/srv/", "secretmodel", "D:\\",
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A failed run of the user zebedee, whose folders, images, prompts and log are full of what is private."""
    house = tmp_path / "home" / "zebedee"
    monkeypatch.setenv("HOME", str(house))
    monkeypatch.setenv("USER", "zebedee")
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    monkeypatch.setattr("platform.node", lambda: "quimbyhost.example")
    images = house / "Holiday Pictures" / "10_Quimby at sea"
    preset = Preset().changed({
        "model.base": "/srv/models/secretmodel v2.safetensors",
        "data.folder": str(images.parent),
        "run.name": "Quimby LoRA",
        "run.folder": str(house / "runs"),
        "sample.prompts": "a beach portrait of sks woman --n ugly\nsecond holiday line",
        "captions.trigger": "sks woman",
        "sharing.hub_repo": "zebedee/quimby-lora",
        "memory.precision": "fp32",
    })  # fmt: skip
    run = create(preset, house / "runs" / "Quimby LoRA")
    names = [images / "beach portrait 1.png", images / "Quimby.jpg"]
    run.plan.write_text(json.dumps({"images": [{"path": str(path)} for path in names]}))
    log = event_log.EventLog(run.events)
    log.emit(events.Started("Quimby LoRA", 9, 3, 3, 0, 1, "CPU, 2 threads"))
    log.emit(events.Stage("Training"))
    log.emit(events.Sampled(0, 0, "a beach portrait of sks woman", 1, "samples/x.png", 1.0))
    log.emit(events.Warned(f"step 3 gave a loss that is not finite. Images: beach portrait 1.png, {names[1]}."))
    trace = (
        f'Traceback (most recent call last):\n  File "{ROOT}/engine/train.py", line 120, in train\n'
        f'  File "{house}/.local/lib/x.py", line 1\nOSError: {names[0]}: token {TOKEN} of Quimby LoRA'
    )
    log.emit(events.Failed(f"OSError: {names[0]} on D:\\Users\\zebedee\\holiday\\a b.png {KEY}", 1, trace))
    said = [f"line {number} of /srv/models/secretmodel v2.safetensors at quimbyhost by zebedee" for number in range(60)]
    run.log.write_text(
        "\n".join([*said, "Uploads go to the hub: zebedee/quimby-lora", "a holiday snap.webp is broken"])
    )
    return run


def made(run: RunFolder) -> str:
    entries = event_log.read(run.events)[0]
    failed = entries[-1].event
    assert isinstance(failed, events.Failed)
    content = json.loads(run.preset.read_text())
    facts = Facts(
        "failed",
        told=failed.message + "\n" + failed.traceback,
        log=run.log.read_text(),
        exit_code=1,
        preset=Preset.model_validate(content),
    )
    return report(run, facts, diagnose(facts))


def test_the_report_holds_nothing_private(run: RunFolder) -> None:
    found = made(run)
    assert [text for text in PRIVATE if text in found] == []
    assert "zebedee" not in found.lower() and "quimby" not in found.lower()


def test_the_report_tells_what_helps(run: RunFolder) -> None:
    found = made(run)
    for text in (
        "defect: Something went wrong", "torch 2", "Python 3.", "memory.precision = fp32", "not finite",
        'File "<Atelier>/engine/train.py", line 120', "stage", "exit code: 1", "sample.prompts = (", "OSError",
    ):  # fmt: skip
        assert text in found, text
    lines = found.partition("lines of the log\n```\n")[2].partition("\n```")[0].split("\n")
    assert len(lines) == LOG_LINES and lines[0].startswith("line 22 of <model.base>")


def test_the_page_gives_the_report_of_a_listed_run_only(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "_known_folders", [run.path.parent])
    found = run_answers.answer({"ask": "report", "run": str(run.path)})["report"]
    assert "### Run" in found and [text for text in PRIVATE if text in found] == []
    assert run_answers.answer({"ask": "report", "run": "/etc"}) == {"report": ""}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/somebody/My Pictures/a b.png: is broken", "<home>.png: is broken"),
        ("C:\\Users\\Some Body\\models\\x.safetensors", "<home>.safetensors"),
        ("/mnt/disk/faces/anna/7.jpg cannot be read", "<path>"),
        ("\\\\server\\share\\x.png", "<path>.png"),
        ("/proc/driver/nvidia/version and /dev/shm", "/proc/driver/nvidia/version and /dev/shm"),
        ("https://user:pass@host/x", "https***host/x"),
        ("12.5 GiB of 24 GiB, 3/10 steps, fp16/bf16", "12.5 GiB of 24 GiB, 3/10 steps, fp16/bf16"),
    ],
)
def test_what_looks_like_a_path_of_the_user_is_replaced(text: str, shown: str, run: RunFolder) -> None:
    assert Private(run, Preset()).hide(text).startswith(shown)
