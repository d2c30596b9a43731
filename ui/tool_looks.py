"""Dry runs of the tools: made beside the page, so that a large folder never blocks it, and kept until they are used."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from engine.errors import Problem, UserError
from engine.tools.tool import Proposal
from ui.tool_table import TOOLS

_MOST_KEPT = 24
_pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="look")
_numbers = itertools.count(1)
_kept: OrderedDict[str, Look] = OrderedDict()


@dataclass(frozen=True)
class Look:
    """A dry run that was asked for: with which settings, and what comes of it."""

    tool: str
    settings: Any
    future: Future[Proposal]

    @property
    def is_pending(self) -> bool:
        return not self.future.done()

    def proposal(self) -> Proposal:
        """What would be done; the problems alone where the tool refused. Waits for a look that is pending."""
        try:
            return self.future.result()
        except UserError as error:
            return Proposal((), "", tuple(error.problems))
        except OSError as error:
            return Proposal((), "", (Problem(str(error.filename or ""), f"cannot be read ({error.strerror})."),))


def begin(tool: str, settings: Any, wait_seconds: float = 1.0) -> str:
    """Begin a dry run and wait a moment for it; returns the name by which `get` finds it."""
    look = Look(tool, settings, _pool.submit(TOOLS[tool].propose, settings))
    name = f"look-{next(_numbers)}"
    _kept[name] = look
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    wait([look.future], timeout=wait_seconds)
    return name


def is_last(tool: str, settings: Any) -> bool:
    """Whether the last dry run of a tool was made with these settings."""
    last = next((look for look in reversed(_kept.values()) if look.tool == tool), None)
    return last is not None and last.settings == settings


def get(name: str | None) -> Look | None:
    """The look of that name; None for one that was not made or is long gone."""
    return _kept.get(name or "")
