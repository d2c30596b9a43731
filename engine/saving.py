"""Checkpoints and states of a run: written whole, checked, told; and restored."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from engine import events
from engine.adapters.attach import Adapter
from engine.adapters.files import save_adapter
from engine.atomic import is_full_disk
from engine.average import Average
from engine.data.digests import FileDigests
from engine.errors import UserError
from engine.facts import Biography
from engine.kept import CheckpointRecord
from engine.merges import TEXT_PARTS, merge_mark, read_merges
from engine.optimizer_arguments import ruled_by_preset
from engine.optimizers import pack_state, unpack_state
from engine.plan import Plan
from engine.preset import Preset, resolve
from engine.report import Reporter
from engine.run import checkpoint_name, epoch_checkpoint_name
from engine.sdxl.layers import UNET
from engine.sdxl.mark import model_mark
from engine.state import State, save_state
from engine.updater import Updater
from engine.uploads import is_waiting
from engine.validation import Course

WAITS_FOR_SPACE = 20
WAIT_SECONDS = 30.0


class Saver:
    """Writes a checkpoint and a state at each save, and finds back to a state."""

    def __init__(
        self, preset: Preset, plan: Plan, trained: tuple[Adapter, Updater, Average], about: Biography, report: Reporter
    ) -> None:
        """`about` gives the metadata of checkpoints, which hold the average of the adapter where one is kept."""
        self.preset = preset
        self.plan = plan
        self.adapter, self.updater, self.average = trained
        self.about = about
        self.report = report
        self.fingerprint = _fingerprint(preset, plan)
        self.record = CheckpointRecord(report.run.path / "checkpoints.json", report.run.checkpoints)
        self.saved_at_seconds = time.monotonic()

    @property
    def last_path(self) -> Path:
        """Where the run's final checkpoint goes."""
        return self.report.run.checkpoints / f"{self.preset.run.name}.safetensors"

    @property
    def is_time(self) -> bool:
        """Whether so many minutes have passed since the last checkpoint that the preset asks for another."""
        minutes = self.preset.run.save_every_minutes
        return 0 < 60 * minutes <= time.monotonic() - self.saved_at_seconds

    def save(self, step: int, course: Course, last: bool, asked: bool) -> Path | None:
        """Checkpoint, then state. Where the disk refuses, the last step raises and an earlier one warns.

        `course`: what the validations came to. `asked`: by the user or by the run's end, so that it is never thinned
        out. A full disk at the last step is waited for, some minutes, so that there is time to free some space.
        """
        path = self.last_path if last else self._path(step)
        waits = WAITS_FOR_SPACE if last else 0
        while True:
            try:
                self._write(path, step)
                if asked or self.preset.run.state_saves == "with_checkpoints" or self._is_state_due(step):
                    self._write_state(step, course)
                if not asked:
                    self._thin_out(path, step)
            except UserError as error:
                if waits and is_full_disk(error):
                    self._wait_for_space(error, waits)
                    waits -= 1
                    continue
                if last:
                    raise
                what = f"step {step} could not be saved: {error} Training goes on; earlier files are whole."
                self.report.warn(what)
                self.saved_at_seconds = time.monotonic()  # by the clock it is tried again after the same time
                return None
            self.saved_at_seconds = time.monotonic()
            return path

    def save_state_if_due(self, step: int, course: Course) -> None:
        """A state alone, where the preset asks for more of them than of checkpoints."""
        if not self._is_state_due(step):
            return
        try:
            self._write_state(step, course)
        except UserError as error:
            self.report.warn(f"the state of step {step} could not be saved: {error} Training goes on.")

    def _is_state_due(self, step: int) -> bool:
        every = self.preset.run.state_every_steps
        return every > 0 and step % every == 0

    def keep_best(self, step: int) -> None:
        """Write NAME-best.safetensors anew; a refusal of the disk is a warning."""
        try:
            self._write(self.last_path.with_name(f"{self.preset.run.name}-best.safetensors"), step)
        except UserError as error:
            self.report.warn(f"the best weights, of step {step}, could not be saved: {error} Training goes on.")

    def _path(self, step: int) -> Path:
        per_epoch = self.plan.steps_per_epoch
        by_epoch = self.preset.run.file_names == "epoch" and step % per_epoch == 0
        name = self.preset.run.name
        file_name = epoch_checkpoint_name(name, step // per_epoch) if by_epoch else checkpoint_name(name, step)
        return self.report.run.checkpoints / file_name

    def _write(self, path: Path, step: int) -> None:
        with self.average.shown():
            save_adapter(
                path,
                self.adapter,
                precision=self.preset.run.save_precision,
                metadata=self.about.at(step),
                trained=step > 1 or not (self.preset.optimizer.warmup_steps or self.preset.optimizer.warmup_share),
            )
        self._told(step, "checkpoint", path)

    def _write_state(self, step: int, course: Course) -> None:
        kept = self.preset.run.keep_states
        self._told(step, "state", save_state(self.report.run.state, self._state(step, course), kept))

    def _thin_out(self, path: Path, step: int) -> None:
        self.record.add(path, step)
        if self.preset.run.keep_last:
            for gone in self.record.thin(
                self.preset.run.keep_last, step, lambda path: is_waiting(self.report.run, path)
            ):
                self.report.say(f"Removed {gone.name}: only the last {self.preset.run.keep_last} are kept")

    def _wait_for_space(self, error: UserError, waits: int) -> None:
        """Some time, in which a stop request ends the waiting with the error."""
        minutes = waits * WAIT_SECONDS / 60
        what = f"the end of the run could not be saved: {error} It is tried again every {WAIT_SECONDS:g} s"
        self.report.warn(
            f"{what} for {minutes:.0f} min; Stop ends the waiting, and a resume goes on from the last state."
        )
        until_seconds = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until_seconds:
            if self.report.run.take_request("stop"):
                raise error
            time.sleep(min(1.0, WAIT_SECONDS))

    def restore(self, state: State) -> None:
        """Put adapter, optimizer and loss scale back to where they were, bit for bit."""
        groups = self.updater.optimizer.param_groups
        ruled = ruled_by_preset(self.preset.optimizer)
        wanted = [{key: group[key] for key in ruled if key in group} for group in groups]
        try:
            self.adapter.load_tensors(state.adapter)
            self.average.load_tensors(state.average)
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

    def _state(self, step: int, course: Course) -> State:
        tensors, about = pack_state(self.updater.optimizer)
        content: dict[str, Any] = {
            "optimizer": about,
            "loss_scale": float(self.updater.scale),
            "good_steps": float(self.updater.good_steps),
            "fingerprint": self.fingerprint,
            "validation": course.content(),
            "changes": self.about.changes_at(step),
        }
        return State(step, self.adapter.tensors(), tensors, content, self.average.tensors())

    def _told(self, step: int, what: str, path: Path) -> None:
        relative = str(path.relative_to(self.report.run.path))
        self.report.emit(events.Saved(step, what, relative, path.stat().st_size))
        if what == "checkpoint":
            self.report.say(f"Saved {relative}")


def _fingerprint(preset: Preset, plan: Plan) -> str:
    """Hash of what the course of a run depends on: base model, images in their order, captions, and settings."""
    images = [
        (
            str(image.path),
            image.caption,
            image.second_caption,
            image.bucket_px,
            image.resized_px,
            image.repeats,
            *image.own,
        )
        for image in plan.images
    ]
    settings = preset.model_dump(include={"data", "captions", "adapter", "optimizer", "noise", "loss", "memory"})
    average = {"ema_decay", "ema_warmup", "ema_start_step"}
    run = preset.run.model_dump(include={"batch_size", "accumulation", "gpus", "seed", *average})
    vae = resolve(preset.model.vae) if preset.model.vae else None
    model = model_mark(plan.model, vae) if plan.model else ""
    model += merge_mark(read_merges(preset), TEXT_PARTS | {UNET})
    settings["adapter"]["start_from"] = Path(preset.adapter.start_from).name  # the state has its numbers
    masks = _mask_digests(preset, plan)
    content = json.dumps([model, images, settings, run, plan.steps, *masks], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def _mask_digests(preset: Preset, plan: Plan) -> list[str]:
    """Hashes of the contents of the masks, in the order of the images."""
    masks = [image.mask for image in plan.images if image.mask is not None]
    if not masks:
        return []
    with FileDigests(resolve(preset.data.cache_folder)) as files:
        return [digest.hex() for digest in files.of_all(masks)]
