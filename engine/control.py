"""What a run is asked for between its steps: to stop, save, sample, hold, or go on with other values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from engine import events
from engine.changes import Changes
from engine.errors import UserError
from engine.plan import Plan
from engine.processes import Processes
from engine.prompts import SamplePrompt
from engine.report import Reporter, time_text
from engine.run import CHANGE_REQUESTS, ChangeRequest
from engine.steplog import StepLog
from engine.stopping import Stopping

LOOK_SECONDS = 0.2  # between two looks while the run holds
Encode = Callable[[Sequence[SamplePrompt]], None]


class Control:
    """Looks at the requests of a run. Of several processes the first one looks and the others hear of it."""

    def __init__(
        self,
        changes: Changes,
        plan: Plan,
        log: StepLog,
        report: Reporter,
        those: tuple[Stopping, Processes],
        encode: Encode,
    ) -> None:
        """`encode` makes the text features of new sample prompts; it raises UserError where that cannot be."""
        self.changes = changes
        self.plan = plan
        self.log = log
        self.report = report
        self.stopping, self.processes = those
        self.encode = encode

    def look(self, step: int, timed: bool) -> tuple[bool, bool, bool, bool]:
        """Whether to stop, save and sample as asked, and `timed` of the first process; the same in every process.

        Holds here while the run is paused. A change that was asked for is in force when this returns.
        """
        ask = self.report.is_asked_for
        stop, save, sample, pause, changed, timed = self.processes.any_of(
            self._is_stop_asked(step), ask("save"), ask("sample"), ask("pause"), self._is_change_asked(), timed
        )
        if pause and not stop:
            self._hold(step)
            stop, changed = self.processes.any_of(self._is_stop_asked(step), self._is_change_asked())
        if changed and not stop:
            self._change(step)
        return stop, save, sample, timed

    def _is_stop_asked(self, step: int) -> bool:
        ends_epoch = step % self.plan.steps_per_epoch == 0
        ask = self.report.is_asked_for
        return self.stopping.asked or ask("stop") or (ends_epoch and ask("stop_after_epoch"))

    def _is_change_asked(self) -> bool:
        run = self.report.run
        return self.processes.is_first and any(run.is_requested(what) for what in CHANGE_REQUESTS)

    def _hold(self, step: int) -> None:
        """Do nothing until the run shall go on or stop. Everything stays in memory as it is."""
        self.log.read()
        begun_seconds = time.monotonic()
        self.report.emit(events.Paused(step))
        self.report.say(f"Paused after step {step}")
        while not any(self.processes.any_of(self.stopping.asked or self._is_released())):
            time.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - begun_seconds
        self.report.is_asked_for("continue")
        self.report.emit(events.Continued(step, seconds))
        self.report.say(f"Going on after a pause of {time_text(seconds)}")
        self.log.restart_clock()

    def _is_released(self) -> bool:
        run = self.report.run
        return self.processes.is_first and (run.is_requested("continue") or run.is_requested("stop"))

    def _change(self, step: int) -> None:
        if self.processes.is_first:
            self.log.read()
            for what in CHANGE_REQUESTS:
                self._take(what, step)
            self.log.restart_clock()
        self.changes.entries = self.processes.tell(self.changes.entries)

    def _take(self, what: ChangeRequest, step: int) -> None:
        """Put one change into force, or tell why not; training goes on either way."""
        content = self.report.run.take_content(what)
        if content is None:
            return
        try:
            change = self.changes.asked(what, content, step)
            if what == "prompts":
                self.encode(self.changes.read(str(change.value)))
            self.changes.record(change)
        except UserError as error:
            self.report.warn(f"nothing was changed: {error} Training goes on as before.")
            return
        self.report.emit(events.Changed(step, change.what, change.value, change.before))
        self.report.say(f"Changed from step {step} on: {_words(what, change.value)}")


def _words(what: ChangeRequest, value: float | str) -> str:
    if what == "rate_factor":
        return f"learning rates times {value:g}"
    lines = sum(bool(line.strip()) for line in str(value).splitlines())
    return f"{lines} lines of sample prompts"
