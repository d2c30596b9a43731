"""Each failure that is known is injected: recognised, told in a sentence, and answered with the right change."""

from __future__ import annotations

import builtins
import errno
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from engine import commands, ended, event_log, events, failures_table, memory, processes, state, stopping
from engine.atomic import whole_file
from engine.errors import PresetError, UserError
from engine.failures import CATALOGUE, Facts, Failure, diagnose, notices
from engine.plan import make_plan
from engine.preset import ROOT, Preset
from engine.processes import ALONE
from engine.report import Reporter
from engine.run import RunFolder, create
from engine.sdxl.detect import identify
from tests.failure_cases import KILLED, OWN, RAISED, WARNED, Case
from ui import failure_page, run_list
from ui.run_view import RunView
from ui.words import escape

TABLES = {case.kind for case in (*RAISED, *OWN, *WARNED)} | {kind for kind, *_ in KILLED}
BY_FILES = {  # injected by real files or imports below
    "model_pickle", "model_placeholder", "model_truncated", "model_damaged", "model_is_lora", "model_family",
    "model_part", "model_quantized", "model_missing", "model_vae", "no_images", "folder_missing", "image_broken",
    "state_damaged", "torch_broken", "spilling", "diverged", "machine_restarted",
}  # fmt: skip


@pytest.fixture(scope="module")
def source() -> str:
    """The engine's own code as one text, without the catalogue, strings joined where they go on in the next line."""
    found = [path for name in ("engine", "launchers") for path in sorted((ROOT / name).rglob("*.py"))]
    return re.sub(r'"\s*\n\s*f?"', "", "\n".join(p.read_text() for p in found if p.parent.name != "failures"))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping.Stopping, "listen", lambda self: None)
    monkeypatch.setattr(commands, "read_ahead", lambda base: None)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # a hundred run folders are made here


def failing(
    tmp_path: Path, error: BaseException, preset: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> RunView:
    """A run whose training raises this, through the engine's own reporting."""

    def train(*_: object) -> None:
        raise error

    monkeypatch.setattr("engine.train.train", train)
    return reported(tmp_path, preset)


def reported(tmp_path: Path, preset: Mapping[str, Any]) -> RunView:
    run = create(Preset().changed(preset), tmp_path / "runs" / "a run")
    commands._train(run, Preset().changed(preset), Reporter(run), ALONE)
    return seen(run)


def seen(run: RunFolder) -> RunView:
    view = RunView(run)
    view.refresh()
    return view


def told(view: RunView, state: str = "failed") -> Failure:
    """What the page's program finds, and that the page shows its sentences."""
    assert view.status() == state
    failure = diagnose(failure_page.facts_of(view, view.status()))
    assert failure is not None
    shown = failure_page.panel(view, view.status())
    assert escape(failure.cause) in shown and escape(failure.remedy) in shown and "Copy report" in shown
    assert ('data-does="fix"' in shown) == bool(failure.fix)
    return failure


@pytest.mark.parametrize("case", RAISED, ids=lambda case: f"{case.kind}: {str(case.told)[:30]}")
def test_what_libraries_raise_is_recognised(case: Case, tmp_path: Path, monkeypatch, capsys) -> None:
    if case.kind.startswith("gpu_"):  # the advice on memory then speaks of the card
        monkeypatch.setattr(memory, "choose_device", lambda preset: torch.device("cuda"))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**20, 12 * 2**30))
    assert isinstance(case.told, BaseException)
    failure = told(failing(tmp_path, case.told, case.preset, monkeypatch))
    assert (failure.name, failure.fix) == (case.kind, case.fix)


@pytest.mark.parametrize("case", OWN, ids=lambda case: case.kind)
def test_sentences_of_the_engine_are_recognised(case: Case, tmp_path: Path, source: str, monkeypatch, capsys) -> None:
    assert case.own in source and case.own in str(case.told)
    failure = told(failing(tmp_path, UserError(str(case.told), case.where), case.preset, monkeypatch))
    assert (failure.name, failure.fix) == (case.kind, case.fix)


