"""Several processes train one run as one process with as many times the batch would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from engine import events, processes
from engine.batches import BatchMaker
from engine.data.cache import Store
from engine.data.digests import FileDigests
from engine.errors import PresetError, UserError
from engine.forecast import make_forecast
from engine.latent_source import LatentSource
from engine.measured import Table
from engine.plan import make_plan
from engine.preparing import prepared_masks, without_unreadable
from engine.preset import ROOT, Preset
from engine.processes import ALONE, Processes, in_turn
from engine.report import SilentReporter
from engine.run import RunFolder
from engine.sdxl import checkpoint
from engine.sentence import sentence
from engine.stopping import Stopping
from launchers import several
from tests.training import events_of, losses_of, make_images, small_preset, train_here


class Known:
    """Moments that are a function of the image and the cut; captions as they are."""

    def moments(self, images, cuts):
        width, height = images[0].bucket_px
        return torch.stack(
            [torch.full((8, height // 8, width // 8), float(hash(image.path.name) % 97)) for image in images]
        )

    def words(self, captions):
        return captions


def batches_of(preset: Preset, step: int, here: Processes = ALONE) -> list:
    sources = (Known(), None, Known())
    return BatchMaker(preset, make_plan(preset), sources, torch.device("cpu"), here).batches(step)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("noise", [{}, {"noise__offset": 0.1, "noise__pyramid_levels": 3, "noise__perturbation": 0.1}])
def test_shares_together_are_the_batch_that_one_process_draws(tmp_path: Path, step: int, noise: dict[str, float]):
    whole = batches_of(small_preset(tmp_path, run__batch_size=4, data__flip=True, **noise), step)
    preset = small_preset(tmp_path, run__batch_size=2, run__gpus=2, data__flip=True, **noise)
    shares = [batch for rank in range(2) for batch in batches_of(preset, step, Processes(rank, 2, rank))]
    for name in ("latents", "noise", "input_noise", "timesteps", "size_ids", "weights"):
        expected = torch.cat([getattr(batch, name).flatten() for batch in whole])
        assert torch.equal(torch.cat([getattr(batch, name).flatten() for batch in shares]), expected)
    assert [image for batch in shares for image in batch.images] == [image for batch in whole for image in batch.images]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_share_is_computed_by_exactly_one_process(count: int):
    found = sorted(share for rank in range(count) for share in Processes(rank, count).shares(5))
    assert found == list(range(5))


def test_a_batch_of_all_gpus_makes_fewer_steps_and_the_plan_says_so(tmp_path: Path):
    one, two = (make_plan(small_preset(tmp_path, run__batch_size=2, run__gpus=count)) for count in (1, 2))
    assert two.steps_per_epoch < one.steps_per_epoch
    preset = small_preset(tmp_path, run__batch_size=2, run__gpus=2)
    assert "÷ batch 2 × 2 GPUs = " in sentence(preset, two, make_forecast(preset, two, Table(), None))


def test_alone_nothing_is_said_to_anybody():
    loss = torch.tensor(2.0)
    parameter = torch.nn.Parameter(torch.ones(3))
    assert ALONE.sum_gradients([parameter], loss) is loss
    assert parameter.grad is None
    assert ALONE.any_of(True, False) == (True, False)
    assert ALONE.tell("here") == "here"


def test_each_prepares_its_share_first_and_then_sees_all(monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(Processes, "wait", lambda self: seen.append("waited"))
    in_turn(list(range(5)), Processes(1, 2, 1), seen.append)
    assert seen == [[1, 3], "waited", [0, 1, 2, 3, 4]]


def spoiled(folder: Path) -> None:
    """Two of the four images cut off, and the masks of two others black and cut off."""
    subset = folder / "images" / "2_sks thing"
    (folder / "masks").mkdir()
    for number in range(4):
        Image.new("L", (64, 64), 255 * (number != 2)).save(folder / "masks" / f"{number}.png")
    for victim in (subset / "0.png", subset / "1.png", folder / "masks" / "3.png"):
        victim.write_bytes(victim.read_bytes()[:-30])


@pytest.mark.parametrize("cached", [True, False])
def test_each_reads_its_share_and_all_hear_what_was_found(tmp_path: Path, cached: bool, monkeypatch):
    """Two processes as two threads that meet where they would talk."""
    places = {"loss__mask_folder": str(tmp_path / "masks"), "validation__folder": str(tmp_path / "others")}
    preset = small_preset(tmp_path, data__cache_latents=cached, loss__mask="folder", **places)
    make_images(tmp_path / "others")
    spoiled(tmp_path)
    plan, meeting, held, read = make_plan(preset), threading.Barrier(2), {}, []

    def gather(here: Processes, values: list) -> list:
        held[here.rank] = values
        meeting.wait(60)
        everything = held[0] + held[1]
        meeting.wait(60)
        return everything

    monkeypatch.setattr(Processes, "gather", gather)
    monkeypatch.setattr(Processes, "wait", lambda _: meeting.wait(60))
    pixels = LatentSource._pixels
    monkeypatch.setattr(LatentSource, "_pixels", lambda own, *row: read.append(row[0].path.name) or pixels(own, *row))

    def one(rank: int) -> set[str]:
        those, report = (Stopping(), Processes(rank, 2, rank)), SilentReporter(RunFolder(tmp_path))
        assert plan.model is not None
        vae = checkpoint.load_vae(plan.model, torch.float32, torch.device("cpu"), None)
        store = Store.open(tmp_path / "cache", "latents") if cached else None
        source = LatentSource(vae, "", FileDigests(tmp_path / "cache"), store, ("#ffffff", "auto"), print)
        left = without_unreadable(preset, plan, source, report, those)
        with pytest.raises(PresetError, match=r"3\.png"):
            prepared_masks(preset, left, source, report, those)
        return {image.path.name for image in left.images}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(2))) == [{"2.png", "3.png"}] * 2
    if not cached:
        assert sorted(read) == sorted([path.name for path in (tmp_path / "images" / "2_sks thing").glob("*.png")] * 2)


@pytest.mark.parametrize(
    ("variables", "where"), [({"WORLD_SIZE": "two"}, "WORLD_SIZE"), ({"WORLD_SIZE": "2", "RANK": "7"}, "RANK")]
)
def test_wrong_variables_of_a_launcher_get_a_sentence(monkeypatch: pytest.MonkeyPatch, variables, where):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        processes.join()
    assert caught.value.problems[0].where == where


def test_too_few_gpus_get_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="fewer GPUs"):
        Processes(0, 2, 0).check_device(torch.device("cuda"))


def start(target: Path, count: int, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "launchers.several", "--gpus", str(count), str(target), *more]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_with_twice_the_batch_also_when_one_takes_over(tmp_path: Path):
    held_out = {"validation__folder": str(make_images(tmp_path / "others")), "validation__keep_best": False}
    exact = {"run__save_precision": "fp32", "run__steps": 6, "data__flip": True, **held_out}
    whole = train_here(small_preset(tmp_path, run__batch_size=4, **exact))
    path = tmp_path / "two.json"
    small_preset(tmp_path, run__batch_size=2, run__save_every_steps=3, **exact).save(path)
    folder = tmp_path / "shared"
    running = start(path, 2, "--run", str(folder))
    told, _ = running.communicate(timeout=300)
    assert running.returncode == 0, told
    assert json.loads((folder / "preset.json").read_text())["run"]["gpus"] == 2
    assert len(events_of(RunFolder(folder), events.Saved)) == 4  # two checkpoints, two states: by one process only
    assert losses_of(RunFolder(folder)) == pytest.approx(losses_of(whole), rel=1e-5)
    measured = [[event.loss for event in events_of(run, events.Validated)] for run in (RunFolder(folder), whole)]
    assert measured[0] == pytest.approx(measured[1], rel=1e-4) and len(measured[0]) == 3
    same(folder, whole.path)

    # With another number of processes from half way: the last state is taken away, one process goes on
    sorted((folder / "state").iterdir())[-1].unlink()
    (folder / "checkpoints" / "tiny.safetensors").unlink()
    command = [sys.executable, "-m", "engine", "train", str(folder)]
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming at step 3 of 6" in resumed.stdout
    same(folder, whole.path)


def same(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "checkpoints" / "tiny.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    weights, others = (torch.cat([found[name].flatten() for name in first]) for found in (first, second))
    assert (weights - others).norm() < 1e-5 * others.norm()  # Adam magnifies rounding where a gradient is nearly 0


@pytest.mark.slow
def test_a_killed_process_ends_all_with_a_sentence_and_the_run_resumes(tmp_path: Path):
    path = tmp_path / "long.json"
    small_preset(tmp_path, run__batch_size=2, run__steps=100000, run__save_every_steps=5).save(path)
    folder = tmp_path / "shared"
    running = start(path, 2, "--run", str(folder))
    deadline = time.monotonic() + 300
    while not list((folder / "state").glob("*.safetensors")):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.1)
    os.kill(other_process(running.pid), signal.SIGKILL)
    told, _ = running.communicate(timeout=120)
    assert running.returncode == 2
    assert "Process 2 of 2 was killed by signal 9" in told
    failed = events_of(RunFolder(folder), events.Failed)
    assert len(failed) == 1
    assert "another process of this run ended" in failed[0].message
    assert not RunFolder(folder).is_running()


def other_process(launcher: int) -> int:
    """The process with rank 1."""
    import psutil

    return next(child.pid for child in psutil.Process(launcher).children() if child.environ().get("RANK") == "1")


@pytest.mark.parametrize(
    ("first", "other", "expected"), [("0", "0", 0), ("0", "3", 0), ("2", "0", 2), ("time.sleep(60)", "3", 1)]
)
def test_the_launcher_ends_all_and_tells_the_exit_code(first: str, other: str, expected: int, capfd):
    codes = [first, other]
    started = [subprocess.Popen([sys.executable, "-c", f"import sys, time; sys.exit({code})"]) for code in codes]
    assert several.watch(started, grace_seconds=0.5) == expected
    assert all(process.poll() is not None for process in started)
    assert ("so the others end too" in capfd.readouterr().err) == ({first, other} != {"0"})
