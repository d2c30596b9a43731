"""A tool at work on a job: its report goes to the job folder and the terminal, its faults become sentences."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from engine import event_log, events
from engine.errors import Problem, UserError
from engine.report import time_text
from engine.tools import jobs
from engine.tools.jobs import Done, JobFolder
from engine.tools.journal import Journal
from engine.tools.tool import Outcome, Program, Row, ToolModule, make_settings

_PROGRESS_SECONDS = 0.2
_TELL_SECONDS = 10.0  # on the terminal


class JobReport:
    """The `Report` of a job (see engine/tools/tool.py)."""

    def __init__(self, job: JobFolder, program: str = jobs.FIRST_PROGRAM) -> None:
        self.job, self.program = job, program
        self.journal = Journal(job.journal)
        self.outcomes: Counter[str] = Counter()
        self.defects: list[str] = []
        self.stopped = False
        self._log = event_log.EventLog(job.events)
        self._table = job.table.open("ab", buffering=0)
        self._stage, self._total, self._last_seconds = "", 0, 0.0
        self._first: tuple[int, float] | None = None
        self._told_seconds = time.monotonic()

    @property
    def folder(self) -> Path:
        return self.job.path

    @property
    def count(self) -> int:
        return sum(self.outcomes.values())

    def total(self, count: int) -> None:
        self._total = count

    def done(self, row: Row, outcome: Outcome = "done", note: str = "") -> None:
        row = replace(row, note=note) if note else row
        self.outcomes[outcome] += 1
        self._table.write(jobs.table_line(Done(row, outcome)))
        if outcome == "failed":
            complain([Problem(row.source, row.note)])
        self.progress(self.count, max(self._total, self.count))

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._first is None:  # what was done before the stage's own work tells nothing of its speed
            self._first = (done, now)
        if done < total and now - self._last_seconds < _PROGRESS_SECONDS:
            return
        self._last_seconds = now
        count, seconds = done - self._first[0], now - self._first[1]
        rate = count / seconds if count and seconds else 0.0
        left = (total - done) / rate if rate else None
        self._log.emit(events.Progress(self._stage, done, total, rate, left))
        if now - self._told_seconds >= _TELL_SECONDS:
            self._told_seconds = now
            print(f"{done:,} of {total:,}" + (f", {time_text(left)} left" if left else ""), flush=True)

    def warn(self, message: str, where: str = "") -> None:
        self._log.emit(events.Warned(shown(message), shown(where)))
        complain([Problem(where, message)], "Warning: ")

    def stage(self, name: str) -> None:
        self._stage, self._first = name, (self.count, time.monotonic())
        self._log.emit(events.Stage(name))
        print(f"{name} …", flush=True)

    def defect(self, details: str) -> None:
        self.defects.append(details)
        print(details, file=sys.stderr, flush=True)

    def is_stop_asked(self) -> bool:
        self.stopped = self.stopped or self.job.stop_request.exists()
        return self.stopped

    def started(self, count: int) -> None:
        """Tell that the work on so many rows begins, perhaps not for the first time."""
        self._log.emit(events.Started(self.job.name, count, 0, 0, 0, os.getpid(), ""))

    def finish(self, seconds: float) -> int:
        """Tell how it ended; returns the exit code."""
        told = ", ".join(f"{self.outcomes[name]} {name}" for name in ("done", "kept", "failed"))
        if self.stopped:
            self._log.emit(events.Stopped(self.count))
            print("Stopped. What was done before is whole.")
        else:
            self._log.emit(events.Finished(self.count, "", seconds, told))
        print(f"{told}   ({time_text(seconds)})")
        if self.journal.entries:
            print(shown(f"To undo: python -m {self.program} undo {self.job.path}"))
        return 1 if self.defects else UserError.exit_code if self.outcomes["failed"] else 0

    def fail(self, message: str, code: int, problems: tuple[Problem, ...] = (), details: str = "") -> int:
        """Tell a fault that ended the job; returns the exit code."""
        listed = [{"where": shown(problem.where), "message": shown(problem.message)} for problem in problems]
        self._log.emit(events.Failed(shown(message), code, shown(details), listed))
        print(shown(details or message), file=sys.stderr, flush=True)
        return code

    def close(self) -> None:
        """Close the table; a journal that nothing was noted in goes."""
        self._table.close()
        if not self.journal.entries:
            self.journal.path.unlink(missing_ok=True)


def work(job: JobFolder, program: Program) -> int:
    """Carry out a job; returns the exit code. Raises UserError where the folder holds none or it was done before."""
    content = job.load()
    if content.program != program.name:
        raise UserError(f"is a job of another program. Run it with: python -m {content.program}", str(job.path))
    if content.tool not in program.tools:
        raise UserError(f"there is no such tool (got {content.tool}). Update Atelier.", str(job.job))
    tool = program.tools[content.tool]
    with jobs.held(job):
        if job.events.exists():
            if not getattr(tool, "RESUMES", False):
                raise UserError("this job was begun before. Start a new one.", str(job.path))
            content = replace(content, looked_at="")  # what was seen then is begun already
            job.stop_request.unlink(missing_ok=True)
        report = JobReport(job, program.name)
        try:
            with _signals(report):
                return _work(tool, content, report)
        finally:
            report.close()


def _work(tool: ToolModule, content: jobs.Job, report: JobReport) -> int:
    start = time.monotonic()
    try:
        report.stage("Looking")
        settings = make_settings(content.tool, tool.Settings, content.values)
        proposal = tool.propose(settings)
        for warning in proposal.warnings:
            report.warn(warning.message, warning.where)
        if proposal.problems:
            return report.fail("\n".join(map(str, proposal.problems)), UserError.exit_code, proposal.problems)
        if content.looked_at not in ("", proposal.digest()):
            raise UserError("the folder changed since the table was shown, so nothing was done. Look again.")
        report.total(len(proposal.rows))
        if getattr(tool, "RESUMES", False):
            report.started(len(proposal.rows))
        report.stage(tool.TITLE)
        tool.carry_out(proposal, settings, report)
    except UserError as error:
        return report.fail("\n".join(map(str, error.problems)), error.exit_code, error.problems)
    except KeyboardInterrupt:
        report.stopped = True
    except Exception as error:  # a defect: told with its traceback, the journal keeps what was done
        return report.fail(f"{type(error).__name__}: {error}", 1, details=traceback.format_exc())
    return report.finish(time.monotonic() - start)


@contextmanager
def _signals(report: JobReport) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work between two files; a second Ctrl-C at once."""

    def note(number: int, frame: FrameType | None) -> None:
        if report.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        report.stopped = True

    try:
        old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, as in tests of a page
        old = {}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


def complain(problems: list[Problem] | tuple[Problem, ...], prefix: str = "") -> None:
    """Each problem as a line on stderr."""
    for problem in problems:
        print(shown(f"{prefix}{problem}"), file=sys.stderr, flush=True)


def shown(text: str) -> str:
    """Names that are no text, as file systems may hold them, can be printed too."""
    return os.fsencode(text).decode("utf-8", errors="backslashreplace")
