"""The queue: frozen copies in an order that the user makes, and who gets which GPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from engine.__main__ import main
from engine.commands import STOPPED
from engine.errors import UserError
from engine.gpus import Gpu, read_list
from engine.in_use import measuring
from engine.preset import ROOT, Preset, load
from engine.queue import Entry, Queue, of_job, of_preset, of_run, of_sampling, preset_of
from engine.run import create, held
from launchers import worker
from launchers.worker import Worker

SMI = "0, GPU-aaa, NVIDIA GeForce RTX 3060, 12288\n1, GPU-bbb, NVIDIA H200, 143771\n"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    return Queue(tmp_path / "queue")


def preset(made: Queue, name: str, **changes: object) -> Preset:
    return load(ROOT / "presets" / "demo.json").changed(
        {"run.name": name, "run.folder": str(made.path.parent / "runs"), **changes}
    )


def titles(made: Queue) -> str:
    return " ".join(entry.title for entry in made.entries())


def test_entries_keep_the_order_that_the_user_makes(made: Queue) -> None:
    a, b, c = (made.add(of_preset(preset(made, name))) for name in "abc")
    made.move(c.id, 0)
    assert titles(made) == "c a b"
    made.move(c.id, 99)
    assert titles(made) == "a b c"
    assert made.duplicate(a.id).id != a.id
    assert titles(made) == "a a b c"
    made.remove(b.id)
    assert titles(made) == "a a c"


def test_an_entry_is_a_frozen_copy_and_can_be_changed_while_it_waits(made: Queue) -> None:
    entry = made.add(of_preset(preset(made, "a")))
    made.replace_preset(entry.id, preset(made, "b", **{"adapter.rank": 5}))
    (changed,) = made.entries()
    assert (changed.id, changed.title, preset_of(changed).adapter.rank) == (entry.id, "b", 5)
    with made.changing():
        made.write(Entry(entry.id, "run", "b", "running", changed.preset))
    for refused in (
        lambda: made.replace_preset(entry.id, preset(made, "c")),
        lambda: made.remove(entry.id),
        lambda: made.again(entry.id),
    ):
        with pytest.raises(UserError):
            refused()


@pytest.mark.parametrize("name", ["", "nothing", "2"])
def test_an_unknown_or_unclear_id_is_refused(made: Queue, name: str) -> None:
    for title in "ab":
        made.add(of_preset(preset(made, title)))
    with pytest.raises(UserError, match="no such entry"):
        made.get(name)


def test_commands_of_all_kinds_of_work(made: Queue, tmp_path: Path) -> None:
    several = of_preset(preset(made, "a", **{"run.gpus": 2}))
    assert worker.command_of(several)[1:5] == ["-m", "launchers.several", "--gpus", "2"]
    assert worker.command_of(of_job(tmp_path, "job"))[1:] == ["-m", "captioning", "run", str(tmp_path)]
    drawn = of_sampling(["run", "--prompt", "a cat; rm -rf /"], tmp_path)
    assert worker.command_of(drawn)[1:] == ["-m", "engine", "sample", "run", "--prompt", "a cat; rm -rf /"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, "GPU-aaa GPU-bbb"), ("1", "GPU-bbb"), ("1,0", "GPU-bbb GPU-aaa"), ("GPU-b", "GPU-bbb"), ("", "")],
)
def test_gpus_are_those_of_the_driver_that_the_user_left_visible(visible: str | None, names: str) -> None:
    found = read_list(SMI, visible)
    assert " ".join(gpu.name for gpu in found) == names
    assert all("NVIDIA" in gpu.title and gpu.memory_bytes > 12e9 for gpu in found)


class Started(Worker):
    """A worker that notes what it would start."""

    def _start(self, entry: Entry, given: list[str]) -> None:
        self.queue.write(Entry(entry.id, "run", entry.title, "running", entry.preset, "x", given=tuple(given)))


def given(made: Queue) -> list[tuple[str, ...]]:
    return [entry.given for entry in made.entries() if entry.state == "running"]


def test_each_gpu_gets_one_and_a_run_for_two_waits_until_both_are_free(made: Queue) -> None:
    gpus = read_list(SMI, None)
    for name, count in (("a", 1), ("b", 2), ("c", 1)):
        made.add(of_preset(preset(made, name, **{"run.gpus": count})))
    work = Started(made, gpus)
    assert work.start_next()
    assert not work.start_next()  # b needs both, and c does not overtake it
    assert given(made) == [("GPU-aaa",)]
    made.move(made.entries()[2].id, 1)
    assert work.start_next()
    assert given(made) == [("GPU-aaa",), ("GPU-bbb",)]


def test_more_gpus_than_there_are_is_a_fault_that_does_not_stop_the_rest(made: Queue) -> None:
    made.add(of_preset(preset(made, "a", **{"run.gpus": 3})))
    made.add(of_preset(preset(made, "b")))
    work = Started(made, [Gpu("", "processor")])
    assert work.start_next()
    assert work.start_next()
    first, second = made.entries()
    assert (first.state, second.state) == ("failed", "running")
    assert "needs 3 GPUs" in first.message


def test_a_run_or_a_measurement_that_was_started_elsewhere_is_waited_for(made: Queue) -> None:
    other = create(preset(made, "other"))
    made.add(of_preset(preset(made, "a")))
    work = Started(made, [Gpu("", "processor")])
    with held(other):
        assert not work.start_next()
    with measuring([]):  # nor is anything begun beside three steps that are measured
        assert not work.start_next()
    assert work.start_next()


def test_a_paused_queue_starts_nothing(made: Queue) -> None:
    made.add(of_preset(preset(made, "a")))
    made.pause()
    assert not Started(made, [Gpu("", "processor")]).start_next()
    assert not made.needs_worker()
    made.pause(False)
    assert made.needs_worker()


def test_a_folder_that_somebody_took_meanwhile_is_left_alone(made: Queue) -> None:
    entry = made.add(of_preset(preset(made, "a")))
    taken = create(preset(made, "a", **{"adapter.rank": 3}))
    with made.changing():
        made.write(Entry(entry.id, "run", "a", preset=entry.preset, folder=str(taken.path)))
    work = Worker(made, [Gpu("", "processor")], command=lambda entry: ["/bin/true"])
    work.start_next()
    assert made.entries()[0].folder == f"{taken.path}-2"
    resumed = of_run(taken.path, preset(made, "a"))
    assert worker._folder(resumed) == taken.path


def test_a_drawing_can_be_stopped_and_a_failed_one_tells_why(made: Queue, tmp_path: Path) -> None:
    entry = made.add(of_sampling(["run"], tmp_path / "drawn"))
    with pytest.raises(UserError, match="not running"):
        made.stop(entry.id)
    with made.changing():
        made.write(dataclasses.replace(entry, state="running"))
    made.stop(entry.id)
    assert (tmp_path / "drawn" / "requests" / "stop").exists()
    log = tmp_path / "drawn" / "log.txt"
    for said, exit_code, state in (("0000.png", 0, "finished"), (STOPPED, 0, "stopped"), ("no prompt", 2, "failed")):
        log.write_text(f"0000.png\n{said}\n")
        ended = worker.settle(made.get(entry.id), exit_code)
        assert (ended.state, ended.message) == (state, said if exit_code else "")


def test_the_command_line_adds_lists_moves_pauses_and_removes(made: Queue, capsys) -> None:
    demo = str(ROOT / "presets" / "demo.json")
    for name in ("one", "two"):
        assert main(["queue", "add", demo, "--set", f"run.name={name}"]) == 0
    capsys.readouterr()
    assert main(["queue", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["title"] for entry in listed["entries"]] == ["one", "two"]
    assert listed["gpus"]
    assert main(["queue", "move", listed["entries"][1]["id"], "1"]) == 0
    assert titles(made) == "two one"
    assert main(["queue", "pause"]) == 0
    assert made.is_paused()
    assert main(["queue", "remove", listed["entries"][0]["id"]]) == 0
    assert main(["queue", "remove", listed["entries"][0]["id"]]) == 2
    assert main(["queue", "add", demo, "--set", "model.base=nothing.safetensors"]) == 2
    assert titles(made) == "two"
