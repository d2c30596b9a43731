"""Caption images: they are decoded while the captioner works; no fault of one stops the rest."""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from captioning.caption_files import Item, write_caption
from captioning.protocol import Captioner
from captioning.tool import Report, Row
from captioning.wording import Wording
from engine.data.images import open_upright
from engine.errors import UserError

_DECODERS = max(2, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2))
_AHEAD = 2  # batches that are being decoded or wait, decoded


@dataclass
class Captioning:
    """Captions for images, told row by row in the report. `write` takes the place of writing the caption file."""

    captioner: Captioner
    wording: Wording
    batch: int
    report: Report
    write: Callable[[Item, str], None] | None = None

    def run(self, items: Sequence[Item]) -> None:
        """Write every caption. A stop that is asked for ends it between two batches."""
        pool = ThreadPoolExecutor(_DECODERS)
        decoded = _decoded(items, lambda path: self.captioner.prepare(open_upright(path)), pool, self.batch * _AHEAD)
        try:
            while not self.report.is_stop_asked() and (batch := list(islice(decoded, self.batch))):
                self._caption(batch)
        finally:
            pool.shutdown(cancel_futures=True)

    def _caption(self, batch: Sequence[tuple[Item, Future[Any]]]) -> None:
        items, images = [], []
        for item, future in batch:
            try:
                images.append(future.result())
                items.append(item)
            except UserError as error:
                self._failed(item, error.problems[0].message)
            except Exception as error:  # whatever a model's own preparation does with one image
                self._broke(item, error)
        for item, text in zip(items, self._texts(items, images), strict=True):
            if text is not None:
                self._write(item, " ".join(text.split()))

    def _texts(self, items: Sequence[Item], images: Sequence[Any]) -> list[str | None]:
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
                return [text for item, image in pairs for text in self._texts([item], [image])]
            self._broke(items[0], error)
            return [None]

    def _write(self, item: Item, text: str) -> None:
        if not text:
            what = "the captioner found nothing to say, so nothing was written. Lower its threshold."
            self._failed(item, what)
            return
        if self.write is not None:
            self.write(item, text)
            return
        try:
            written = write_caption(item, text, self.wording, self.report.journal)
        except UserError as error:
            self._failed(item, error.problems[0].message)
            return
        self.report.done(_row(item), "done" if written else "kept", text if written else "")

    def _broke(self, item: Item, error: Exception) -> None:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        self._failed(item, f"the captioner failed ({reason}).")
        if not isinstance(error, UserError):
            self.report.defect("".join(traceback.format_exception(error)))

    def _failed(self, item: Item, message: str) -> None:
        self.report.done(_row(item), "failed", message)


def _row(item: Item) -> Row:
    return Row(str(item.image), "caption", str(item.caption))


def _decoded(
    items: Sequence[Item], decode: Callable[[Path], Any], pool: Executor, ahead: int
) -> Iterator[tuple[Item, Future[Any]]]:
    """The items in order with their images, of which up to `ahead` are decoded beforehand."""
    waiting: deque[tuple[Item, Future[Any]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(decode, item.image)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
