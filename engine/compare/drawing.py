"""The pictures of a comparison: drawn one after the other, found again by content where they are there already."""

from __future__ import annotations

import secrets
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.atomic import remove_leftovers, write_text_whole
from engine.compare.cells import Cell, Digests, Place, content_key
from engine.compare.estimate import Speed, conditions, effort, note_speed
from engine.drawing.draw import draw_batch
from engine.drawing.plan import SEEDS, DrawingPlan, plan_drawing
from engine.drawing.room import make_room
from engine.drawing.saving import write_picture
from engine.drawing.server import OUT_OF_MEMORY_ADVICE, refuse_beside_training
from engine.drawing.settings import DrawingPreset
from engine.drawing.studio import Studio
from engine.drawing.work import CancelledError
from engine.errors import UserError
from engine.memory import is_out_of_memory
from engine.tools.tool import Report

PICTURES = "pictures"
"""The folder of the pictures in a job's folder."""
_SEED_FILE = "seed"


@dataclass(frozen=True)
class Shown:
    """What became of a cell: its picture, or why there is none."""

    path: Path | None
    fault: str = ""


class EndError(UserError):
    """What no other cell could be drawn after either: the GPU is a training's, the disk is full."""


def draw_cells(cells: Iterable[Cell], report: Report) -> dict[Place, Shown]:
    """Draw what is not there yet, into the job's folder; cells that were not reached are left out.

    A cell that fails is told and does not end the others. Raises UserError where nothing can be drawn at all.
    """
    work = _Work(report)
    found: dict[Place, Shown] = {}
    try:
        for cell in cells:
            if report.is_stop_asked():
                break
            shown = work.show(cell)
            if shown is None:
                break
            found[cell.place] = shown
    finally:
        work.close()
    return found


class _Work:
    def __init__(self, report: Report) -> None:
        self.report, self.folder = report, report.folder / PICTURES
        self.studio, self.digests = Studio(), Digests()
        self.measured: dict[str, tuple[DrawingPreset, list[Speed]]] = {}
        self._has_room, self._stage = False, ""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)

    def show(self, cell: Cell) -> Shown | None:
        """The cell's picture; None where the work was cancelled meanwhile. Raises EndError."""
        try:
            plan = plan_drawing(cell.preset.changed({"picture.seed": self._seed(cell.preset)}))
            key = content_key(plan, self.digests)
            known = next(self.folder.glob(f"*-{key}.png"), None)
            path = known or self._draw(cell, plan, key)
        except CancelledError:
            return None
        except EndError:
            raise
        except UserError as error:
            return self._failed(cell, str(error))
        except Exception as error:  # one cell's defect must not cost the others, which take hours
            if is_out_of_memory(error):
                self.studio.close()
                return self._failed(cell, OUT_OF_MEMORY_ADVICE)
            self.report.defect(traceback.format_exc())
            return self._failed(cell, f"{type(error).__name__}: {error}")
        self.report.done(cell.row(str(path)), "kept" if known else "done")
        return Shown(path)

    def _failed(self, cell: Cell, fault: str) -> Shown:
        self.report.done(cell.row(), "failed", fault)
        return Shown(None, fault)

    def _draw(self, cell: Cell, plan: DrawingPlan, key: str) -> Path:
        if not self._has_room:
            with _ending_all():
                refuse_beside_training(cell.preset)
            make_room()
            self._has_room = True
        begun_seconds = time.monotonic()

        def say(stage: str) -> None:
            nonlocal begun_seconds
            begun_seconds = time.monotonic()  # loading is no drawing
            if stage != self._stage:
                self._stage = stage
                self.report.stage(stage)
            self._look()

        picture = draw_batch(plan, plan.pictures, self.studio, lambda *seen: self._look(), say)[0]
        seconds = time.monotonic() - begun_seconds
        x, y, z = cell.place
        path = self.folder / f"x{x + 1:02d}-y{y + 1:02d}-z{z + 1:02d}-{key}.png"
        with _ending_all():
            write_picture(picture, path, plan, plan.pictures[0])
        speed = Speed(seconds / effort(cell.preset), path.stat().st_size / (picture.width * picture.height))
        self.measured.setdefault(conditions(cell.preset), (cell.preset, []))[1].append(speed)
        return path

    def _look(self) -> None:
        if self.report.is_stop_asked():
            raise CancelledError

    def _seed(self, preset: DrawingPreset) -> int:
        """The cell's seed; where none is set the one that this job drew once, for all cells."""
        if preset.picture.seed >= 0:
            return preset.picture.seed
        path = self.report.folder / _SEED_FILE
        if not path.exists():
            write_text_whole(path, str(secrets.randbelow(SEEDS)))
        return int(path.read_text(encoding="utf-8"))

    def close(self) -> None:
        """Let the weights go, and keep what was measured."""
        self.studio.close()
        for preset, speeds in self.measured.values():
            middle: Callable[[Iterable[float]], float] = statistics.median
            seconds, size = (one.seconds_per_effort for one in speeds), (one.bytes_per_pixel for one in speeds)
            try:
                note_speed(preset, Speed(middle(seconds), middle(size)))
            except UserError as error:
                self.report.warn(str(error))


@contextmanager
def _ending_all() -> Iterator[None]:
    """A user's fault in here is that of all cells."""
    try:
        yield
    except UserError as error:
        problem = error.problems[0]
        raise EndError(problem.message, problem.where) from error
