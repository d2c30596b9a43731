"""The command line of the tools: tables for people and programs, undo, redo, and the list of jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tool_runs import contents, make

from captioning.__main__ import main
from engine.tools import jobs


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(part) for part in arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make(tmp_path / "cat", {"a.png": None, "a.txt": "a"})


def test_a_dry_run_shows_the_table_and_leaves_nothing_behind(run, data: Path, tmp_path: Path):
    before = contents(tmp_path)
    code, out, _ = run("rename", data, "--dry-run")
    assert (code, contents(tmp_path)) == (0, before)
    assert out.splitlines() == [
        f"rename: {data}/a.png → {data}/cat_01.png",
        f"rename: {data}/a.txt → {data}/cat_01.txt   (goes along)",
        "2 files to rename, 0 called so already.",
    ]
    told = json.loads(run("rename", data, "--dry-run", "--json")[1])
    assert [row["target"] for row in told["rows"]] == [f"{data}/cat_01.png", f"{data}/cat_01.txt"]


def test_a_job_is_told_listed_undone_and_done_again(run, data: Path):
    before = contents(data)
    code, out, _ = run("rename", data, "--json")
    told = json.loads(out)
    assert (code, told["status"]) == (0, "finished")
    assert [row["outcome"] for row in told["rows"]] == ["done", "done"]
    after = contents(data)
    assert run("undo", told["job"])[1].startswith("restored 2\n")
    assert contents(data) == before
    assert json.loads(run("redo", told["job"], "--json")[1])["failed"] == []
    assert contents(data) == after
    assert json.loads(run("jobs", "--json")[1]) == [{"job": told["job"], "tool": "rename", "status": "finished"}]
    assert "2 done, 0 kept, 0 failed" in run("jobs")[1]


@pytest.mark.slow
def test_undo_waits_for_no_running_job_and_knows_what_is_none(run, data: Path, tmp_path: Path):
    job = jobs.JobFolder(Path(json.loads(run("rename", data, "--json")[1])["job"]))
    before = contents(data)
    with jobs.held(job):
        code, _, err = run("undo", job.path)
    assert (code, contents(data)) == (2, before)
    assert "another process works on this job" in err
    assert "this job changed nothing" in run("undo", tmp_path)[2]
    assert "cannot be read" in run("undo", tmp_path / "nowhere.jsonl")[2]


def test_a_folder_that_changed_since_the_table_was_shown_is_left_alone(data: Path, tmp_path: Path):
    from captioning.rename import Settings, propose
    from captioning.working import work

    settings = Settings(folder=str(data))
    job = jobs.create("rename", settings, tmp_path / "job", looked_at=propose(settings).digest())
    make(data, {"b.png": None})
    before = contents(data)
    assert (work(job), contents(data), job.status()) == (2, before, "failed")
    assert "the folder changed since the table was shown" in job.events.read_text()


def test_a_job_is_carried_out_once(data: Path, tmp_path: Path, run):
    job = json.loads(run("rename", data, "--json")[1])["job"]
    assert "this job was begun before" in run("run", job)[2]
    assert "there is no job in this folder" in run("run", tmp_path)[2]


def test_wrong_settings_are_all_told(run, data: Path):
    code, _, err = run("rename", data, "--set", "patern=x", "--set", "first_number=-1")
    assert code == 2
    assert sorted(err.splitlines()) == [
        "--set first_number: must be a whole number from 0 to 1000000 (got '-1').",
        "--set patern: there is no such setting. Did you mean pattern?",
    ]
