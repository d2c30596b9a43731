"""The command line, started as a user starts it: exit codes, sentences, and nothing left behind by what was refused."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess

import pytest
from PIL import Image

from engine import events
from engine.__main__ import main
from engine.preset import ROOT, load
from engine.run import RunFolder
from tests.training import command, engine, events_of, small_preset


@pytest.fixture
def saved(tmp_path):
    """A good preset as a file; `saved(path__name=value)` saves one with changes."""

    def save(**changes):
        preset = small_preset(tmp_path, **changes)
        path = tmp_path / "preset.json"
        preset.save(path)
        return path

    return save


def check(capsys, *words):
    """Exit code, plan and stderr of `check --json`."""
    code = main(["check", *map(str, words), "--json"])
    told = capsys.readouterr()
    return code, json.loads(told.out), told.err


def test_check_prints_the_plan(capsys, saved):
    code, plan, _ = check(capsys, saved(run__steps=9))
    assert (code, plan["steps"], plan["problems"]) == (0, 9, [])


def test_check_in_words(capsys, saved):
    assert main(["check", str(saved())]) == 0
    told = capsys.readouterr().out
    assert "rank 2, 4 images × 2 repeats" in told and "Nothing stands in the way." in told


@pytest.mark.slow
def test_check_imports_no_torch(saved):
    program = (
        "import sys; from engine.__main__ import main\n"
        f"code = main(['check', {str(saved())!r}, '--json']); sys.exit(code or 'torch' in sys.modules)"
    )
    run = subprocess.run([command()[0], "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_settings_are_changed_for_this_time(capsys, saved):
    path = saved()
    _, plan, _ = check(capsys, path, "--set", "run.steps=5", "--set", "run.batch_size=2")
    assert plan["steps"] == 5 and plan["steps_per_epoch"] < 8
    assert load(path).run.steps == 4


def test_three_faults_are_told_at_once_beside_a_missing_folder(capsys, saved):
    path = saved()
    faults = ("--set", "adapter.rank=0", "--set", "adapter.rnk=3", "--set", "run.seed=x", "--set", "data.folder=/nix")
    code, plan, _ = check(capsys, path, *faults)
    assert code == 2
    told = {problem["where"]: problem["message"] for problem in plan["problems"]}
    assert set(told) == {"adapter.rank", "adapter.rnk", "run.seed", "data.folder"}
    assert "/nix" in told["data.folder"]


def refuse(capsys, *words):
    """The sentences of a refused command; exit code 2, no traceback."""
    assert main([str(word) for word in words]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert told.strip()
    return told


def empty_folder(folder):
    (folder / "empty").mkdir()
    return {"data.folder": folder / "empty"}


def folder_without_repeats(folder):
    (folder / "flat").mkdir()
    Image.new("RGB", (64, 64)).save(folder / "flat" / "a.png")
    return {"data.folder": folder / "flat"}


def only_an_empty_image(folder):
    subset = folder / "zero" / "3_x"
    subset.mkdir(parents=True)
    (subset / "a.png").touch()
    return {"data.folder": folder / "zero"}


def lora_as_base(folder):
    from safetensors.torch import save_file
    from torch import zeros

    path = folder / "lora.safetensors"
    save_file({"lora_unet_x.lora_down.weight": zeros(2, 2), "lora_unet_x.lora_up.weight": zeros(2, 2)}, path)
    return {"model.base": path}


BAD = {
    "no images": (empty_folder, "image"),
    "a missing folder": (lambda folder: {"data.folder": folder / "nowhere"}, "no such folder"),
    "a folder without repeats": (folder_without_repeats, r"\d+_"),
    "an image of 0 bytes": (only_an_empty_image, r"a\.png"),
    "a LoRA as base model": (lora_as_base, "LoRA"),
    "rank 0": (lambda folder: {"adapter.rank": 0}, "from 1 to 1024"),
    "a setting that is none": (lambda folder: {"adapter.dim": 4}, "no such setting"),
    "a wrong prompt": (lambda folder: {"sample.prompts": "a cat --s many"}, "line 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence_and_leaves_no_folder(capsys, saved, tmp_path, name):
    make, words = BAD[name]
    path = saved()
    assignments = [f"--set={key}={value}" for key, value in make(tmp_path).items()]
    assert re.search(words, refuse(capsys, "train", path, *assignments))
    assert not (tmp_path / "runs").exists()


def test_targets_that_are_nothing_get_a_sentence(capsys, tmp_path):
    assert "no such preset" in refuse(capsys, "train", tmp_path / "none.json")
    assert "no run in this folder" in refuse(capsys, "train", tmp_path)
    (tmp_path / "broken.json").write_text("{")
    assert "not valid JSON" in refuse(capsys, "check", tmp_path / "broken.json")


def test_run_and_a_run_folder_do_not_go_together(capsys, saved, tmp_path):
    assert "Leave it out" in refuse(capsys, "train", tmp_path, "--run", tmp_path / "x")


def test_very_large_images_train_or_are_named(capsys, saved, tmp_path):
    subset = tmp_path / "big" / "1_x"
    subset.mkdir(parents=True)
    Image.new("L", (30000, 200)).save(subset / "wide.png")
    code, plan, _ = check(capsys, saved(), "--set", f"data.folder={tmp_path / 'big'}")
    assert code == 0
    assert plan["images"][0]["size_px"] == [30000, 200]


def test_captions_in_other_encodings_are_read(capsys, saved, tmp_path):
    path = saved()
    subset = tmp_path / "images" / "2_sks thing"
    (subset / "0.txt").write_bytes("ein schönes Bild".encode("utf-16"))
    (subset / "1.txt").write_bytes("ein schönes Bild".encode("latin-1"))
    (subset / "2.jpg").write_bytes((subset / "2.png").read_bytes())
    _, plan, _ = check(capsys, path)
    assert [image["caption"] for image in plan["images"][:2]] == ["ein schönes Bild"] * 2
    warned = " ".join(warning["message"] for warning in plan["warnings"])
    assert "1.txt" in warned and "2.jpg" in warned


def test_a_folder_that_cannot_be_written_is_told_before_training(capsys, saved, tmp_path):
    (tmp_path / "file").write_text("in the way")
    told = refuse(capsys, "train", saved(), "--run", tmp_path / "file" / "run")
    assert "cannot be written" in told


def limit_files():
    """No file above 60 kB for this process: writes beyond fail as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


