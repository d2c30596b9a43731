"""More epochs for a run that has ended: its preset gets another length, and what was finished stays. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine import event_log, events, run
from engine.changes import Change, Changes
from engine.errors import PresetError, UserError
from engine.inputs import with_kept
from engine.plan import Plan, make_plan
from engine.preset import Preset
from engine.run import RunFolder, checkpoint_name
from engine.schedules import rate_curve


@dataclass(frozen=True)
class Extension:
    """A run as it will be: how many steps are done, and its length before and after.

    `factors`: the share of the set learning rates that it ended at, goes on at, and will end at.
    """

    run: RunFolder
    preset: Preset
    done_steps: int
    before_steps: int
    steps: int
    factors: tuple[float, float, float]

    @property
    def keeps_rates(self) -> bool:
        return max(self.factors) - min(self.factors) < 1e-9

    @property
    def sentence(self) -> str:
        """The new length and what it means for the learning rates."""
        more = self.steps - self.before_steps
        length = f"The run gets {more:,} steps more: {self.steps:,} instead of {self.before_steps:,}."
        ended, begins, ends = self.factors
        if self.keeps_rates:
            return f"{length} The learning rates go on as they ended, at {ended:.3g} of those set."
        return (
            f"{length} The schedule {self.preset.optimizer.schedule} is laid over all of them anew: the learning rates "
            f"ended at {ended:.3g} of those set, go on at {begins:.3g} and end at {ends:.3g}."
        )


def extension(folder: Path, epochs: int) -> Extension:
    """What a run becomes with `epochs` more. Changes nothing. Raises UserError where that cannot be."""
    found, preset = run.open_run(folder)
    if found.is_running():
        raise UserError("this run is still running. Wait for its end, or stop it first.", found.name)
    if epochs < 1:
        raise UserError(f"give at least 1 epoch more (got {epochs}).", "--epochs")
    done = _steps_done(found)
    _refuse_exhausted(found, preset)
    before = _without_problems(with_kept(preset, found), found)
    if preset.run.length == "epochs":
        longer = preset.changed({"run.epochs": preset.run.epochs + epochs})
    else:
        longer = preset.changed({"run.steps": preset.run.steps + epochs * before.steps_per_epoch})
    after = _without_problems(with_kept(longer, found), found)
    factors = factors_around(preset, done, before.steps, after.steps)
    return Extension(found, longer, done, before.steps, after.steps, factors)


def extend(folder: Path, epochs: int) -> Extension:
    """Give a run `epochs` more: it is then resumed like any other. Raises UserError where that cannot be.

    The finished checkpoint gets its step into its name, so that the new end does not overwrite it.
    """
    made = extension(folder, epochs)
    with run.held(made.run):
        _write(made)
    return made


def _write(made: Extension) -> None:
    changes = Changes.of(made.run, made.preset)
    log = event_log.EventLog(made.run.events)
    last = made.run.checkpoints / f"{made.preset.run.name}.safetensors"
    kept = last.with_name(checkpoint_name(made.preset.run.name, made.done_steps))
    if last.exists() and not kept.exists():
        last.rename(kept)
        relative = str(kept.relative_to(made.run.path))
        log.emit(events.Saved(made.done_steps, "checkpoint", relative, kept.stat().st_size))
    made.preset.save(made.run.preset)
    changes.record(Change(made.done_steps, "steps", made.steps, made.before_steps))
    log.emit(events.Changed(made.done_steps, "steps", made.steps, made.before_steps))


def factors_around(preset: Preset, done_steps: int, before_steps: int, steps: int) -> tuple[float, float, float]:
    """What the schedule multiplies the rates by: in the last update done, in the next one, and in the last to come."""
    old, new = rate_curve(preset.optimizer, before_steps), rate_curve(preset.optimizer, steps)
    return old(max(done_steps - 1, 0)), new(done_steps), new(steps - 1)


def _steps_done(found: RunFolder) -> int:
    """The step of the last state. UserError where there is none."""
    states = sorted(found.state.glob("step-*.safetensors"))
    if not states:
        raise UserError("there is no saved state to go on from. Start the run anew with more epochs.", found.name)
    return int(states[-1].stem.rpartition("-")[2])


def _refuse_exhausted(found: RunFolder, preset: Preset) -> None:
    """A run that its validations ended would end again at once."""
    ends = [entry.event for entry in event_log.read(found.events)[0] if isinstance(entry.event, events.Finished)]
    if ends and ends[-1].reason and preset.validation.patience:
        what = f"it ended early ({ends[-1].reason}) and would again. Resume it with validation.patience=0 instead."
        raise UserError(what, found.name)


def _without_problems(preset: Preset, found: RunFolder) -> Plan:
    plan = make_plan(preset, run_folder=found.path)
    if plan.problems:
        raise PresetError(plan.problems)
    return plan