@pytest.mark.parametrize(("kind", "exit_code", "kills", "log", "fix"), KILLED, ids=lambda value: str(value)[:24])
def test_runs_that_were_ended_from_outside_are_told_apart(
    kind: str, exit_code: int | None, kills: int, log: str, fix: dict[str, Any], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("ui.failure_page.psutil.boot_time", lambda: 0.0)
    run = create(Preset(), tmp_path / "a run")
    counts = iter([5, 5 + kills])
    monkeypatch.setattr(ended, "memory_kills", lambda: next(counts))
    ended.note_begun(run.path)
    event_log.EventLog(run.events).emit(events.Started("a run", 9, 3, 3, 0, 1, "CPU"))
    before = "Fatal Python error: of an earlier start\nLooking at the images …\nWarning: CUDA out of memory\n"
    run.log.write_text(before + log + "\n")
    if exit_code is not None:
        ended.note_ended(run.path, exit_code)
    failure = told(seen(run), "killed")
    assert (failure.name, failure.fix) == (kind, fix)


@pytest.mark.parametrize("case", WARNED, ids=lambda case: case.kind)
def test_what_does_not_end_a_run_is_told_beside_it(case: Case, tmp_path: Path, source: str) -> None:
    assert case.own in source and case.own in str(case.told)
    run = create(Preset().changed(case.preset), tmp_path / "a run")
    log = event_log.EventLog(run.events)
    log.emit(events.Started("a run", 9, 3, 3, 0, 1, "CPU"))
    log.emit(events.Warned(str(case.told)))
    log.emit(events.Stopped(3))
    view = seen(run)
    found = notices(failure_page.facts_of(view, "stopped"))
    assert (found[0].name, found[0].fix) == (case.kind, case.fix)
    shown = failure_page.panel(view, "stopped")
    assert escape(found[0].cause) in shown and 'class="notice"' in shown
    assert "data-does" not in failure_page.panel(view, "running")


def test_every_entry_of_the_catalogue_is_injected_here() -> None:
    beside = {name for name in CATALOGUE if name not in TABLES | BY_FILES}
    assert beside == set() and len(CATALOGUE) >= 40


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "disk_full"), (errno.EDQUOT, "quota"), (errno.EROFS, "read_only"), (errno.EIO, "disk_fault"),
        (errno.EACCES, "foreign_rights"), (errno.EFBIG, "file_too_large"), (errno.ENAMETOOLONG, "path_too_long"),
    ],
)  # fmt: skip
def test_what_the_disk_refuses_is_recognised(number: int, kind: str, tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(UserError) as refused, whole_file(tmp_path / "file") as part:
        raise OSError(number, "refused", str(part))
    assert told(failing(tmp_path, refused.value, {}, monkeypatch)).name == kind


def _safetensors(*names: str, dtype: Any = np.float32) -> Callable[[Path], object]:
    return lambda path: save_file({name: np.zeros((4, 4), dtype) for name in names}, path)


def _cut_off(path: Path) -> None:
    save_file({"a": np.zeros(4000, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("kind", "name", "write"),
    [
        ("model_pickle", "a.ckpt", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(90))),
        ("model_placeholder", "a.safetensors", lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")),
        ("model_placeholder", "a.safetensors", lambda path: path.write_bytes(b"<!DOCTYPE html><html></html>")),
        ("model_quantized", "a.safetensors", lambda path: path.write_bytes(b"GGUF" + bytes(90))),
        ("model_truncated", "a.safetensors", _cut_off),
        ("model_truncated", "a.safetensors", lambda path: path.write_bytes(b"")),
        ("model_damaged", "a.safetensors", lambda path: path.write_bytes(bytes([9, 0, 0, 0, 0, 0, 0, 0]) + b"{not json")),
        ("model_is_lora", "a.safetensors", _safetensors("lora_unet_x.lora_up.weight", "lora_unet_x.lora_down.weight")),
        ("model_family", "a.safetensors", _safetensors("double_blocks.0.img_attn.qkv.weight")),
        ("model_family", "a.safetensors", _safetensors("something.else")),
        ("model_part", "a.safetensors", _safetensors("input_blocks.0.0.weight")),
        ("model_missing", "a.safetensors", lambda path: None),
    ],
)  # fmt: skip
def test_model_files_that_cannot_be_used_are_recognised(
    kind: str, name: str, write: Callable[[Path], object], tmp_path: Path, monkeypatch, capsys
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError) as refused:
        identify(tmp_path / name)
    assert told(failing(tmp_path, refused.value, {}, monkeypatch)).name == kind


def test_a_vae_that_is_none_can_be_left_out(tmp_path: Path, monkeypatch, capsys) -> None:
    _safetensors("something.else")(tmp_path / "vae.safetensors")
    with pytest.raises(UserError) as refused:
        identify(ROOT / "demo" / "model.safetensors", tmp_path / "vae.safetensors")
    failure = told(failing(tmp_path, refused.value, {"model.vae": "vae.safetensors"}, monkeypatch))
    assert (failure.name, failure.fix) == ("model_vae", {"model.vae": ""})


def _images(folder: Path, content: bytes | None) -> None:
    (folder / "5_x").mkdir(parents=True)
    if content is not None:
        (folder / "5_x" / "a.png").write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "make", "fix"),
    [
        ("folder_missing", lambda folder: None, {}),
        ("no_images", lambda folder: _images(folder, None), {}),
        ("image_broken", lambda folder: _images(folder, b"\x89PNG\r\n\x1a\n" + bytes(20)), {"data.broken_images": "skip"}),
    ],
)  # fmt: skip
def test_pictures_that_cannot_be_trained_are_recognised(
    kind: str, make: Callable[[Path], None], fix: dict[str, Any], tmp_path: Path, monkeypatch, capsys
) -> None:
    make(tmp_path / "images")
    changes = {
        "model.base": str(ROOT / "demo" / "model.safetensors"),
        "data.folder": str(tmp_path / "images"),
        "data.broken_images": "stop",
    }
    problems = make_plan(Preset().changed(changes)).problems
    if kind == "image_broken":  # beside it the plan says that nothing is left
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / "5_x" / "b.png")
        problems = make_plan(Preset().changed(changes)).problems
    failure = told(failing(tmp_path, PresetError(problems), changes, monkeypatch))
    assert (failure.name, failure.fix) == (kind, fix)


