"""The tool `download`, against a hub on this machine: nothing without a yes, broken lines, wrong bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, REPOSITORY, Hub, serving

from captioning import download
from captioning.catalogue import MODELS
from captioning.hub import DEFAULT_OFFLINE, needed, user_is_offline
from captioning.model_folder import require_files
from captioning.working import work
from engine.errors import ModelError, UserError
from engine.tools import jobs
from engine.tools.tool import make_settings

WEIGHTS = random.Random(0).randbytes(300_000)
FILES = {"model.onnx": WEIGHTS, "selected_tags.csv": b"name\n", "README.md": b"about", ".gitattributes": b"x"}
TOTAL_BYTES = 300_005


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    import huggingface_hub.file_download
    from huggingface_hub import constants, hf_api

    with serving(FILES) as server:
        for module in (constants, hf_api, huggingface_hub.file_download):
            if hasattr(module, "ENDPOINT"):
                monkeypatch.setattr(module, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
        monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
        monkeypatch.setenv(DEFAULT_OFFLINE, "1")
        yield server


def settings(tmp_path: Path, **values: object) -> download.Settings:
    first = {"folder": str(tmp_path / "model"), "model": "other", "repository": REPOSITORY, "network": True}
    return make_settings("download", download.Settings, {**first, **values})


def carried_out(tmp_path: Path, number: int = 0, **values: object) -> tuple[int, list[tuple[str, str, str]]]:
    """The exit code, and (file, outcome, note) for each row."""
    job = jobs.create(
        "download", settings(tmp_path, **{"agreed_bytes": TOTAL_BYTES, **values}), tmp_path / f"job{number}"
    )
    code = work(job)
    return code, [(done.row.source, done.outcome, done.row.note) for done in job.read_table()[0]]


def gets(hub: Hub) -> list[tuple[str, str]]:
    return [(path.rpartition("/")[2], part) for method, path, part in hub.asked if method == "GET" and COMMIT in path]


def test_files_sizes_and_folder_are_shown_and_nothing_is_fetched_before_the_yes(hub: Hub, tmp_path: Path):
    proposal = download.propose(settings(tmp_path))
    assert [(row.source, row.action, row.note) for row in proposal.rows] == [
        ("model.onnx", "download", "300.0 kB (300,000 bytes)"),
        ("selected_tags.csv", "download", "5 bytes"),
    ]
    assert "2 files of maker/tagger, 300.0 kB (300,005 bytes) (licence: see its page" in proposal.summary
    assert [problem.where for problem in proposal.problems] == ["agreed_bytes"]
    assert f"in {tmp_path / 'model'} (got 0). To agree, set it to 300005." in proposal.problems[0].message
    assert carried_out(tmp_path, agreed_bytes=300_004)[0] == 2
    assert gets(hub) == []
    assert not (tmp_path / "model").exists()


def test_after_the_yes_every_file_comes_whole_and_a_second_time_nothing_is_fetched(hub: Hub, tmp_path: Path):
    code, rows = carried_out(tmp_path)
    assert (code, [row[1] for row in rows]) == (0, ["done", "done"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == {
        name: FILES[name] for name in ("model.onnx", "selected_tags.csv")
    }
    hub.asked.clear()
    code, rows = carried_out(tmp_path, 1, agreed_bytes=0)
    assert (code, [row[1] for row in rows], gets(hub)) == (0, ["kept", "kept"], [])


def test_a_line_that_breaks_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path):
    hub.breaks_after = [120_000]
    assert carried_out(tmp_path)[0] == 0
    assert gets(hub)[:2] == [("model.onnx", ""), ("model.onnx", "bytes=100000-")]
    assert (tmp_path / "model" / "model.onnx").read_bytes() == WEIGHTS


def test_a_download_that_is_stopped_goes_on_in_another_process_with_what_is_there(
    hub: Hub, tmp_path: Path, monkeypatch
):
    told = []

    def stop_later(report) -> bool:
        told.append(1)
        report.stopped = report.stopped or len(told) > 4
        return report.stopped

    monkeypatch.setattr("engine.tools.working.JobReport.is_stop_asked", stop_later)
    assert carried_out(tmp_path)[0] == 0
    (part,) = (tmp_path / "model").iterdir()
    there = part.stat().st_size
    assert part.name.startswith("model.onnx.")
    assert 0 < there < len(WEIGHTS)
    assert WEIGHTS.startswith(part.read_bytes())
    with pytest.raises(ModelError, match=r"model\.onnx missing\. Its download was broken off: start it again"):
        require_files(tmp_path / "model", ("model.onnx",))
    monkeypatch.undo()
    monkeypatch.setenv(DEFAULT_OFFLINE, "1")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        hub.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    hub.asked.clear()
    assert carried_out(tmp_path, 1)[0] == 0
    assert gets(hub)[0] == ("model.onnx", f"bytes={there}-")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.onnx", "selected_tags.csv"]


@pytest.mark.parametrize("name", ["model.onnx", "selected_tags.csv"])
def test_a_wrong_checksum_leaves_nothing_and_the_other_files_come(hub: Hub, tmp_path: Path, name: str):
    hub.lies[name] = bytes(len(FILES[name]))
    code, rows = carried_out(tmp_path)
    assert code == 2
    assert (name, "failed", "came in with a wrong checksum and was thrown away. Download it again.") in rows
    assert [path.name for path in (tmp_path / "model").iterdir()] == [
        other for other in ("model.onnx", "selected_tags.csv") if other != name
    ]


def test_a_file_that_is_in_the_way_is_never_written_over(hub: Hub, tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(bytes(len(WEIGHTS)))
    (tmp_path / "model" / "selected_tags.csv").write_bytes(b"mine, longer")
    code, rows = carried_out(tmp_path)
    assert (code, [row[1] for row in rows]) == (2, ["failed", "failed"])
    assert all("never written over" in row[2] for row in rows)
    assert (tmp_path / "model" / "selected_tags.csv").read_bytes() == b"mine, longer"
    assert gets(hub) == []


def test_without_the_networks_switch_nothing_is_asked(hub: Hub, tmp_path: Path):
    proposal = download.propose(settings(tmp_path, network=False, model="wd-vit-v3"))
    assert hub.asked == []
    assert "SmilingWolf/wd-vit-tagger-v3 is about 0.4 GB (licence: Apache-2.0); nothing was asked" in proposal.summary
    assert [row.target for row in proposal.rows] == [str(tmp_path / "model")]
    assert [problem.where for problem in proposal.problems] == ["network"]


def test_the_users_offline_wins_over_every_yes(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(DEFAULT_OFFLINE)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert user_is_offline()
    proposal = download.propose(settings(tmp_path, agreed_bytes=TOTAL_BYTES))
    assert "HF_HUB_OFFLINE is set, so nothing is downloaded" in str(proposal.problems[0])
    assert hub.asked == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not user_is_offline()


def test_an_unknown_model_and_a_hub_that_is_away_are_sentences(hub: Hub, tmp_path: Path):
    with pytest.raises(UserError, match="nobody/nothing: there is no such model on the hub"):
        download.propose(settings(tmp_path, repository="nobody/nothing"))
    with pytest.raises(UserError, match="repository: must look like owner/name"):
        download.propose(settings(tmp_path, repository="nothing"))
    hub.breaks_after = [0] * 30
    code, rows = carried_out(tmp_path)
    assert code == 2
    assert all("could not be reached" in row[2] and "start it again" in row[2] for row in rows)


def test_a_disk_that_is_too_small_is_told_before(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    assert "the disk has 1.0 kB (1,000 bytes) free of" in str(download.propose(settings(tmp_path)).problems[0])


def test_weights_come_in_one_form_and_nothing_that_is_not_needed():
    names = [
        "model.safetensors",
        "pytorch_model.bin",
        "tf_model.h5",
        "config.json",
        "README.md",
        "vocab.txt",
        "a/b.json",
    ]
    assert needed(names) == ["model.safetensors", "config.json", "vocab.txt"]
    assert needed(["pytorch_model.bin", "config.json", "training_args.bin"]) == ["pytorch_model.bin", "config.json"]
    assert needed(["model.onnx", "model.safetensors", "selected_tags.csv"]) == ["model.onnx", "selected_tags.csv"]


def test_the_catalogue_and_the_setting_name_the_same_models():
    choices = download.Settings.model_fields["model"].annotation.__args__  # type: ignore[union-attr]
    assert set(choices) == {*MODELS, "other"}
