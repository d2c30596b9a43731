"""Adapter files that a run begins with stay with it: their places may change or be empty when it is resumed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from engine import events, run
from engine.inputs import keep, with_kept
from engine.merges import read_merges
from engine.plan import make_plan
from engine.preset import Preset, resolve
from engine.run import RunFolder
from engine.saving import _fingerprint
from tests.test_resume import assert_same_outcome
from tests.training import events_of, make_images, resume_here, small_preset, train_here


def given(folder: Path) -> Preset:
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        (folder / name / "style.safetensors").write_bytes(name.encode())
    merged = f"{folder}/one/style.safetensors: 0.5\n{folder}/two/style.safetensors"
    return Preset().changed({"adapter.start_from": f"{folder}/one/style.safetensors", "model.merged_adapters": merged})


def contents(preset: Preset) -> list[bytes]:
    return [merge.path.read_bytes() for merge in read_merges(preset)]


def begun(folder: Path) -> RunFolder:
    """A run folder with a saved state."""
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "step-00000002.safetensors").touch()
    return RunFolder(folder)


@pytest.mark.parametrize("links", [True, False])
def test_files_are_kept_by_their_paths_and_found_when_they_are_gone(tmp_path, monkeypatch, links):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    preset, folder = given(tmp_path / "from"), RunFolder(tmp_path / "run")
    keep(preset, folder)
    assert with_kept(preset, folder) == preset  # nothing to resume: the files are read where they are
    begun(folder.path)
    for path in (tmp_path / "from").glob("*/*"):
        path.unlink()
    found = with_kept(preset, folder)
    assert contents(found) == [b"one", b"two"]
    assert [merge.strength for merge in read_merges(found)] == [0.5, 1.0]
    assert resolve(found.adapter.start_from).read_bytes() == b"one"
    keep(found, folder)  # of a resume: nothing is kept twice
    assert with_kept(found, folder) == found


def test_a_file_that_was_replaced_is_not_what_a_resume_reads(tmp_path):
    preset, folder = given(tmp_path / "from"), RunFolder(tmp_path / "run")
    keep(preset, folder)
    path = tmp_path / "from" / "one" / "style.safetensors"
    path.unlink()
    path.write_bytes(b"another")
    keep(preset, folder)  # started again before anything was saved
    begun(folder.path)
    assert contents(with_kept(preset, folder)) == [b"another", b"two"]
    path.unlink()
    path.write_bytes(b"a third")
    keep(preset, folder)
    assert contents(with_kept(preset, folder)) == [b"another", b"two"]


def test_a_mask_that_was_painted_anew_is_told_on_resume(tmp_path):
    make_images(tmp_path / "images")
    masks = tmp_path / "masks" / "2_sks thing"
    masks.mkdir(parents=True)
    for path in (tmp_path / "images" / "2_sks thing").glob("*.png"):
        Image.new("L", Image.open(path).size, 255).save(masks / path.name)
    preset = small_preset(tmp_path, loss__mask="folder", loss__mask_folder=str(masks.parent))
    plan = make_plan(preset)
    assert all(image.mask for image in plan.images)
    before = _fingerprint(preset, plan)
    assert before == _fingerprint(preset, make_plan(preset))
    Image.new("L", (64, 64), 128).save(masks / "0.png")
    assert before != _fingerprint(preset, make_plan(preset))


@pytest.mark.slow
def test_a_run_resumes_bit_for_bit_without_the_files_that_it_began_with(tmp_path):
    first = train_here(small_preset(tmp_path, run__steps=2, run__save_precision="fp32"), tmp_path / "first")
    learned = (first.checkpoints / "tiny.safetensors").read_bytes()
    start, merged = tmp_path / "start.safetensors", tmp_path / "merged.safetensors"
    for path in (start, merged):
        path.write_bytes(learned)
    changes = {"adapter__start_from": str(start), "model__merged_adapters": f"{merged}: 0.5"}
    whole = train_here(small_preset(tmp_path, **changes), tmp_path / "whole")
    half = train_here(small_preset(tmp_path, run__save_every_steps=2, **changes), tmp_path / "half")
    (half.state / "step-00000004.safetensors").unlink()
    (half.checkpoints / "tiny.safetensors").unlink()
    start.unlink()
    merged.unlink()
    resume_here(half)
    assert events_of(half, events.Started)[-1].from_step == 2
    assert not any("have changed" in event.message for event in events_of(half, events.Warned))
    assert_same_outcome(half, whole)
    assert run.open_run(half.path)[1].adapter.start_from == str(start)
