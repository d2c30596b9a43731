"""Checkpoints and states of a run: written whole, checked, told; and restored."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from engine import events
from engine.adapters.attach import Adapter
from engine.adapters.files import save_adapter
from engine.errors import UserError
from engine.facts import Biography
from engine.optimizers import pack_state, unpack_state
from engine.plan import Plan
from engine.preset import Preset, resolve
from engine.report import Reporter
from engine.run import checkpoint_name
from engine.sdxl.mark import model_mark
from engine.state import State, save_state
from engine.updater import Updater

# What a user may change between stop and resume; the optimizer's saved groups hold the old values
_RULED_BY_PRESET = ("weight_decay", "betas", "eps")


class Saver:
    """Writes a checkpoint and a state at each save, and finds back to a state."""

    def __init__(
        self, preset: Preset, plan: Plan, adapter: Adapter, updater: Updater, about: Biography, report: Reporter
    ) -> None:
        """`about` gives the metadata of checkpoints."""
        self.preset = preset
        self.plan = plan
        self.adapter = adapter
        self.updater = updater
        self.about = about
        self.report = report
        self.fingerprint = _fingerprint(preset, plan)

    def save(self, step: int, last: bool) -> Path | None:
        """Checkpoint, then state. Where the disk refuses, the last step raises and an earlier one warns."""
        run = self.report.run
        path = run.checkpoints / checkpoint_name(self.preset.run.name, step, self.plan.steps)
        try:
            save_adapter(
                path,
                self.adapter,
                precision=self.preset.run.save_precision,
                metadata=self.about.at(step),
                trained=step > 1 or self.preset.optimizer.warmup_steps == 0,
            )
            self._told(step, "checkpoint", path)
            self._told(step, "state", save_state(run.state, self._state(step)))
        except UserError as error:
            if last:
                raise
            self.report.warn(f"step {step} could not be saved: {error} Training goes on; earlier files are whole.")
            return None
        return path

    def restore(self, state: State) -> None:
        """Put adapter, optimizer and loss scale back to where they were, bit for bit."""
        groups = self.updater.optimizer.param_groups
        wanted = [{key: group[key] for key in _RULED_BY_PRESET if key in group} for group in groups]
        try:
            self.adapter.load_tensors(state.adapter)
            unpack_state(self.updater.optimizer, state.optimizer, state.about["optimizer"])
        except (KeyError, RuntimeError) as error:
            what = f"the saved state is of another adapter ({error}). Resume with the settings that the run began with."
            raise UserError(what, str(self.report.run.state)) from None
        for group, values in zip(groups, wanted, strict=True):
            group.update(values)
        self.updater.scale.fill_(state.about["loss_scale"])
        self.updater.good_steps.fill_(state.about["good_steps"])
        if state.about["fingerprint"] != self.fingerprint:
            self.report.warn(
                "the base model, images, captions or settings have changed since this state was saved: the run goes on "
                "from here, but not as it would have without the change."
            )

    def _state(self, step: int) -> State:
        tensors, about = pack_state(self.updater.optimizer)
        content: dict[str, Any] = {
            "optimizer": about,
            "loss_scale": float(self.updater.scale),
            "good_steps": float(self.updater.good_steps),
            "fingerprint": self.fingerprint,
        }
        return State(step, self.adapter.tensors(), tensors, content)

    def _told(self, step: int, what: str, path: Path) -> None:
        relative = str(path.relative_to(self.report.run.path))
        self.report.emit(events.Saved(step, what, relative, path.stat().st_size))
        if what == "checkpoint":
            self.report.say(f"Saved {relative}")


def _fingerprint(preset: Preset, plan: Plan) -> str:
    """Hash of what the course of a run depends on: base model, images in their order, captions, and settings."""
    images = [
        (str(image.path), image.caption, image.second_caption, image.bucket_px, image.resized_px, image.repeats)
        for image in plan.images
    ]
    settings = preset.model_dump(include={"data", "captions", "adapter", "optimizer", "noise", "loss", "memory"})
    run = preset.run.model_dump(include={"batch_size", "accumulation", "seed"})
    vae = resolve(preset.model.vae) if preset.model.vae else None
    model = model_mark(plan.model, vae) if plan.model else ""
    content = json.dumps([model, images, settings, run, plan.steps], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()
