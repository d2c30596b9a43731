"""The process that draws: one request after the other, the weights staying loaded between them.

It ends when nobody asks for long, when it is asked to leave (a training starts, which needs the GPU), and on Ctrl-C.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from engine import event_log, events
from engine.atomic import remove_leftovers, whole_file
from engine.drawing.desk import Desk
from engine.drawing.plan import PlannedPicture, plan_drawing
from engine.drawing.room import training_now
from engine.drawing.settings import DrawingPreset
from engine.errors import UserError
from engine.locks import locked

IDLE_SECONDS = 15 * 60
LOOK_SECONDS = 0.2
_PREVIEW_SIDE_PX = 768
_BUSY = "another process draws for this folder. It takes the next request, too."


def serve(desk: Desk, idle_seconds: float = IDLE_SECONDS) -> None:
    """Work off the requests of a desk until nobody has asked for so long. Raises UserError where another one does."""
    desk.requests.mkdir(parents=True, exist_ok=True)
    with locked(desk.lock, 2, "the drawing folder", _BUSY):
        desk.forget()
        server = _Server(desk)
        try:
            server.run(idle_seconds)
        finally:
            server.close()
            desk.forget()


class _Server:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.log = event_log.EventLog(desk.events)
        self.studio: Any = None  # made with the first request: torch takes seconds to load

    def run(self, idle_seconds: float) -> None:
        last_seconds = time.monotonic()
        while not self.desk.is_asked_to_leave() and time.monotonic() - last_seconds < idle_seconds:
            waiting = self.desk.waiting()
            if not waiting:
                self.desk.forget("stop")
                time.sleep(LOOK_SECONDS)
                continue
            self.desk.forget("stop")
            self._answer(waiting[0])
            last_seconds = time.monotonic()

    def close(self) -> None:
        """Let the weights go."""
        if self.studio is not None:
            self.studio.close()

    def _answer(self, request: str) -> None:
        """Draw one request and say what became of it; asked to leave, the request stays for another process."""
        begun_seconds, told = time.monotonic(), _Told(self.desk, self.log, request)
        outcome, message, problems = "drawn", "", list[dict[str, str]]()
        try:
            self._draw(request, told)
        except UserError as error:
            outcome, message = "failed", str(error)
            problems = [asdict(problem) for problem in error.problems]
        except _cancelled():
            if self.desk.is_asked_to_leave():
                return
            outcome = "cancelled"
        except Exception as error:  # a defect of one request must not end the process that others wait for
            outcome, message = "failed", _sentence(error)
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            self.close()
        told.clear_previews()
        seconds = time.monotonic() - begun_seconds
        self.log.emit(events.Answered(request, outcome, told.pictures, seconds, message, problems))
        self.desk.remove(request)
        self.desk.forget("stop")

    def _draw(self, request: str, told: _Told) -> None:
        from engine.drawing.studio import Studio
        from engine.drawing.work import draw_all

        preset = self.desk.preset_of(request)
        self.studio = self.studio or Studio()
        told.stage("Looking at the files")
        refuse_beside_training(preset)
        for done in draw_all(plan_drawing(preset), self.studio, told):
            told.drawn(done.planned, done.path, done.seconds)


class _Told:
    """Tells of a request by events and previews."""

    def __init__(self, desk: Desk, log: event_log.EventLog, request: str) -> None:
        self.desk, self.log, self.request = desk, log, request
        self.pictures, self._stage, self._last_seconds = 0, "", 0.0

    def stage(self, name: str) -> None:
        self._stage = name
        self.log.emit(events.Stage(name))

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last_seconds >= 0.1:
            self._last_seconds = now
            self.log.emit(events.Progress(self._stage, done, total))

    def previewed(self, planned: PlannedPicture, step: int, picture: Image.Image) -> None:
        path = self.desk.previews / f"{self.request}-{planned.index}.webp"
        picture.thumbnail((_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX))
        with whole_file(path) as part:
            picture.save(part, format="WEBP", quality=80, method=0)
        relative = path.relative_to(self.desk.path).as_posix()
        self.log.emit(events.Previewed(self.request, planned.index, step, relative))

    def drawn(self, planned: PlannedPicture, path: Path, seconds: float) -> None:
        self.pictures += 1
        self.log.emit(events.Drawn(self.request, planned.index, str(path.resolve()), planned.seed, seconds))

    def is_cancelled(self) -> bool:
        return self.desk.is_asked_to_stop()

    def clear_previews(self) -> None:
        """The previews of this request, and what a killed writer left."""
        if self.desk.previews.is_dir():
            for path in self.desk.previews.glob(f"{self.request}-*.webp"):
                path.unlink(missing_ok=True)
            remove_leftovers(self.desk.previews)


def refuse_beside_training(preset: DrawingPreset) -> None:
    """Raise UserError where the GPU is a training's: a picture that takes its memory would end it."""
    import torch

    on_gpu = preset.model.device != "cpu" and torch.cuda.is_available()
    name = training_now() if on_gpu else ""
    if name:
        what = f"the GPU is training {name}, which pictures could end for lack of memory."
        raise UserError(f"{what} Wait for it, or set the device to cpu.", "model.device")


def _cancelled() -> type[Exception]:
    from engine.drawing.work import CancelledError

    return CancelledError


def _sentence(error: Exception) -> str:
    from engine.memory import is_out_of_memory

    if is_out_of_memory(error):
        return OUT_OF_MEMORY_ADVICE
    return f"{type(error).__name__}: {error}"


OUT_OF_MEMORY_ADVICE = (
    "memory did not suffice. What helps, the cheapest first: a batch size of 1; a smaller picture or a lower scale of "
    "hires fix; set model.unet_storage to int8; close other programs that use this memory."
)