def test_a_state_that_cannot_be_read_is_recognised(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "step-00000004.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError) as refused:
        state.load_last_state(tmp_path)
    assert told(failing(tmp_path, refused.value, {}, monkeypatch)).name == "state_damaged"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("torch_broken", ImportError("libcudart.so.13: cannot open shared object file: No such file or directory")),
        ("torch_broken", OSError('[WinError 126] The specified module could not be found. Error loading "C:\\torch\\lib\\c10.dll" or one of its dependencies.')),
        ("torch_broken", ModuleNotFoundError("No module named 'torch'")),
        ("torchvision_broken", RuntimeError("operator torchvision::nms does not exist")),
        ("package_missing", ImportError("cannot import name 'AutoencoderKL' from 'diffusers'")),
    ],
)  # fmt: skip
def test_a_package_that_does_not_load_ends_the_run_in_a_sentence(
    kind: str, error: Exception, tmp_path: Path, monkeypatch, capsys
) -> None:
    real = builtins.__import__

    def importing(name: str, *more: Any) -> Any:
        if name == "engine.train":
            raise error
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", importing)
    view = reported(tmp_path, {})
    monkeypatch.undo()
    assert told(view).name == kind


def test_a_connection_that_breaks_between_processes_is_recognised(tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(UserError) as lost, processes._lost_is_told():
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    assert told(failing(tmp_path, lost.value, {}, monkeypatch)).name == "process_lost"


def test_a_machine_that_was_restarted_is_told_from_a_killed_process(tmp_path: Path, monkeypatch) -> None:
    run = create(Preset(), tmp_path / "a run")
    event_log.EventLog(run.events).emit(events.Started("a run", 9, 3, 3, 0, 1, "CPU"))
    written = run.events.stat().st_mtime
    for boot_time, kind in ((written + 60, "machine_restarted"), (written - 60, "killed")):
        monkeypatch.setattr("ui.failure_page.psutil.boot_time", lambda found=boot_time: found)
        assert told(seen(run), "killed").name == kind


def test_an_exit_code_of_an_earlier_process_says_nothing_of_the_last_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ui.failure_page.psutil.boot_time", lambda: 0.0)
    run = create(Preset(), tmp_path / "a run")
    ended.note_begun(run.path)
    ended.note_ended(run.path, -11)
    path = run.path / "exit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "time": "2020-01-01T00:00:00.000+00:00"}))
    event_log.EventLog(run.events).emit(events.Started("a run", 9, 3, 3, 0, 1, "CPU"))
    assert told(seen(run), "killed").name == "killed"


def test_kills_for_memory_are_counted_as_the_kernel_tells_them(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 7\n")
    missing = tmp_path / "none"
    assert ended.memory_kills((missing, tmp_path / "memory.events", tmp_path / "vmstat")) == 3
    assert ended.memory_kills((tmp_path / "vmstat",)) == 7
    assert ended.memory_kills((missing,)) == 0


def test_steps_that_slow_down_on_a_full_card_are_spilling_and_others_are_not() -> None:
    slow = [1.5] * 20 + [39.0] * 20
    full = Facts("running", seconds_per_step=slow, memory_bytes=int(7.9e9), gpu_bytes=int(8e9))
    assert [item.name for item in notices(full)] == ["spilling"]
    assert notices(full)[0].fix == {"memory.gradient_checkpointing": True}
    for other in (
        Facts("running", seconds_per_step=slow, memory_bytes=int(4e9), gpu_bytes=int(8e9)),
        Facts("running", seconds_per_step=[39.0] * 40, memory_bytes=int(7.9e9), gpu_bytes=int(8e9)),
        Facts("running", seconds_per_step=slow, memory_bytes=int(7.9e9)),
    ):
        assert notices(other) == []


def test_a_loss_that_triples_has_diverged_and_a_noisy_one_has_not() -> None:
    noisy = [0.1 + 0.08 * (-1) ** step for step in range(80)]
    assert [item.name for item in notices(Facts("running", losses=[*noisy[:40], *[0.9] * 40]))] == ["diverged"]
    assert notices(Facts("running", losses=noisy)) == []


def test_a_run_that_is_well_shows_nothing(tmp_path: Path) -> None:
    run = create(Preset(), tmp_path / "a run")
    log = event_log.EventLog(run.events)
    assert failure_page.panel(seen(run), "new") == ""
    log.emit(events.Started("a run", 9, 3, 3, 0, 1, "CPU"))
    run.log.write_text("Looking at the images …\nCUDA error: unspecified launch failure\n")
    assert failure_page.panel(seen(run), "running") == ""
    log.emit(events.Finished(9, "checkpoints/x", 1.0))
    assert failure_page.panel(seen(run), "finished") == ""


def test_a_change_that_no_preset_bears_is_not_offered() -> None:
    facts = Facts("failed", told="CUDA out of memory", preset=Preset().changed({"memory.gradient_checkpointing": True}))
    failure = diagnose(facts)
    assert failure is not None and failure.fix == {"memory.unet_storage": "int8"}
    assert facts.preset.changed(failure.fix)


def test_the_button_makes_a_new_run_and_leaves_the_old_one_alone(tmp_path: Path, monkeypatch, capsys) -> None:
    launched: list[Path] = []
    monkeypatch.setattr(run_list, "launch", lambda path, gpus=1: launched.append(path))
    monkeypatch.setattr(run_list, "refuse_second", lambda: None)
    changes = {"run.folder": str(tmp_path / "runs"), "run.name": "a run", "run.batch_size": 4}
    view = failing(tmp_path, torch.OutOfMemoryError("CUDA out of memory"), changes, monkeypatch)
    before = view.run.preset.read_bytes()
    assert failure_page.apply_fix(view, "failed", "gpu_memory" if "gpu" in told(view).name else told(view).name) == ""
    assert [path.name for path in launched] == ["a run-2"] and view.run.preset.read_bytes() == before
    made = json.loads((launched[0] / "preset.json").read_text())
    assert made["memory"]["gradient_checkpointing"] is True and made["run"]["batch_size"] == 4
    assert "nothing to change" in failure_page.apply_fix(view, "failed", "no such failure")


def test_a_run_is_resumed_with_a_change_that_does_not_touch_its_course(tmp_path: Path, monkeypatch, capsys) -> None:
    launched: list[Path] = []
    monkeypatch.setattr(run_list, "launch", lambda path, gpus=1: launched.append(path))
    monkeypatch.setattr(run_list, "refuse_second", lambda: None)
    view = failing(tmp_path, OSError(28, "No space left on device"), {}, monkeypatch)
    event_log.EventLog(view.run.events).emit(events.Saved(5, "state", "state/step-00000005.safetensors", 9))
    view.refresh()
    assert "Resume with this" in failure_page.panel(view, "failed")
    assert failure_page.apply_fix(view, "failed", "disk_full") == ""
    assert launched == [view.run.path]
    assert json.loads(view.run.preset.read_text())["run"]["keep_last"] == 2


def test_the_table_in_the_documentation_is_the_catalogue() -> None:
    assert failures_table.TARGET.read_text(encoding="utf-8") == failures_table.page()


@pytest.mark.slow
def test_the_catalogue_imports_no_torch() -> None:
    import subprocess

    code = "import sys, engine.failures, engine.failures.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_every_sign_is_an_expression_and_every_sentence_ends() -> None:
    for name, kind in CATALOGUE.items():
        assert all(re.compile(sign) for sign in kind.signs), name
        assert kind.cause.endswith(".") and kind.remedy.endswith(".") and kind.seen, name
