"""kill -9 of the queue's worker at any point: nothing is lost, nothing runs twice, and the order is kept."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import event_log, events
from engine.gpus import Gpu
from engine.preset import ROOT, load
from engine.queue import Entry, Queue, of_preset
from engine.run import is_held
from launchers import worker
from launchers.worker import Worker

# A work in place of the engine: it tells that it begins and ends as an engine does, and whether another one was there.
WORK = """
mkdir "$1/busy" || echo "$2" >> "$1/overlaps"
cat "$1/started" >> "$3/events.jsonl"
echo "$2" >> "$1/ran"
sleep 0.02
cat "$1/$4" >> "$3/events.jsonl"
rmdir "$1/busy"
"""

# Every write, lock and start of the worker is a point at which it may be killed, before or after.
KILLED_WORKER = """
import os, signal, subprocess, sys
from pathlib import Path
import filelock
sys.path.insert(0, sys.argv[1])
from tests import test_queue_kills as test

def counted(function):
    def call(*given, **named):
        step()
        result = function(*given, **named)
        step()
        return result
    return call

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[2])
for points in map(int, sys.argv[3].split(",")):
    if os.fork() == 0:
        left = points
        subprocess.Popen.__init__ = counted(subprocess.Popen.__init__)
        Path.replace, Path.unlink, Path.mkdir = counted(Path.replace), counted(Path.unlink), counted(Path.mkdir)
        filelock.FileLock.release = counted(filelock.FileLock.release)
        test.make_worker(folder).run()
        os._exit(0)
    os.wait()
"""


def make_worker(folder: Path) -> Worker:
    """A worker whose works are WORK."""

    def command(entry: Entry) -> list[str]:
        ending = "failed" if entry.title.endswith("bad") else "finished"
        return ["/bin/sh", "-c", WORK, "sh", str(folder), entry.title, entry.folder, ending]

    return Worker(Queue(folder / "queue"), [Gpu("", "processor")], command, poll_seconds=0.005)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with what the works tell."""
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    for kind, event in {
        "started": events.Started("a", 1, 1, 1, 0, 1, "cpu"),
        "finished": events.Finished(1, "", 1.0),
        "failed": events.Failed("the disk is full", 2),
    }.items():
        event_log.EventLog(tmp_path / kind).emit(event)
    return tmp_path


def fill(folder: Path, titles: list[str]) -> list[Entry]:
    preset = load(ROOT / "presets" / "demo.json")
    made = Queue(folder / "queue")
    return [
        made.add(of_preset(preset.changed({"run.name": title, "run.folder": str(folder / "runs")}))) for title in titles
    ]


def ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


@pytest.mark.slow
def test_a_worker_that_is_killed_again_and_again_runs_every_entry_once_and_in_order(folder: Path) -> None:
    titles = ["a", "b", "c-bad", "a", "d", "e"]
    fill(folder, titles)
    chance = random.Random(7)
    points = ",".join(str(chance.randrange(1, 70)) for _ in range(24))
    command = [sys.executable, "-c", KILLED_WORKER, str(ROOT), str(folder), points]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, stdout=subprocess.DEVNULL)
    make_worker(folder).run()
    assert ran(folder) == titles
    assert not (folder / "overlaps").exists()
    entries = Queue(folder / "queue").entries()
    assert [entry.title for entry in entries] == titles
    assert [entry.state for entry in entries] == ["finished", "finished", "failed", "finished", "finished", "finished"]
    assert entries[2].message == "the disk is full"
    assert len({entry.folder for entry in entries}) == len(titles)


@pytest.mark.slow
def test_the_points_of_the_kill_test_are_within_a_workers_work(folder: Path) -> None:
    """Kills that come too late would test nothing."""
    fill(folder, ["a", "b"])
    command = [sys.executable, "-c", KILLED_WORKER, str(ROOT), str(folder), "25"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, stdout=subprocess.DEVNULL)
    assert any(entry.state != "finished" for entry in Queue(folder / "queue").entries())


def test_the_work_outlives_its_worker_and_the_next_worker_waits_for_it(folder: Path) -> None:
    fill(folder, ["slow"])
    first = make_worker(folder)
    first.command = lambda entry: ["/bin/sleep", "30"]
    assert first.start_next()
    entry = first.queue.entries()[0]
    second = make_worker(folder)
    second.settle()
    assert second.queue.get(entry.id).state == "running"
    assert is_held(second.queue.alive_lock(entry.id))
    first._children[entry.id].kill()
    first._children[entry.id].wait()
    second.settle()
    assert second.queue.get(entry.id).state == "waiting"  # nobody watched its end: as after a power cut


def test_a_work_that_is_killed_under_its_worker_is_not_begun_again_by_itself(folder: Path) -> None:
    fill(folder, ["a", "b"])
    worker = make_worker(folder)
    kill, works = worker.command, []

    def command(entry: Entry) -> list[str]:
        works.append(entry.title)
        return ["/bin/sh", "-c", "kill -9 $$"] if entry.title == "a" else kill(entry)

    worker.command = command
    worker.run()
    assert works == ["a", "b"]
    first, second = worker.queue.entries()
    assert (first.state, second.state) == ("killed", "finished")
    worker.queue.again(first.id)
    worker.command = kill
    worker.run()
    assert worker.queue.entries()[0].state == "finished"
    assert worker.queue.entries()[0].folder == first.folder  # it went on in its own folder


def test_what_is_cut_off_again_and_again_is_given_up(folder: Path) -> None:
    fill(folder, ["a"])
    for _ in range(worker.MOST_STARTS):
        cut = make_worker(folder)
        cut.command = lambda entry: ["/bin/sh", "-c", f"cat {folder}/started >> {entry.folder}/events.jsonl"]
        assert cut.start_next()
        next(iter(cut._children.values())).wait()
        make_worker(folder).settle()
    assert Queue(folder / "queue").entries()[0].state == "killed"


def test_a_torn_or_foreign_file_does_not_stop_the_queue(folder: Path) -> None:
    entries = fill(folder, ["a", "b"])
    made = folder / "queue" / "entries"
    (made / "torn.json").write_text('{"v": 1, "id": "torn"')
    (made / "newer.json").write_text(json.dumps({"v": 99, "id": "newer"}))
    (folder / "queue" / "order.json").write_text("[")
    assert [entry.id for entry in Queue(folder / "queue").entries()] == [entry.id for entry in entries]


@pytest.mark.slow
def test_the_real_worker_starts_works_and_ends_when_nothing_is_left(folder: Path) -> None:
    """A job that does not exist is the quickest real work: its process says so and ends."""
    made = Queue(folder / "queue")
    (folder / "jobs" / "gone").mkdir(parents=True)
    made.add(Entry("", "job", "gone", folder=str(folder / "jobs" / "gone")))
    made.pause()
    assert not worker.start_worker(made)
    made.pause(False)
    assert worker.start_worker(made)
    deadline = time.monotonic() + 60
    while not made.entries()[0].is_over or made.has_worker():
        assert time.monotonic() < deadline, (folder / "queue" / "log.txt").read_text()
        time.sleep(0.05)
    assert made.entries()[0].state == "failed"
    assert "no job in this folder" in made.entries()[0].message
    assert not made.needs_worker()
