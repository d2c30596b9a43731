"""The page of the tools without a browser: fields to settings, tables and reports as HTML that nothing can break."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from captioning.arrange import Settings as ArrangeSettings
from captioning.tools import TOOLS
from captioning.working import work
from engine.errors import PresetError, Problem
from engine.preset import ROOT, Preset
from engine.tools import jobs
from engine.tools.tool import Proposal, Row, make_settings, settings_table
from ui import layout_help, report_job, report_page, tool_handlers, tool_jobs, tool_page
from ui.report_job import ReportJob
from ui.tool_fields import ToolFields

ATTACK = '<img src=x onerror="alert(1)">{{x}}'


def fields_of(tool: str) -> ToolFields:
    return ToolFields(tool, settings_table(tool, TOOLS[tool].Settings))


@pytest.mark.parametrize("tool", TOOLS)
def test_the_fields_of_every_tool_are_its_settings(tool: str) -> None:
    fields = fields_of(tool)
    values = fields.values(fields.defaults(), "/training")
    assert fields.settings(values).folder == ("" if tool == "download" else "/training")


def test_only_the_chosen_captioners_fields_make_sense() -> None:
    fields = fields_of("caption")
    values = fields.values(fields.defaults(), "/training") | {"captioner": "blip", "wd.general_threshold": "no number"}
    off = fields.off(values)
    assert "wd.general_threshold" in off
    assert not any(name.startswith("blip.") for name in off)
    assert fields.settings(values).captioner == "blip"  # what is hidden does not stand in the way


def test_a_fault_is_marked_beside_its_field_and_a_relative_path_starts_at_the_program() -> None:
    fields = fields_of("arrange")
    values = fields.values({"folder": "demo/images"}, "/training") | {"repeats": -1}
    assert values["folder"] == str(ROOT / "demo" / "images")
    with pytest.raises(PresetError) as caught:
        fields.settings(values)
    assert list(fields.marks(caught.value.problems, values)["problems"]) == ["tool.arrange.repeats"]
    assert fields.labelled(caught.value.problems)[0].where == "Repeats"


def test_no_name_of_a_file_becomes_html() -> None:
    row = Row(f"/set/{ATTACK}.png", "rename", f"/set/{ATTACK}", ATTACK)
    found = Proposal((row,), ATTACK, (), (Problem(ATTACK, ATTACK),))
    for problems in ((), (Problem(ATTACK, ATTACK),)):
        text = tool_page.proposal(found, "/set", 0, problems)
        assert "<img" not in text
        assert "{{" not in text


def test_a_report_of_hostile_names_is_text(tmp_path: Path) -> None:
    folder = tmp_path / "2_thing"
    folder.mkdir()
    name = ATTACK.replace("/", "")
    for stem in (name, f"b {name}"):
        Image.new("RGB", (64, 64), "red").save(folder / f"{stem}.png")
        (folder / f"{stem}.txt").write_text(ATTACK, encoding="utf-8")
    preset = Preset().changed({"data.folder": str(tmp_path), "data.cache_folder": str(tmp_path / "cache")})
    job = ReportJob(preset)
    job.run()
    text = report_page.page(job)
    assert job.is_over
    assert job.found is not None and len(job.found.twins) == 1
    assert "<img src=x" not in text
    assert "&lt;img" in text


def test_a_report_without_pictures_to_train_still_tells_of_regularization(tmp_path: Path) -> None:
    for name in ("training/unnamed", "general/1_thing"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), "red").save(tmp_path / name / "a.png")
    folders = {"data.folder": "training", "data.regularization_folder": "general", "data.cache_folder": "cache"}
    job = ReportJob(Preset().changed({path: str(tmp_path / name) for path, name in folders.items()}))
    job.run()
    assert job.found is not None and [bucket.shown for bucket in job.found.buckets] == [0]
    assert "1_thing" in report_page.page(job)


def test_a_report_that_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    job = ReportJob(Preset().changed({"data.folder": str(ROOT / "demo" / "images")}))
    job.is_wanted = False
    job.run()
    assert job.is_over
    assert job.found is not None and not job.found.is_looked_at


def test_a_flat_folder_is_told_and_its_arranged_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    layout = layout_help.layout_of(str(folder))
    assert layout is not None and layout.shape == "flat"
    assert layout_help.told(str(folder))["arrange"] == {"folder": "", "repeats": 10}
    job = jobs.create("arrange", ArrangeSettings(folder=str(folder), repeats=10))
    assert work(job) == 0
    view = tool_jobs.find(str(job.path), ["arrange"])
    assert view is not None and view.status() == "finished"
    made = tool_jobs.made_folder(view)
    assert layout_help.layout_of(made) is None  # a training folder, as it should be
    assert [path.name for path in Path(made).iterdir()] == ["10_pictures"]
    assert tool_jobs.made_settings(view) == {"data.folder": made, "captions.extension": ".txt"}

    tool_jobs.turn(view, "undo")
    while tool_jobs.turning(job.path):
        time.sleep(0.01)
    turned = tool_jobs.turned(job.path)
    assert turned is not None and not turned[1].failed
    assert not Path(made).exists()


def test_nothing_is_downloaded_before_the_box_is_ticked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Proposal((Row("model.onnx", "download", "/m"),), "467 MB", (Problem("agreed_bytes", "not agreed"),))
    settings = make_settings("download", TOOLS["download"].Settings, {"folder": "/m", "network": True})
    monkeypatch.setattr(TOOLS["download"], "propose", lambda settings: asked)
    started: list[str] = []
    monkeypatch.setattr(tool_jobs, "start", lambda *given: started.append(given[0]))
    name = tool_handlers.tool_looks.begin("download", settings)

    panel: Any = SimpleNamespace(names=("download",), fields={"download": fields_of("download")})
    message, *_ = tool_handlers.starter(panel, tool_jobs.start)(name, False)
    assert "agree" in message
    assert started == []


def test_speed_is_told_by_the_times_of_progress() -> None:
    times = [("2026-01-01T00:00:00+00:00", 10), ("2026-01-01T00:00:04+00:00", 30)]
    assert tool_page.rate(times) == 5.0
    assert tool_page.rate(times[:1]) == 0.0


def test_a_panel_gets_its_own_fields_out_of_the_content_of_all() -> None:
    fields = fields_of("rename")
    groups = {"form": {"data.folder": "/pictures"}, "tool.rename": {"pattern": "{n}"}, "tool.crop": {"folder": "x"}}
    given = json.dumps(groups)
    values = fields.values(tool_handlers.group(given, fields.group), tool_handlers.training_folder(given))
    assert (values["folder"], values["pattern"]) == ("/pictures", "{n}")
    assert [tool_handlers.group(text, "form") for text in ("", "[]", '{"form": 3}')] == [{}, {}, {}]


def test_what_a_job_made_goes_into_the_fields_that_it_tells_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_jobs, "find", lambda *given: given)
    monkeypatch.setattr(tool_jobs, "made_settings", lambda view: {"data.folder": "/made"})
    panel: Any = SimpleNamespace(names=("arrange",), fields={})
    fields = {path: f"form/{path}" for path in ("data.folder", "captions.extension")}
    use = tool_handlers.user(panel, fields)
    assert json.loads(use("a job")) == {"form": {"data.folder": "/made"}}


def test_marks_are_json_of_one_source() -> None:
    fields = fields_of("rename")
    marks = tool_handlers.marks_of(fields, (), fields.values({}, ""))
    assert json.loads(json.dumps(marks))["source"] == "tool-rename"
    assert report_job.PATHS[0] == "data.folder"
