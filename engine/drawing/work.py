"""All pictures of a preset, one batch after the other: drawn, shown on the way, saved and told of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image
from torch import Tensor

from engine.drawing.desk import pictures_folder
from engine.drawing.draw import draw_batch
from engine.drawing.plan import DrawingPlan, PlannedPicture, count_looks
from engine.drawing.preview import Previews
from engine.drawing.saving import day_folder, save_picture
from engine.drawing.settings import DrawingPreset
from engine.drawing.studio import Studio
from engine.preset import resolve


class CancelledError(Exception):
    """The drawing was asked to end."""


class Listener(Protocol):
    """Who is told of a drawing."""

    def stage(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def previewed(self, planned: PlannedPicture, step: int, picture: Image.Image) -> None: ...

    def is_cancelled(self) -> bool:
        """Whether to end; looked at between two steps."""
        ...


@dataclass(frozen=True)
class Done:
    """A picture that was saved."""

    planned: PlannedPicture
    path: Path
    seconds: float


def draw_all(plan: DrawingPlan, studio: Studio, listener: Listener, folder: Path | None = None) -> Iterator[Done]:
    """Draw and save; yields each picture as it is written. Without `folder` they go where the preset says.

    Raises CancelledError between two steps, and UserError kinds.
    """
    total = count_looks(plan.preset)
    for batch in plan.batches():
        begun_seconds = time.monotonic()
        look = _Look(plan, batch, listener, total)
        pictures = draw_batch(plan, batch, studio, look, look.say)
        seconds = (time.monotonic() - begun_seconds) / len(batch)
        for planned, picture in zip(batch, pictures, strict=True):
            place = folder or day_folder(_folder(plan.preset))
            yield Done(planned, save_picture(picture, place, plan, planned), seconds)


def _folder(preset: DrawingPreset) -> Path:
    return resolve(preset.picture.folder) if preset.picture.folder else pictures_folder()


class _Look:
    """Looks at a batch after each evaluation of the network: tells how far it is, shows previews, and may cancel."""

    def __init__(self, plan: DrawingPlan, batch: tuple[PlannedPicture, ...], listener: Listener, total: int) -> None:
        self.batch, self.listener, self.total, self.done = batch, listener, total, 0
        self.every, decoder = plan.preset.preview.every_steps, plan.preset.preview.decoder
        self.previews = Previews(resolve(decoder) if decoder and self.every else None)

    def say(self, stage: str) -> None:
        """A stage begins."""
        if self.listener.is_cancelled():
            raise CancelledError
        self.listener.stage(stage)

    def __call__(self, step: int, latents: Tensor, tends_to: Tensor) -> None:
        self.done += 1
        self.listener.progress(self.done, self.total)
        if self.listener.is_cancelled():
            raise CancelledError
        if self.every and self.done % self.every == 0 and self.done < self.total:
            if self.previews.decoder is not None:
                self.previews.decoder.to(latents.device)
            for planned, picture in zip(self.batch, self.previews.pictures(tends_to), strict=True):
                self.listener.previewed(planned, self.done, picture)