# Python before 3.12.8 takes a short write for a whole one: under the limit it would leave a cut-off .pyc of whatever
# large module has none yet, and every later process that imports it would end with "marshal data too short"
WITHOUT_BYTECODE = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.slow
def test_a_disk_that_refuses_the_file_keeps_what_was_there(saved, tmp_path):
    path = saved(run__steps=8, run__save_every_steps=4, adapter__rank=16, data__cache_latents=False,
                 captions__cache_text=False)  # fmt: skip
    run = subprocess.run(
        command("train", path, "--run", tmp_path / "full"),
        cwd=ROOT, env=WITHOUT_BYTECODE, preexec_fn=limit_files, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    made = RunFolder(tmp_path / "full")
    assert run.returncode == 2, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    (warning,) = [event for event in events_of(made, events.Warned) if "step 4" in event.message]
    assert "could not be saved" in warning.message
    (failed,) = events_of(made, events.Failed)
    assert failed.exit_code == 2 and failed.traceback == ""
    assert list(made.checkpoints.iterdir()) == [] and list(made.state.iterdir()) == []
    assert main(["train", str(made.path)]) == 0  # with room again it trains to the end
    assert made.status() == "finished"


@pytest.mark.slow
def test_a_defect_is_told_with_its_traceback_and_exit_code_1(tmp_path, monkeypatch, saved):
    def fail(*_):
        raise ValueError("a defect of ours")

    monkeypatch.setattr("engine.train.attach", fail)
    assert main(["train", str(saved()), "--run", str(tmp_path / "r")]) == 1
    (failed,) = events_of(RunFolder(tmp_path / "r"), events.Failed)
    assert "a defect of ours" in failed.message and "Traceback" in failed.traceback


@pytest.mark.slow
def test_out_of_memory_gives_advice_from_the_run_s_own_numbers_and_exit_code_3(tmp_path, monkeypatch, saved):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("engine.train.attach", fail)
    path = saved(run__batch_size=3)
    assert main(["train", str(path), "--run", str(tmp_path / "r")]) == 3
    (failed,) = events_of(RunFolder(tmp_path / "r"), events.Failed)
    assert "gradient_checkpointing" in failed.message and "now 3" in failed.message


@pytest.mark.slow
def test_pictures_are_drawn_with_a_lora_and_none_is_overwritten(saved, tmp_path):
    path, out = saved(), tmp_path / "out"
    assert main(["train", str(path), "--run", str(tmp_path / "run")]) == 0
    drawn = ("--prompt", "a red circle --d 3", "--out", str(out))
    plain = engine("sample", path, *drawn)  # as a user starts it; the others here, which saves what torch takes to load
    assert plain.returncode == 0, plain.stderr
    assert main(["sample", str(tmp_path / "run"), *drawn]) == 0
    lora = tmp_path / "run" / "checkpoints" / "tiny.safetensors"
    assert main(["sample", str(path), *drawn, "--lora", f"{lora}=0"]) == 0
    pictures = [Image.open(out / name) for name in ("0000.png", "0001.png", "0002.png")]
    first, second, third = (picture.tobytes() for picture in pictures)
    assert first == third != second
    assert "tiny 1" in pictures[1].info["parameters"]


@pytest.mark.slow
def test_sampling_refuses_in_sentences(capsys, saved, tmp_path):
    assert "no prompt" in refuse(capsys, "sample", saved())
    assert "must be a number" in refuse(capsys, "sample", saved(), "--prompt", "a", "--lora", "x.safetensors=much")
    assert "x.safetensors" in refuse(capsys, "sample", saved(), "--prompt", "a", "--lora", tmp_path / "x.safetensors")


@pytest.mark.slow
def test_help_names_all_commands():
    told = engine("--help").stdout
    assert all(name in told for name in ("train", "check", "sample", "doctor"))


@pytest.mark.slow
def test_output_into_a_closed_pipe_is_no_defect(saved):
    quoted = " ".join(f"'{word}'" for word in command("check", saved(), "--json"))
    run = subprocess.run(
        f"{quoted} | head -n 1", shell=True, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    assert run.stdout == "{\n"
    assert "Error" not in run.stderr
