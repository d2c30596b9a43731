"""A run that is killed, stopped or ended by a signal goes on to the very same weights."""

from __future__ import annotations

import random
import shutil
import signal
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from engine import events
from engine.__main__ import main
from engine.batches import BatchMaker
from engine.errors import UserError
from engine.run import RunFolder
from engine.stopping import Stopping
from tests.micro_model import micro_model
from tests.training import events_of, losses_of, resume_here, small_preset, start_engine, steps_of, train_here


@pytest.fixture(autouse=True)
def signals_as_they_were():
    """Runs in this process listen to signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def weights_of(made: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(made.checkpoints / "tiny.safetensors")


def assert_same_outcome(made: RunFolder, other: RunFolder) -> None:
    first, second = weights_of(made), weights_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses_of(made) == losses_of(other)


def wait_for_step(made: RunFolder, step: int, process, limit_seconds: float = 240) -> None:
    """Until that step was told."""
    end = time.monotonic() + limit_seconds
    while not any(event.step >= step for event in events_of(made, events.Step)):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "the run did not get that far in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    """50 steps in one go, with everything that is drawn anew each step switched on."""
    folder = tmp_path_factory.mktemp("fifty")
    preset = small_preset(
        folder,
        run__steps=50,
        run__save_every_steps=10,
        run__save_precision="fp32",
        data__flip=True,
        noise__offset=0.1,
        optimizer__warmup_steps=5,
    )
    return preset, train_here(preset)


@pytest.mark.slow
def test_killed_at_any_moment_twice_it_ends_in_the_same_weights(fifty, tmp_path):
    preset, whole = fifty
    preset.save(tmp_path / "preset.json")
    made = RunFolder(tmp_path / "killed")
    chance = random.Random()
    for first, target in ((22, ("train", tmp_path / "preset.json", "--run", made.path)), (32, ("train", made.path))):
        process = start_engine(*target)
        wait_for_step(made, first, process)
        time.sleep(chance.uniform(0, 0.15))  # a few of the 50 steps, also on a fast machine
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert made.status() == "killed"
        if first == 22:
            made.request("stop")  # one from before the next process began does not stop it
            time.sleep(0.05)
    assert main(["train", str(made.path)]) == 0
    assert made.status() == "finished"
    begun_at = [event.from_step for event in events_of(made, events.Started)]
    assert len(begun_at) == 3 and begun_at[0] == 0
    assert all(step % 10 == 0 and step >= 20 for step in begun_at[1:])
    assert_same_outcome(made, whole)


@pytest.mark.slow
def test_stopped_by_request_and_by_signal_it_ends_in_the_same_weights(fifty, tmp_path, capsys):
    preset, whole = fifty
    preset.save(tmp_path / "preset.json")
    made = RunFolder(tmp_path / "stopped")
    process = start_engine("train", tmp_path / "preset.json", "--run", made.path)
    wait_for_step(made, 12, process)
    made.request("pause")  # so that what follows has time, and to be stopped while it is held
    assert main(["train", str(made.path)]) == 2  # two processes never work in one run folder
    assert "another process" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "preset.json"), "--run", str(made.path)]) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert made.status() == "running"
    made.request("stop")
    assert process.wait(60) == 0
    (stopped,) = events_of(made, events.Stopped)
    assert (made.checkpoints / f"tiny-{stopped.step:06d}.safetensors").exists()

    process = start_engine("train", made.path)
    wait_for_step(made, stopped.step + 5, process)
    process.terminate()
    assert process.wait(60) == 0
    assert made.status() == "stopped"
    resume_here(made)
    assert_same_outcome(made, whole)


OTHER_OPTIMIZERS = {
    "8-bit moments": {"optimizer__name": "adamw_8bit", "adapter__rank": 16},
    "each matrix by itself, its own rate, averaged weights": {
        "optimizer__name": "prodigy_plus_schedule_free",
        "optimizer__unet_rate": 1.0,
        "optimizer__schedule": "constant",
        "optimizer__extra": "d0=1e-4",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OTHER_OPTIMIZERS)
def test_states_of_other_optimizers_resume_bit_for_bit_too(tmp_path, kind):
    changes = {"run__steps": 8, **OTHER_OPTIMIZERS[kind]}
    whole = train_here(small_preset(tmp_path, **changes), tmp_path / "whole")
    half = train_here(small_preset(tmp_path, run__save_every_steps=4, **changes), tmp_path / "half")
    (half.state / "step-00000008.safetensors").unlink()
    (half.checkpoints / "tiny.safetensors").unlink()
    resume_here(half)
    assert events_of(half, events.Started)[-1].from_step == 4
    assert_same_outcome(half, whole)


@pytest.mark.slow
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path):
    whole = train_here(small_preset(tmp_path, run__steps=6), tmp_path / "whole")
    made = train_here(small_preset(tmp_path, run__steps=6, run__save_every_steps=2), tmp_path / "made")
    last = made.state / "step-00000006.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    resume_here(made)
    assert events_of(made, events.Started)[-1].from_step == 4
    assert any("step-00000006" in event.message for event in events_of(made, events.Warned))
    assert_same_outcome(made, whole)


@pytest.mark.slow
def test_without_any_readable_state_a_sentence_says_so(tmp_path):
    made = train_here(small_preset(tmp_path))
    for path in made.state.iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="none of the saved states can be read"):
        resume_here(made)


@pytest.mark.slow
def test_a_finished_run_can_be_made_longer(tmp_path):
    preset = small_preset(tmp_path, optimizer__schedule="constant")
    whole = train_here(preset.changed({"run.steps": 7}), tmp_path / "whole")
    made = train_here(preset, tmp_path / "made")
    assert main(["train", str(made.path), "--set", "run.steps=7"]) == 0
    assert [step.step for step in steps_of(made)] == list(range(1, 8))
    assert_same_outcome(made, whole)


@pytest.mark.slow
def test_a_shorter_length_than_what_is_done_is_refused(tmp_path, capsys):
    made = train_here(small_preset(tmp_path))
    assert main(["train", str(made.path), "--set", "run.steps=2"]) == 2
    assert "already" in capsys.readouterr().err


@pytest.mark.slow
def test_another_adapter_cannot_resume(tmp_path, capsys):
    made = train_here(small_preset(tmp_path))
    assert main(["train", str(made.path), "--set", "adapter.conv_rank=4", "--set", "run.steps=9"]) == 2
    assert "another adapter" in capsys.readouterr().err


@pytest.mark.slow
def test_a_changed_caption_is_told_on_resume(tmp_path):
    made = train_here(small_preset(tmp_path))
    (tmp_path / "images" / "2_sks thing" / "0.txt").write_text("something else")
    resume_here(made)
    assert any("have changed" in event.message for event in events_of(made, events.Warned))


@pytest.mark.slow
def test_stopped_before_the_first_step_it_keeps_its_place(tmp_path, monkeypatch):
    made = train_here(small_preset(tmp_path))
    monkeypatch.setattr(Stopping, "listen", lambda self: setattr(self, "asked", True))
    (tmp_path / "images" / "2_sks thing" / "0.txt").write_text("a new caption to encode")
    assert main(["train", str(made.path)]) == 0
    assert events_of(made, events.Stopped) == [events.Stopped(4)]
    assert made.status() == "stopped"


@pytest.mark.slow
def test_another_base_model_is_told_on_resume(tmp_path):
    copy = shutil.copy(micro_model(), tmp_path / "base.safetensors")
    made = train_here(small_preset(tmp_path, model__base=str(copy)))
    resume_here(made)
    assert events_of(made, events.Warned) == []
    tensors = load_file(copy)
    tensors["model.diffusion_model.out.2.bias"] += 1
    with safe_open(copy, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, copy, metadata=metadata)
    resume_here(made)
    assert any("base model" in event.message for event in events_of(made, events.Warned))


@pytest.mark.slow
def test_saving_and_sampling_on_request(tmp_path, monkeypatch):
    preset = small_preset(tmp_path, run__steps=9, sample__prompts="a red circle", sample__at_start=False)
    made = RunFolder(tmp_path / "asked")
    draw = BatchMaker.batches

    def asked_at_step_3(maker, step):
        if step == 3:
            made.request("save")
            made.request("sample")
        return draw(maker, step)

    monkeypatch.setattr(BatchMaker, "batches", asked_at_step_3)
    train_here(preset, made.path)
    saved = [event.step for event in events_of(made, events.Saved) if event.what == "checkpoint"]
    sampled = [event.step for event in events_of(made, events.Sampled)]
    assert len(saved) == 2 and 3 <= saved[0] < 9 == saved[1]
    assert len(sampled) == 2 and 3 <= sampled[0] < 9 == sampled[1]
    assert list(made.requests.iterdir()) == []
