"""Training folders as they were scanned a moment ago: a change of any field asks for the plan, the folder is the same.

A folder of 10,000 pictures takes a second to scan. What was found is used again while the folders have the same entries
(their times of change tell), for 20 times as long as the scan took: so the page spends a twentieth of its time on it
at the most, and sees a caption that another program changes in its place a little later. A start scans anew.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from engine.data.scan import CaptionReading, Scan, scan

TIMES_AS_LONG, LEAST_SECONDS, MOST_SECONDS = 20, 2.0, 60.0
_MOST_KEPT = 4  # training, regularization and validation folder, and one that was typed before

_Key = tuple[Path, CaptionReading, bool]
_Times = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Kept:
    found: Scan
    times: _Times
    until: float


class Scans:
    """In the place of `scan`: the same answer, perhaps a little older."""

    def __init__(self) -> None:
        self._kept: dict[_Key, _Kept] = {}
        self._lock = threading.Lock()

    def __call__(self, folder: Path, reading: CaptionReading, *, regularization: bool = False) -> Scan:
        key = (folder, reading, regularization)
        with self._lock:
            kept = self._kept.get(key)
        if kept and time.monotonic() < kept.until and kept.times == _times(folder, kept.found):
            return kept.found
        begun = time.monotonic()
        before = _times(folder, None)
        found = scan(folder, reading, regularization=regularization)
        seconds = min(max((time.monotonic() - begun) * TIMES_AS_LONG, LEAST_SECONDS), MOST_SECONDS)
        times = _times(folder, found)
        if times[:1] == before:  # else it was changed meanwhile
            self._keep(key, _Kept(found, times, time.monotonic() + seconds))
        return found

    def forget(self) -> None:
        """Scan everything anew."""
        with self._lock:
            self._kept.clear()

    def _keep(self, key: _Key, kept: _Kept) -> None:
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = kept
            while len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]


def _times(folder: Path, found: Scan | None) -> _Times:
    """When the folder (or index file) and those that pictures were found in had an entry added, removed or renamed."""
    places = [str(folder), *(str(subset.folder) for subset in found.subsets)] if found else [str(folder)]
    return tuple((place, _time_of(place)) for place in dict.fromkeys(places))


def _time_of(place: str) -> int:
    try:
        return Path(place).stat().st_mtime_ns
    except OSError:
        return 0


scans = Scans()
