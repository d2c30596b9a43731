"""The failures of training that are known: how each is recognised, its cause in a sentence, and what to do.

A new one is one entry in one of the tables: hardware.py, installed.py, files.py, learning.py, ended.py. The order
counts: the first that matches is told.
"""

from __future__ import annotations

from engine.failures.ended import ENDED, UNKNOWN
from engine.failures.files import FILES
from engine.failures.hardware import HARDWARE
from engine.failures.installed import INSTALLED
from engine.failures.kinds import Facts, Failure, Kind, failure_of
from engine.failures.learning import LEARNING

CATALOGUE: dict[str, Kind] = {**HARDWARE, **INSTALLED, **FILES, **LEARNING, **ENDED, **UNKNOWN}


def diagnose(facts: Facts) -> Failure | None:
    """Why a failed, killed or never begun run ended; None for others, and for one that has left no trace."""
    if facts.how not in ("failed", "killed", "new"):
        return None
    found = (item for item in CATALOGUE.items() if item[1].ends_run and item[1].matches(facts))
    name, kind = next(found, ("", None))
    return failure_of(name, kind, facts) if kind else None


def notices(facts: Facts) -> list[Failure]:
    """What goes wrong in a run without ending it."""
    found = [item for item in CATALOGUE.items() if not item[1].ends_run and item[1].matches(facts)]
    return [failure_of(name, kind, facts) for name, kind in found]


__all__ = ["CATALOGUE", "Facts", "Failure", "Kind", "diagnose", "notices"]
