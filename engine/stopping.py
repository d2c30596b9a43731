"""How a run is asked to end: the request file, SIGTERM, or Ctrl-C. It then saves and can be resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from engine.report import Reporter


class StopAsked(Exception):  # noqa: N818 - not a fault
    """The run was asked to end while nothing was trained yet."""


class Stopping:
    """Turns signals into a flag that is looked at between steps. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self.process_id = os.getpid()

    def listen(self) -> None:
        """Take over SIGTERM and SIGINT of this process."""
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def tell(self, report: Reporter) -> Callable[[int, int], None]:
        """A callback for long stages: tells how far they are, and raises StopAsked when the run is to end."""

        def told(done: int, total: int) -> None:
            report.progress(done, total)
            if self.asked or report.is_asked_for("stop"):
                self.asked = True
                raise StopAsked

        return told
