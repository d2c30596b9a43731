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
from captioning.wording import Wording
from engine.data.images import open_small
from engine.errors import UserError
from engine.tools.tool import Report, Row

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
        """Write every caption. A stop that is asked for ends it between two batches.

        Rows are written and told by one thread of their own, so that the model need not wait for the disk either.
        """
        pool, writer = ThreadPoolExecutor(_DECODERS), ThreadPoolExecutor(1)
        decoded = _decoded(items, self._prepared, pool, self.batch * _AHEAD)
        told: deque[Future[None]] = deque()
        try:
            while not self.report.is_stop_asked() and (batch := list(islice(decoded, self.batch))):
                told.append(writer.submit(self._tell, self._caption(batch)))
                if len(told) > _AHEAD:
                    told.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            writer.shutdown()
        for batch_told in told:
            batch_told.result()

    def _prepared(self, path: Path) -> Any:
        """What the model needs of an image, which is not decoded finer than the model can see."""
        return self.captioner.prepare(open_small(path, 2 * self.captioner.side_px)[0])

    def _caption(self, batch: Sequence[tuple[Item, Future[Any]]]) -> list[tuple[Item, str | Exception]]:
        """For each item of the batch its caption, or what went wrong."""
        said: dict[Item, str | Exception] = {}
        ready: list[tuple[Item, Any]] = []
        for item, future in batch:
            try:
                ready.append((item, future.result()))
            except Exception as error:  # a broken file, or whatever a model's own preparation does with it
                said[item] = error
        said |= self._texts(ready)
        return [(item, said[item]) for item, _ in batch]

    def _texts(self, ready: Sequence[tuple[Item, Any]]) -> dict[Item, str | Exception]:
        """Captions of prepared images; a batch that fails is taken image by image."""
        if not ready:
            return {}
        try:
            texts = self.captioner.caption([image for _, image in ready])
            if len(texts) != len(ready):
                raise ValueError(f"{len(texts)} captions for {len(ready)} images")
            return {item: text for (item, _), text in zip(ready, texts, strict=True)}
        except Exception as error:  # whatever a model does with one image, the others get their captions
            if len(ready) == 1:
                return {ready[0][0]: CaptionerFailed(error)}
            return {item: said for pair in ready for item, said in self._texts([pair]).items()}

    def _tell(self, batch: Sequence[tuple[Item, str | Exception]]) -> None:
        for item, said in batch:
            if isinstance(said, Exception):
                self._failed(item, said)
            else:
                self._write(item, " ".join(said.split()))

    def _write(self, item: Item, text: str) -> None:
        try:
            if not text:
                raise UserError("the captioner found nothing to say, so nothing was written. Lower its threshold.")
            if self.write is not None:
                self.write(item, text)
                return
            written = write_caption(item, text, self.wording, self.report.journal)
        except UserError as error:
            self._failed(item, error)
            return
        self.report.done(_row(item), "done" if written else "kept", text if written else "")

    def _failed(self, item: Item, error: Exception) -> None:
        cause = error.error if isinstance(error, CaptionerFailed) else error
        message = (
            error.problems[0].message if isinstance(error, UserError) else f"the captioner failed ({_reason(cause)})."
        )
        self.report.done(_row(item), "failed", message)
        if not isinstance(cause, UserError):
            self.report.defect("".join(traceback.format_exception(cause)))


class CaptionerFailed(Exception):  # noqa: N818
    """The model failed on one image, with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


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
