"""How a run's process ended, noted by whoever waited for it: what was killed could not tell it itself.

exit.json in the run folder: written when the process is started, completed when it has ended. Where nobody waited (the
page was gone too), it stays without an exit code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from engine.atomic import write_text_whole
from engine.errors import UserError

_COUNTS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


@dataclass(frozen=True)
class Ended:
    """exit_code: negative for a signal. memory_kills: processes that the kernel ended for want of memory meanwhile."""

    exit_code: int
    memory_kills: int
    time: str


def note_begun(folder: Path) -> None:
    """A process begins to work in this run folder. What cannot be noted is done without."""
    _write(folder, {"memory_kills": memory_kills()})


def note_ended(folder: Path, exit_code: int) -> None:
    """The process that `note_begun` was told of has ended."""
    before = _read(folder).get("memory_kills")
    kills = max(0, memory_kills() - before) if isinstance(before, int) else 0
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    _write(folder, {"exit_code": exit_code, "memory_kills": kills, "time": time})


def read_ended(folder: Path, since: str = "") -> Ended | None:
    """How the last process ended; None where that is not known. since: the time (UTC, ISO 8601) of the run's last
    event: what was noted before it was about an earlier process."""
    found = _read(folder)
    code, kills, time = found.get("exit_code"), found.get("memory_kills"), found.get("time")
    if not isinstance(code, int) or not isinstance(kills, int) or not isinstance(time, str) or time < since:
        return None
    return Ended(code, kills, time)


def memory_kills(counts: tuple[Path, ...] = _COUNTS) -> int:
    """How many processes the kernel has ended for want of memory, here or in this container; 0 where it does not say.

    Source: the lines oom_kill of cgroup v2's memory.events and of /proc/vmstat (Linux, Documentation/admin-guide).
    """
    for path in counts:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.strip().isdecimal():
                return int(number)
    return 0


def _write(folder: Path, content: dict[str, object]) -> None:
    if not (folder / "preset.json").exists():  # only runs are looked at in this way
        return
    try:
        write_text_whole(folder / "exit.json", json.dumps(content) + "\n")
    except (UserError, OSError):
        return


def _read(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / "exit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
