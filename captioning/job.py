"""Caption the images of a survey: they are decoded while the captioner works; no fault of one stops the rest."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PIL import Image

from captioning.caption_files import Existing, Item, Survey, write_caption
from captioning.journal import Journal
from captioning.protocol import Captioner
from engine.data.images import open_upright
from engine.errors import Problem, UserError

_DECODERS = 2
_AHEAD = 2  # batches that are being decoded or wait, decoded


@dataclass
class Outcome:
    """What became of every image. `defects` are tracebacks of faults that are not the user's."""

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """As the engine's: 1 defect, 2 something that the user can mend, 0 else."""
        return 1 if self.defects else UserError.exit_code if self.failed else 0


@dataclass
class Job:
    """Captions for the images of a survey. `tell` is called after every batch with the images done so far."""

    captioner: Captioner
    existing: Existing
    journal: Journal
    batch: int
    tell: Callable[[int], None]

    def run(self, found: Survey) -> Outcome:
        """Write every caption that the survey asks for. Ctrl-C ends it between two files."""
        outcome = Outcome(kept=[item.image for item in found.kept], failed=list(found.failed))
        done = 0
        pool = ThreadPoolExecutor(_DECODERS)
        decoded = _decoded(found.items, pool, self.batch * _AHEAD)
        try:
            while batch := list(islice(decoded, self.batch)):
                self._caption(batch, outcome)
                done += len(batch)
                self.tell(done)
        except KeyboardInterrupt:
            outcome.stopped = True
        finally:
            pool.shutdown(cancel_futures=True)
        return outcome

    def _caption(self, batch: Sequence[tuple[Item, Future[Image.Image]]], outcome: Outcome) -> None:
        items, images = [], []
        for item, future in batch:
            try:
                images.append(future.result())
                items.append(item)
            except UserError as error:
                outcome.failed += error.problems
        for item, text in zip(items, self._texts(items, images, outcome), strict=True):
            if text is not None:
                self._write(item, " ".join(text.split()), outcome)

    def _texts(self, items: Sequence[Item], images: Sequence[Image.Image], outcome: Outcome) -> list[str | None]:
        """A caption for each image; a batch that fails is taken image by image, and None stands for those that fail."""
        if not images:
            return []
        try:
            texts = self.captioner.caption(images)
            if len(texts) != len(images):
                raise ValueError(f"{len(texts)} captions for {len(images)} images")
            return list(texts)
        except Exception as error:  # whatever a model does with one image, the others get their captions
            if len(images) > 1:
                pairs = zip(items, images, strict=True)
                return [text for item, image in pairs for text in self._texts([item], [image], outcome)]
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            outcome.failed.append(Problem(str(items[0].image), f"the captioner failed ({reason})."))
            if not isinstance(error, UserError):
                outcome.defects.append(traceback.format_exc())
            return [None]

    def _write(self, item: Item, text: str, outcome: Outcome) -> None:
        if not text:
            what = "the captioner found nothing to say, so nothing was written. Lower its threshold."
            outcome.failed.append(Problem(str(item.image), what))
            return
        try:
            written = write_caption(item, text, self.existing, self.journal)
        except UserError as error:
            outcome.failed += error.problems
            return
        (outcome.written if written else outcome.kept).append(item.image)


def _decoded(items: Sequence[Item], pool: Executor, ahead: int) -> Iterator[tuple[Item, Future[Image.Image]]]:
    """The items in order with their images, of which up to `ahead` are decoded beforehand."""
    waiting: deque[tuple[Item, Future[Image.Image]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(open_upright, item.image)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
