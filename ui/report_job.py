"""The report of the data set, made beside the page: first what is known at once, then what only the pixels tell."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data_report import DataReport, report
from engine.errors import Problem, UserError
from engine.preset import SETTINGS, VERSION, Preset, build
from ui import thumbnails

SECTIONS = ("data", "captions", "validation")  # the settings that the report depends on
PATHS = tuple(item.path for item in SETTINGS if item.section in SECTIONS)
MOST_TWINS = 24
MOST_OF_TWINS = 6  # pictures shown of one group
_MOST_KEPT = 3

_pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="report")
_kept: OrderedDict[str, ReportJob] = OrderedDict()
_lock = threading.Lock()


class _NoLongerWantedError(Exception):
    """Another report was asked for."""


@dataclass
class ReportJob:
    """A report that is being made, or was made. `found` is what is known so far."""

    preset: Preset
    done: int = 0
    total: int = 0
    found: DataReport | None = None
    problems: tuple[Problem, ...] = ()
    is_over: bool = False
    is_wanted: bool = True
    small: dict[str, Path | None] = field(default_factory=dict)  # thumbnails of twins

    def run(self) -> None:
        """Make it; called on the worker's thread."""
        try:
            self.found = report(self.preset, look=False, progress=None)
            self._look_on(0, 0)
            self.found = report(self.preset, look=True, progress=self._look_on)
            shown = [path for twins in self.found.twins[:MOST_TWINS] for path in twins.paths[:MOST_OF_TWINS]]
            self.small = dict(zip(shown, thumbnails.of_all(map(Path, shown)), strict=True))
        except _NoLongerWantedError:
            pass
        except UserError as error:
            self.problems = tuple(error.problems)
        except OSError as error:
            self.problems = (Problem(str(error.filename or ""), f"cannot be read ({error.strerror})."),)
        finally:
            self.is_over = True

    def _look_on(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if not self.is_wanted:
            raise _NoLongerWantedError


def preset_of(shown: Mapping[str, Any]) -> Preset:
    """The preset with these values ("section.name") and all other settings at their default. Raises PresetError."""
    content: dict[str, Any] = {"version": VERSION}
    for path, value in shown.items():
        section, name = path.split(".")
        content.setdefault(section, {})[name] = value
    return build(content)


def known(preset: Preset) -> ReportJob | None:
    """The report for these settings, if one was asked for."""
    return _kept.get(preset.model_dump_json())


def ask(preset: Preset, again: bool = False) -> ReportJob:
    """The report for these settings; it is begun where there is none or `again` is asked. Others are given up."""
    key = preset.model_dump_json()
    with _lock:
        job = _kept.get(key)
        if job is not None and not (again and job.is_over) and job.is_wanted:
            return job
        for other in _kept.values():
            other.is_wanted = other.is_over
        job = _kept[key] = ReportJob(preset)
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
        _pool.submit(job.run)
    return job
