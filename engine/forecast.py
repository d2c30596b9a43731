"""What a run will take: time from what was measured on this machine, memory, disk. Pure; torch-free.

Time is that of the nearest run that was measured on the same device with the same model: under the same conditions as
it is, else scaled by the work of a step (engine/pace.py). Where there is none it is not told at all.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.cards import Card, card_of
from engine.measured import Measured, Table, read_table
from engine.pace import Conditions, conditions_of, device_of, image_tflop, slowness, unlikeness
from engine.plan import Plan, images_at_once
from engine.plan_sizes import DiskRoom
from engine.preset import Preset

USABLE = 0.96  # of a card's memory: the driver and the desktop keep some
CUDA_BYTES = 700_000_000  # what CUDA, its kernels and gaps between tensors take beside what the plan counts
# A measured run corrects the estimate of memory by no more than this
MOST_CORRECTION = 2.0
Certainty = Literal["measured", "scaled", "unknown"]


@dataclass(frozen=True)
class TimeForecast:
    """seconds: steps and sample pictures, loading and caching left out; None where nothing like it was measured.

    basis: the row that it comes from; step_seconds: of an average step.
    """

    certainty: Certainty
    seconds: float | None = None
    step_seconds: float | None = None
    sample_seconds: float = 0.0
    basis: Measured | None = None


@dataclass(frozen=True)
class Forecast:
    """What lies ahead. `device`: the card's or processor's name, "" for a card whose name is not known.

    memory_correction: what a run measured here took ÷ what had been planned for it, 1 where none was measured.
    memory_bytes: at the most, on a GPU, with what CUDA itself takes; 0 on a processor or where it cannot be told.
    card_bytes: what the card has; 0 where it is not known. disk: for each disk what is needed and free there.
    """

    images: int
    shown_per_epoch: int
    buckets: int
    largest_bucket_px: tuple[int, int]
    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    samples: int
    checkpoints: int
    device: str
    on_gpu: bool
    time: TimeForecast
    memory_bytes: int
    memory_certainty: Certainty
    memory_correction: float
    card_bytes: int
    card_free_bytes: int
    disk: tuple[DiskRoom, ...]
    fault: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether the card's memory suffices; None where one of the two is not known."""
        return self.memory_bytes <= USABLE * self.card_bytes if self.memory_bytes and self.card_bytes else None

    def to_json(self) -> str:
        """The forecast as `python -m engine forecast --json` prints it."""
        content: dict[str, Any] = dataclasses.asdict(self)
        basis = self.time.basis
        content["time"]["basis"] = None
        if basis is not None:
            content["time"]["basis"] = {"time": basis.time, "steps": basis.steps, **vars(basis.conditions)}
        content["fits"] = self.fits
        return json.dumps(content, ensure_ascii=False, indent=1, default=str)


def forecast_here(preset: Preset, plan: Plan) -> Forecast:
    """The forecast on this machine, with what was measured on it."""
    return make_forecast(preset, plan, read_table(), card_of(preset))


def make_forecast(preset: Preset, plan: Plan, table: Table, card: Card | None) -> Forecast:
    """The forecast of a plan from a table of measured runs, for a card (None: the processor, or an unknown one)."""
    device, on_gpu = device_of(preset, card)
    conditions = conditions_of(preset, plan.model, device, on_gpu) if plan.model and plan.steps else None
    basis = nearest(table.rows, conditions) if conditions else None
    shown = max((bucket.size_px for bucket in plan.buckets), key=lambda size: size[0] * size[1], default=(0, 0))
    memory_bytes, memory_certainty, correction = _memory(plan, conditions, basis)
    return Forecast(
        images=len(plan.images),
        shown_per_epoch=sum(bucket.images for bucket in plan.buckets),
        buckets=len(plan.buckets),
        largest_bucket_px=shown,
        batches_per_epoch=plan.batches_per_epoch,
        steps_per_epoch=plan.steps_per_epoch,
        epochs=plan.epochs,
        steps=plan.steps,
        samples=plan.samples,
        checkpoints=plan.checkpoints,
        device=device,
        on_gpu=on_gpu,
        time=_time(preset, plan, conditions, basis) if conditions and basis else TimeForecast("unknown"),
        memory_bytes=memory_bytes,
        memory_certainty=memory_certainty,
        memory_correction=correction,
        card_bytes=card.memory_bytes if card and on_gpu else 0,
        card_free_bytes=card.free_bytes if card and on_gpu else 0,
        disk=plan.rooms,
        fault=table.fault,
    )


def nearest(rows: Sequence[Measured], conditions: Conditions) -> Measured | None:
    """The row that tells most about these conditions, the latest of equals; None where none tells anything."""
    found: tuple[float, Measured] | None = None
    for row in rows:
        unlike = unlikeness(row.conditions, _on_device_of(conditions, row))
        if math.isfinite(unlike) and (found is None or unlike <= found[0]):
            found = unlike, row
    return found[1] if found else None


def _on_device_of(conditions: Conditions, row: Measured) -> Conditions:
    """A card whose name is not known without torch is taken for the one that was measured."""
    unnamed = conditions.on_gpu and not conditions.device
    return dataclasses.replace(conditions, device=row.conditions.device) if unnamed else conditions


def _is_exact(row: Measured, conditions: Conditions) -> bool:
    return row.conditions == _on_device_of(conditions, row)


def _time(preset: Preset, plan: Plan, conditions: Conditions, basis: Measured) -> TimeForecast:
    exact = _is_exact(basis, conditions)
    batch = images_at_once(preset) * preset.run.accumulation
    epoch_seconds, known = 0.0, 0
    for bucket in plan.buckets:
        measured = basis.seconds_at(bucket.size_px) if exact else None
        known += bucket.images if measured is not None else 0
        an_image = image_tflop(conditions, bucket.size_px) * slowness(conditions) * basis.seconds_per_unit
        epoch_seconds += bucket.images * (measured / batch if measured is not None else an_image)
    step_seconds = epoch_seconds / plan.steps_per_epoch
    work = sum(prompt.steps * prompt.width_px * prompt.height_px / 2**20 for prompt in plan.prompts)
    sample_seconds = len(plan.sample_steps) * work * basis.sample_seconds
    return TimeForecast(
        certainty="measured" if 2 * known >= sum(bucket.images for bucket in plan.buckets) else "scaled",
        seconds=step_seconds * plan.steps + sample_seconds,
        step_seconds=step_seconds,
        sample_seconds=sample_seconds,
        basis=basis,
    )


def _memory(plan: Plan, conditions: Conditions | None, basis: Measured | None) -> tuple[int, Certainty, float]:
    """The most that the GPU holds: as measured, else the plan's estimate, corrected by how far a like run was off."""
    planned = plan.memory.total_bytes
    if conditions is None or not conditions.on_gpu or not planned:
        return 0, "unknown", 1.0
    if basis is None or not basis.planned_bytes or not basis.memory_bytes:
        return planned + CUDA_BYTES, "unknown", 1.0
    correction = min(max(basis.memory_bytes / basis.planned_bytes, 1 / MOST_CORRECTION), MOST_CORRECTION)
    if _is_exact(basis, conditions) and basis.planned_bytes == planned:
        return basis.memory_bytes + CUDA_BYTES, "measured", correction
    return round(planned * correction) + CUDA_BYTES, "scaled", correction
