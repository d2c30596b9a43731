"""What runs on this machine took, in one small table: `measured.json` in Atelier's own folder. Torch-free.

Each row is a run (or a measurement of three steps) under its conditions; a later one under the same conditions takes
its place. The table is written whole or not at all. One that cannot be read is told of and left out of account.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from filelock import FileLock, Timeout

from engine import event_log, events
from engine.atomic import write_text_whole
from engine.cards import processor
from engine.data import order
from engine.errors import UserError
from engine.home import home
from engine.pace import Conditions, conditions_of, image_tflop, slowness
from engine.plan_model import look_at_model
from engine.preset import Preset
from engine.run import RunFolder

FORMAT = 1
MOST_ROWS = 200
LATEST_STEPS = 400  # of a run's end; what came before is as long
FIRST_STEPS = 2  # left out: in them memory is taken and kernels are chosen
LEAST_STEPS = 3
_MOST_SIZES = 12
_LOCK_SECONDS = 5.0

Size = tuple[int, int]


@dataclass(frozen=True)
class Measured:
    """One row. seconds_per_unit: for a TFLOP of `image_tflop` × `slowness`; sizes: (width, height, seconds a step) of
    steps that showed one bucket only, in whole batches; sample_seconds: of a picture, for each of its steps and
    megapixels, 0 where none was drawn. memory_bytes: the most that was taken; planned_bytes: what the plan forecast.
    """

    conditions: Conditions
    time: str
    steps: int
    seconds_per_unit: float
    sizes: tuple[tuple[int, int, float], ...] = ()
    sample_seconds: float = 0.0
    memory_bytes: int = 0
    planned_bytes: int = 0

    def seconds_at(self, size_px: Size) -> float | None:
        """Seconds of a step of whole batches of this bucket; None where it was not measured."""
        return next((seconds for width, height, seconds in self.sizes if (width, height) == tuple(size_px)), None)


@dataclass(frozen=True)
class Table:
    """All rows, the latest last, and what is wrong with the file (a sentence, or "")."""

    rows: tuple[Measured, ...] = ()
    fault: str = ""


def table_path() -> Path:
    return home() / "measured.json"


def read_table() -> Table:
    """The table; rows that cannot be understood are left out. Never raises for what the file holds."""
    path = table_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["v"] > FORMAT:
            return Table(fault=f"{path} was written by a newer Atelier, so forecasts of time go without it.")
        rows = [_row(item) for item in content["rows"]]
    except FileNotFoundError:
        return Table()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{path} cannot be read ({type(error).__name__}), so forecasts of time go without it."
        return Table(fault=f"{what} The next run begins a new one; delete it to be rid of this note.")
    return Table(tuple(row for row in rows if row is not None))


def note(row: Measured) -> None:
    """Put a row into the table. Raises UserError where that cannot be written."""
    path = table_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".json.lock"), timeout=_LOCK_SECONDS):
            table = read_table()
            if "newer Atelier" in table.fault:
                raise UserError("belongs to a newer Atelier and is left as it is. Update Atelier.", str(path))
            if table.fault:
                path.replace(path.with_suffix(".broken.json"))
            kept = [old for old in table.rows if old.conditions != row.conditions]
            drawn = [old.sample_seconds for old in table.rows if old.conditions == row.conditions]
            if drawn and not row.sample_seconds:  # this one drew no samples
                row = dataclasses.replace(row, sample_seconds=drawn[-1])
            rows = [json.dumps(dataclasses.asdict(each), ensure_ascii=False) for each in (*kept, row)[-MOST_ROWS:]]
            write_text_whole(path, f'{{"v": {FORMAT}, "rows": [\n' + ",\n".join(rows) + "\n]}\n")
    except Timeout:
        raise UserError("is held by another process, so nothing was noted. Try again.", str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}). Check the folder's rights.", str(path)) from None


def note_run(folder: RunFolder, preset: Preset) -> Measured | None:
    """Put what a run measured into the table; None where it made too few steps. Raises UserError."""
    entries, _ = event_log.read(folder.events)
    try:
        plan = json.loads(folder.plan.read_text(encoding="utf-8"))
        row = measure_events(preset, plan, entries)
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"what was measured cannot be told ({type(error).__name__})."
        raise UserError(what, str(folder.plan)) from None
    if row is not None:
        note(row)
    return row


def measure_events(preset: Preset, plan: Mapping[str, Any], entries: Sequence[event_log.Entry]) -> Measured | None:
    """What the last process of a run measured, from its plan (as JSON) and its events."""
    starts = [place for place, entry in enumerate(entries) if isinstance(entry.event, events.Started)]
    model = look_at_model(preset, [])
    if not starts or model is None:
        return None
    told = [entry.event for entry in entries[starts[-1] :]]
    started = told[0]
    steps = [event for event in told if isinstance(event, events.Step)][FIRST_STEPS:][-LATEST_STEPS:]
    if len(steps) < LEAST_STEPS or not isinstance(started, events.Started):
        return None
    on_gpu = not started.device.startswith("CPU")
    conditions = conditions_of(preset, model, started.device if on_gpu else processor(), on_gpu)
    shown = _sizes_of_steps(preset, plan, steps)
    units = [sum(image_tflop(conditions, size) for size in sizes) * slowness(conditions) for sizes in shown]
    paces = [step.seconds_per_step / unit for step, unit in zip(steps, units, strict=True) if unit]
    return Measured(
        conditions=conditions,
        time=entries[-1].time,
        steps=len(steps),
        seconds_per_unit=median(paces),
        sizes=_seconds_by_size(preset, steps, shown),
        sample_seconds=_sample_seconds(plan, told),
        memory_bytes=max(step.memory_bytes for step in steps),
        planned_bytes=int(plan["memory"]["total_bytes"]),
    )


def _sizes_of_steps(preset: Preset, plan: Mapping[str, Any], steps: Sequence[events.Step]) -> list[list[Size]]:
    """The buckets of the pictures that each step showed, from the plan and the seed alone."""
    buckets: list[Size] = [(int(item["bucket_px"][0]), int(item["bucket_px"][1])) for item in plan["images"]]
    repeats = [int(item["repeats"]) for item in plan["images"]]
    entries = [order.Entry(bucket, times) for bucket, times in zip(buckets, repeats, strict=True)]
    per_epoch, run = int(plan["steps_per_epoch"]), preset.run
    epochs: dict[int, list[tuple[order.Batch, ...]]] = {}
    found = []
    for step in steps:
        epoch, place = divmod(step.step - 1, per_epoch)
        if epoch not in epochs:
            epochs[epoch] = order.epoch_steps(entries, run.batch_size * run.gpus, run.accumulation, run.seed, epoch)
        found.append([buckets[index] for batch in epochs[epoch][place] for index in batch])
    return found


def _seconds_by_size(
    preset: Preset, steps: Sequence[events.Step], shown: Sequence[Sequence[Size]]
) -> tuple[tuple[int, int, float], ...]:
    run = preset.run
    whole = run.batch_size * run.gpus * run.accumulation
    seconds: dict[Size, list[float]] = defaultdict(list)
    for step, sizes in zip(steps, shown, strict=True):
        if len(sizes) == whole and len(set(sizes)) == 1:
            seconds[sizes[0]].append(step.seconds_per_step)
    most = sorted(seconds, key=lambda size: -len(seconds[size]))[:_MOST_SIZES]
    return tuple((width, height, median(seconds[width, height])) for width, height in most)


def _sample_seconds(plan: Mapping[str, Any], told: Sequence[events.Event]) -> float:
    """Seconds of a sample picture, for each of its steps and megapixels (of 2²⁰)."""
    work = [item["steps"] * item["width_px"] * item["height_px"] / 2**20 for item in plan["prompts"]]
    drawn = [event for event in told if isinstance(event, events.Sampled) and event.index < len(work)]
    return median(event.seconds / work[event.index] for event in drawn) if drawn else 0.0


def _row(content: Mapping[str, Any]) -> Measured | None:
    """A row of the file; None where it is of another form."""
    try:
        conditions = dict(content["conditions"])
        conditions["parts"] = tuple(conditions["parts"])
        if any(type(conditions[field.name]).__name__ != _plain(field.type) for field in dataclasses.fields(Conditions)):
            return None
        sizes = tuple((int(width), int(height), float(seconds)) for width, height, seconds in content["sizes"])
        row = Measured(**{**content, "conditions": Conditions(**conditions), "sizes": sizes})
        numbers = (row.seconds_per_unit, row.sample_seconds, row.memory_bytes, row.planned_bytes, row.steps)
        is_sound = all(isinstance(number, (int, float)) and 0 <= number < 1e18 for number in numbers)
        return row if is_sound and row.seconds_per_unit > 0 and isinstance(row.time, str) else None
    except (TypeError, ValueError, KeyError):
        return None


def _plain(annotation: Any) -> str:
    """The name of a field's type: "tuple" for tuple[str, ...]."""
    return str(annotation).partition("[")[0]
