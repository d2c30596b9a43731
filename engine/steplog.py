"""Losses of steps: kept on the device, read back together every few steps, then told one event a step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from engine import events
from engine.adapters.limits import NormLimit
from engine.batches import Batch
from engine.errors import UserError
from engine.memory import used_bytes
from engine.plan import Plan
from engine.report import Reporter

READ_AFTER_SECONDS = 1.0
BAD_STEPS_LIMIT = 25


@dataclass(frozen=True)
class _Note:
    step: int
    rates: dict[str, float]
    images: int
    names: tuple[str, ...]


class StepLog:
    """Reads at the latest after `every` steps or a second, so that the device is seldom waited for."""

    def __init__(self, report: Reporter, plan: Plan, every: int, device: torch.device) -> None:
        self.report = report
        self.plan = plan
        self.device = device
        self.values = torch.zeros(every, 2, device=device)
        self.notes: list[_Note] = []
        self.bad_steps = 0
        self.limit: NormLimit | None = None
        self.limited: tuple[int, tuple[int, float] | None] = (0, None)
        self.clock_seconds = time.monotonic()

    def restart_clock(self) -> None:
        """Leave out what was done between steps (saving, sampling) from the time per step."""
        self.clock_seconds = time.monotonic()

    def note(
        self, step: int, loss: torch.Tensor, norm: torch.Tensor, rates: dict[str, float], batches: list[Batch]
    ) -> None:
        """Keep the loss and gradient norm (0-dim tensors) of step number `step` (from 1)."""
        place = len(self.notes)
        self.values[place, 0] = loss
        self.values[place, 1] = norm
        names = tuple(image.path.name for batch in batches for image in batch.images)
        self.notes.append(_Note(step, rates, batches[0].step_images if batches else 0, names))
        waited = time.monotonic() - self.clock_seconds
        if len(self.notes) == len(self.values) or waited > READ_AFTER_SECONDS or step == 1:
            self.read()

    def read(self) -> None:
        """Read what was kept and tell it. Raises UserError when the loss has not been finite for many steps."""
        if not self.notes:
            return
        rows = self.values[: len(self.notes)].tolist()
        now = time.monotonic()
        seconds = (now - self.clock_seconds) / len(self.notes)
        self.clock_seconds = now
        memory_bytes = used_bytes(self.device)
        notes, self.notes = self.notes, []
        self.limited = (notes[-1].step, self.limit.read()) if self.limit else (0, None)
        for note, (loss, norm) in zip(notes, rows, strict=True):
            self._tell(note, _finite(loss), _finite(norm), seconds, memory_bytes)

    def _tell(self, note: _Note, loss: float | None, norm: float | None, seconds: float, memory_bytes: int) -> None:
        at, told = self.limited
        shrunk_layers, mean_norm = told if told and at == note.step else (None, None)
        self.report.step(
            events.Step(
                step=note.step,
                epoch=(note.step - 1) // self.plan.steps_per_epoch + 1,
                loss=loss,
                lr=note.rates,
                gradient_norm=norm,
                seconds_per_step=seconds,
                images=note.images,
                memory_bytes=memory_bytes,
                shrunk_layers=shrunk_layers,
                mean_norm=mean_norm,
            ),
            self.plan.steps,
        )
        self.bad_steps = self.bad_steps + 1 if loss is None else 0
        if loss is None:
            names = ", ".join(note.names[:8]) + (" …" if len(note.names) > 8 else "")
            self.report.warn(f"step {note.step} gave a loss that is not finite and was left out. Images: {names}.")
        if self.bad_steps >= BAD_STEPS_LIMIT:
            what = (
                f"the loss has not been finite for {BAD_STEPS_LIMIT} steps, so nothing is learned any more. "
                "Lower the learning rates, or use bf16 or fp32; the last checkpoint is as it was."
            )
            raise UserError(what, "memory.precision")


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None
