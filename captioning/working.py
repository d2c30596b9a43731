"""A captioning tool at work on a job, in this process."""

from __future__ import annotations

from captioning.tools import PROGRAM
from engine.tools import working
from engine.tools.jobs import JobFolder


def work(job: JobFolder) -> int:
    """Carry out a job; returns the exit code. Raises UserError as `engine.tools.working.work`."""
    return working.work(job, PROGRAM)
