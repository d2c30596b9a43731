"""The tab "Sample": its form, what it asks and gets, and the pictures that are kept."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine import event_log, events
from engine.drawing.desk import desk
from engine.drawing.picture_text import Drawn, texts_for
from engine.drawing.settings import BY_PATH, DRAWING_SETTINGS, DrawingPreset, build
from engine.errors import UserError
from engine.locks import locked
from engine.preset import ROOT, load
from engine.run import RunFolder
from ui import drawing_view, pictures, run_list, sample_answers, sample_form, sample_form_answers, served

DEMO = {"model": {"base": "demo/model.safetensors"}}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path))
    monkeypatch.setattr(run_list, "_known_folders", [tmp_path / "runs"])
    monkeypatch.setattr(served, "folders", [])
    monkeypatch.setattr(drawing_view, "_views", {})
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """Process starts are counted instead of made."""
    calls: list[list[str]] = []
    monkeypatch.setattr(drawing_view.local, "start", lambda folder, command: calls.append(command) or 1)
    monkeypatch.setattr(drawing_view.psutil, "pid_exists", lambda number: True)
    return calls


def picture(home: Path, name: str = "2026-11-21/00001-7.png", **values: Any) -> Path:
    path = home / "pictures" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    preset = DrawingPreset().changed({"picture.prompt": "a fox", **values})
    info = PngInfo()
    for key, text in texts_for(preset, Drawn(7, "a fox", "")).items():
        info.add_text(key, text)
    Image.new("RGB", (8, 8), "red").save(path, pnginfo=info)
    return path


def ask(what: str, **more):
    return sample_answers.answer({"ask": what, **more})


def png(size=(8, 8), kind="PNG") -> str:
    content = io.BytesIO()
    Image.new("L", size).save(content, kind)
    return base64.b64encode(content.getvalue()).decode()


def test_what_the_widgets_show_is_what_was_kept(home):
    """For the defaults and for another allowed value of each setting."""
    for values in (DrawingPreset().values(), {item.path: item.another(item.default) for item in DRAWING_SETTINGS}):
        content: dict = {}
        for path, value in values.items():
            group, name = path.split(".")
            content.setdefault(group, {})[name] = value
        assert sample_form.read_all(sample_form.show_content(content)) == content
        sample_form.remember(content)
        assert sample_form.recall() == content


def test_the_first_form_draws_with_the_training_forms_model_as_its_samples(home):
    content = sample_form.recall()
    demo = load(ROOT / "presets" / "demo.json")
    preset = build(content)
    assert preset.model.base == demo.model.base and preset.picture.width_px == demo.sample.width_px
    assert preset.picture.prompt == "a zkt blob on a white background" and preset.model.precision == "fp32"


@pytest.mark.parametrize("kept", ["{", "[]", '{"picture": 3, "sampling": {"steps": "many"}}'])
def test_a_damaged_kept_form_is_no_fault(home, kept):
    desk().path.mkdir(parents=True)
    (desk().path / "form.json").write_text(kept)
    assert build(sample_form.read_all(sample_form.show_content(sample_form.recall())))


def test_faults_stand_beside_their_fields_and_what_does_not_apply_is_off(home):
    content = {**DrawingPreset().model_dump(), "picture": {"width_px": 1001}, "image": {"mask": "m.png"}}
    told = sample_form.marks(content, sample_form.problems(content))
    assert set(told["problems"]) == {"drawing.picture.width_px", "drawing.image.mask"}
    assert "drawing.hires.scale" in told["off"] and told["source"] == "drawing"
    content["hires"]["on"] = True
    assert "drawing.hires.scale" not in sample_form.marks(content, [])["off"]


def test_generate_orders_the_pictures_and_starts_the_process_once(home, started):
    shown = sample_form.show_content({**DEMO, "picture": {"prompt": "a fox", "seed": 5}})
    assert ask("draw", form=shown)["message"] == ""
    [request] = desk().waiting()
    assert desk().preset_of(request).picture.seed == 5
    assert started == [desk().command()]
    assert ask("look", seen={})["busy"]


def test_generate_names_all_that_is_in_the_way(home, started):
    shown = sample_form.show_content({"picture": {"width_px": 1001}, "sampling": {"steps": 0}})
    told = ask("draw", form=shown)
    assert "Width" in told["message"] and "Sampling" not in told["message"] and "Steps" in told["message"]
    assert len(told["marks"]["problems"]) == 2 and desk().waiting() == [] and started == []


def test_what_is_wrong_with_files_is_named_before_anything_starts(home, started):
    content = {"model": {"base": "missing.safetensors"}, "loras": {"files": "gone.safetensors"}}
    told = ask("draw", form=sample_form.show_content(content))
    assert set(told["marks"]["problems"]) == {"drawing.model.base", "drawing.loras.files"}
    assert "missing.safetensors" in told["message"] and desk().waiting() == []


def test_a_process_that_ends_without_an_answer_is_told_with_its_log(home, started, monkeypatch):
    monkeypatch.setattr(drawing_view.psutil, "pid_exists", lambda number: False)
    ask("draw", form=sample_form.show_content(DEMO))
    desk().log.write_text("no module named torch")
    live = ask("look", seen={})["parts"]["live"]["content"]
    assert live["message"] == "no module named torch" and not live["busy"] and desk().waiting() == []
    assert len(started) == 1


def test_what_is_drawn_is_followed_from_the_events(home, started):
    here = desk()
    ask("draw", form=sample_form.show_content(DEMO))
    [request] = here.waiting()
    (here.previews / "a.webp").parent.mkdir()
    Image.new("RGB", (8, 8)).save(here.previews / "a.webp")
    log = event_log.EventLog(here.events)
    with locked(here.lock, 1, "the folder", "busy"):
        log.emit(events.Stage("Drawing samples"))
        log.emit(events.Progress("Drawing samples", 3, 30))
        log.emit(events.Previewed(request, 0, 3, "previews/a.webp"))
        first = ask("look", seen={})
        live = first["parts"]["live"]["content"]
        assert (live["done"], live["total"], live["busy"]) == (3, 30, True) and "a.webp" in live["preview"]
        assert "live" not in ask("look", seen={"live": first["parts"]["live"]["digest"]})["parts"]
        path = picture(home)
        log.emit(events.Drawn(request, 0, str(path), 7, 1.0))
        log.emit(events.Answered(request, "drawn", 1, 1.0))
        here.remove(request)
    parts = ask("look", seen={})["parts"]
    live, kept = parts["live"]["content"], parts["pictures"]["content"]
    assert [item["path"] for item in live["drawn"]] == [str(path)] and not live["busy"] and not live["preview"]
    assert kept["total"] == 1 and kept["days"][0]["items"][0]["seed"] == "7"
    assert served.may_serve(str(path)) and not served.may_serve(str(home / "pictures" / "x.png"))


def test_a_failed_request_says_why_beside_the_setting(home, started):
    desk().ask(DrawingPreset())
    event_log.EventLog(desk().events).emit(
        events.Answered("r", "failed", 0, 0.0, "", [{"where": "model.base", "message": "no base model is chosen."}])
    )
    desk().cancel()
    [problem] = ask("look", seen={})["parts"]["live"]["content"]["problems"]
    assert problem == {"field": "drawing.model.base", "label": "Base model", "message": "no base model is chosen."}


def test_a_training_that_starts_gets_the_graphics_card(home, monkeypatch):
    """What draws is asked to leave before the engine begins."""
    monkeypatch.setattr(run_list.launchers, "launch", lambda path, gpus: 1)
    here = desk()
    here.requests.mkdir(parents=True)
    with locked(here.lock, 1, "the folder", "busy"):
        run_list.launch(home / "runs" / "mine")
        assert here.is_asked_to_leave()


def test_the_settings_of_a_kept_picture_are_told_and_used(home):
    values: dict[str, Any] = {"sampling.steps": 11}
    told = ask("about", path=str(picture(home, **values)))
    assert (told["source"], told["prompt"], told["notes"]) == ("Atelier", "a fox", [])
    assert ["Steps", "11"] in told["rows"] and told["values"]["picture.seed"] == 7
    shown = ask("fill", values=told["values"], form={})["shown"]
    assert shown["sampling.steps"] == 11 and set(shown) <= set(BY_PATH)
    assert ask("fill", values={"sampling.steps": "many", "no.setting": 1}, form={})["shown"] == {}


def test_settings_are_read_from_a_picture_that_is_sent(home):
    content = base64.b64encode(picture(home).read_bytes()).decode()
    assert ask("read", content=content)["prompt"] == "a fox"
    assert "carries no settings" in ask("read", content=png())["notes"][0]
    assert "cannot be read" in ask("read", content="AAAA")["error"]
    assert "did not arrive whole" in ask("read", content="%")["error"]


def test_uploads_are_pictures_and_lie_beside_the_drawing(home):
    path = Path(ask("upload", **{"for": "image.mask", "content": png()})["values"]["image.mask"])
    assert path.parent == desk().path / "uploads" and path.suffix == ".png"
    assert "error" in ask("upload", **{"for": "picture.folder", "content": png()})
    for content in (png(kind="GIF"), "A" * (sample_answers.MOST_BYTES * 2), None):
        assert "error" in ask("upload", **{"for": "image.init", "content": content})


def test_deleted_pictures_are_in_the_bin_and_come_back(home):
    path = picture(home)
    binned = ask("delete", path=str(path))["binned"]
    assert not path.exists() and pictures.listed(home / "pictures")["total"] == 0
    path.touch()  # another took its name
    back = Path(ask("restore", binned=binned)["path"])
    assert back == path.with_name("00001-7-2.png") and back.stat().st_size
    for wrong in ("../2026-11-21/00001-7.png", binned, "x", "2026-11-21~1~"):
        assert "error" in ask("restore", binned=wrong)


def test_no_other_file_is_told_of_or_deleted(home, tmp_path):
    picture(home)
    outside = home / "2026-11-21" / "a.png"
    outside.parent.mkdir()
    outside.touch()
    link = home / "pictures" / "2026-11-21" / "link.png"
    link.symlink_to(outside)
    for path in (outside, link, home / "pictures" / ".." / "2026-11-21" / "a.png", home / "pictures" / "x", "\0"):
        for what in ("about", "delete"):
            assert "error" in ask(what, path=str(path))
    assert outside.exists() and link.is_symlink()


def test_loras_are_added_once_and_a_checkpoint_brings_its_runs_model(home):
    run = RunFolder(home / "runs" / "mine")
    run.checkpoints.mkdir(parents=True)
    load(ROOT / "presets" / "demo.json").save(run.preset)
    lora = run.checkpoints / "mine-000002.safetensors"
    lora.touch()
    (home / "loras").mkdir()
    (home / "loras" / "ink.safetensors").touch()
    groups = ask("loras")["groups"]
    assert [[item["title"] for item in group["items"]] for group in groups] == [["mine-000002"], ["ink.safetensors"]]
    assert ask("fill", lora=str(lora), form={"loras.files": "# none"})["shown"] == {"loras.files": f"# none\n{lora}: 1"}
    once = sample_form.with_lora("# none", str(lora))
    assert once == f"# none\n{lora}: 1" == sample_form.with_lora(once, str(lora))
    values = sample_form_answers.for_checkpoint(str(lora))
    assert values["loras.files"] == f"{lora}: 1" and values["model.base"] == "demo/model.safetensors"
    assert set(values) <= set(BY_PATH)
    with pytest.raises(UserError):
        sample_form_answers.for_checkpoint(str(home / "loras" / "ink.safetensors"))


def test_unknown_questions_are_answered(home):
    assert "older than the program" in ask("format the disk")["error"]
