"""Runs that are paused, changed and made longer while they train come to the same weights as told, after a kill too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from threading import Timer

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from engine import events, run
from engine.__main__ import main
from engine.preset import Preset
from engine.report import Reporter
from engine.run import RunFolder
from engine.stopping import Stopping
from engine.train import train
from tests.training import events_of, losses_of, resume_here, small_preset, train_here

pytestmark = pytest.mark.slow


def weights_of(made: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(made.checkpoints / "tiny.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def train_asked(preset: Preset, folder: Path, asked: dict[int, list[tuple[str, object]]]) -> RunFolder:
    """Train in this process; after step N what `asked[N]` lists is asked for. ("continue", seconds) comes later."""
    made = run.create(preset, folder)

    def ask(event: events.Event) -> None:
        for what, value in asked.get(event.step, ()) if isinstance(event, events.Step) else ():
            if what in run.CHANGE_REQUESTS:
                made.request_change(what, value)  # pyright: ignore[reportArgumentType]
            elif what == "continue":
                Timer(float(str(value)), made.request, ("continue",)).start()
            else:
                made.request(what)  # pyright: ignore[reportArgumentType]

    with run.held(made):
        report = Reporter(made)
        report.listeners.append(ask)
        train(preset, report, Stopping())
    return made


def back_to(made: RunFolder, step: int, folder: Path) -> RunFolder:
    """A copy of a run as if it had been killed at its end with a state of that step alone."""
    copy = RunFolder(Path(shutil.copytree(made.path, folder)))
    for path in copy.state.iterdir():
        if f"{step:08d}" not in path.name:
            path.unlink()
    (copy.checkpoints / "tiny.safetensors").unlink()
    return copy


def test_rates_and_prompts_changed_and_a_pause_resume_bit_for_bit(tmp_path):
    settings = {"run__steps": 8, "run__state_every_steps": 2, "run__keep_states": 9, "logging__every_steps": 1}
    preset = small_preset(tmp_path, run__save_precision="fp32", **settings)
    plain = train_here(preset, tmp_path / "plain")
    asked: dict[int, list[tuple[str, object]]] = {
        3: [("rate_factor", 0.5)],
        4: [("pause", 0), ("continue", 0.5)],
        5: [("rate_factor", 3.0), ("prompts", "a red circle"), ("sample", 0)],
    }
    changed = train_asked(preset, tmp_path / "changed", asked)
    again = resume_here(back_to(changed, 2, tmp_path / "again"))

    assert same(weights_of(again), weights_of(changed)) and losses_of(again) == losses_of(changed)
    assert not same(weights_of(plain), weights_of(changed))
    rates = {event.step: event.lr for event in events_of(again, events.Step)}
    expected = {event.step: event.lr for event in events_of(changed, events.Step)}
    assert rates == expected and len({tuple(rate.values()) for rate in rates.values()}) >= 3
    (paused,), (continued,) = events_of(changed, events.Paused), events_of(changed, events.Continued)
    assert paused.step == continued.step == 4 and continued.seconds > 0.2
    # The captions' encoders had left memory: new prompts are encoded all the same
    assert [(event.step, event.prompt) for event in events_of(changed, events.Sampled)] == [
        (5, "a red circle"),
        (8, "a red circle"),
    ]
    with safe_open(again.checkpoints / "tiny.safetensors", framework="pt") as file:
        told = json.loads((file.metadata() or {})["atelier_changes"])
    assert [(entry["step"], entry["what"]) for entry in told] == [
        (3, "rate_factor"),
        (5, "rate_factor"),
        (5, "prompts"),
    ]


def test_a_pause_changes_nothing_and_a_stop_after_the_epoch_resumes_to_the_same_weights(tmp_path):
    preset = small_preset(tmp_path, run__save_precision="fp32", run__steps=12, logging__every_steps=1)
    plain = train_here(preset, tmp_path / "plain")
    asked: dict[int, list[tuple[str, object]]] = {1: [("stop_after_epoch", 0)], 2: [("pause", 0), ("continue", 0.3)]}
    made = train_asked(preset, tmp_path / "made", asked)
    (stopped,) = events_of(made, events.Stopped)
    per_epoch = events_of(made, events.Started)[0].steps_per_epoch
    assert 0 < stopped.step < 12 and stopped.step % per_epoch == 0
    resume_here(made)
    assert same(weights_of(made), weights_of(plain))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_finished_run_gets_more_epochs_and_keeps_what_was_finished(tmp_path, schedule, capsys):
    settings = {"run__length": "epochs", "run__epochs": 1, "run__save_precision": "fp32"}
    preset = small_preset(tmp_path, optimizer__schedule=schedule, **settings)
    made = train_here(preset, tmp_path / "made")
    (started,) = events_of(made, events.Started)
    finished = weights_of(made)
    assert main(["extend", str(made.path), "--epochs", "1"]) == 0
    assert f"{2 * started.steps:,} instead of {started.steps:,}" in capsys.readouterr().out
    kept = made.checkpoints / f"tiny-{started.steps:06d}.safetensors"
    assert same(load_file(kept), finished) and not same(weights_of(made), finished)
    assert made.status() == "finished" and events_of(made, events.Finished)[-1].step == 2 * started.steps
    (changed,) = events_of(made, events.Changed)
    assert (changed.what, changed.value, changed.before) == ("steps", 2 * started.steps, started.steps)
    if schedule == "constant":  # then it is what a run of that length would have been
        whole = train_here(preset.changed({"run.epochs": 2}), tmp_path / "whole")
        assert same(weights_of(made), weights_of(whole))
