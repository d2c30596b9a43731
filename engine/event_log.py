"""The file that holds what a run tells, events.jsonl: one JSON object a line.

Every line carries `v` (format), `kind` and `time` (UTC, ISO 8601). The writer appends whole lines; a reader keeps a
byte offset and takes whole lines only, so that both may be killed at any moment. No heavy imports.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import sys
import typing
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from engine.events import KINDS, Event, Step
from engine.json_types import all_fit
from engine.secrets import redacted

FORMAT = 1
_LINES_AT_ONCE = 500


class Entry(NamedTuple):
    """An event as read back: its time (UTC, ISO 8601) and the event."""

    time: str
    event: Event


class Steps(NamedTuple):
    """Steps told one after the other: the fields of each as written; when the last was told, and it as an event."""

    fields: list[dict[str, Any]]
    time: str
    last: Step


class EventLog:
    """Appends events to a file. A full disk does not stop the run: the fault is told once on stderr."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fault_told = False
        if path.exists() and path.stat().st_size and path.read_bytes()[-1:] != b"\n":
            self._append(b"\n")  # the last writer was killed within a line

    def emit(self, event: Event) -> None:
        content = {"v": FORMAT, "kind": event.kind, "time": _now(), **_plain(dataclasses.asdict(event))}
        line = json.dumps(content, ensure_ascii=False, allow_nan=False)
        self._append(redacted(line).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            if not self._fault_told:
                print(f"{self.path}: the event log cannot be written ({error.strerror}).", file=sys.stderr)
            self._fault_told = True


def read(path: Path, offset: int = 0) -> tuple[list[Entry], int]:
    """Events after byte `offset` and the offset to go on from. Torn or foreign lines are passed over."""
    lines, end = read_lines(path, offset)
    return list(entries(lines)), end


def read_lines(path: Path, offset: int = 0) -> tuple[list[str], int]:
    """The whole lines after byte `offset` and the offset to go on from."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:
        return [], 0
    whole = content[: content.rfind(b"\n") + 1]
    lines = [line for line in whole.decode("utf-8", errors="replace").split("\n") if line]
    return lines, offset + len(whole)


def entries(lines: Sequence[str]) -> Iterator[Entry]:
    """What stands in the lines, one after the other."""
    for kind, contents in _groups(lines):
        yield from (_entry(kind, content) for content in contents)


def entries_and_steps(lines: Sequence[str]) -> Iterator[Entry | Steps]:
    """The same with steps that follow each other together: a log may hold 100,000, and each is an object to make."""
    for kind, contents in _groups(lines):
        if kind is Step:
            last = _entry(Step, contents[-1])
            yield Steps(contents, last.time, typing.cast(Step, last.event))
        else:
            yield from (_entry(kind, content) for content in contents)


def _groups(lines: Sequence[str]) -> Iterator[tuple[type[Event], list[dict[str, Any]]]]:
    """Lines of the same kind that follow each other. 100,000 at once would keep Python's collector busy."""
    for begin in range(0, len(lines), _LINES_AT_ONCE):
        for name, group in itertools.groupby(_parsed(lines[begin : begin + _LINES_AT_ONCE]), _kind_named):
            kind = KINDS.get(name)
            if kind is not None and (contents := _right_ones(kind, list(group))):
                yield kind, contents


def _parsed(lines: Sequence[str]) -> list[Any]:
    """The content of each line, None for a torn one. All in one go where they are whole: that is faster."""
    found = _parsed_alone(f"[{','.join(lines)}]")
    return found if found is not None and len(found) == len(lines) else [_parsed_alone(line) for line in lines]


def _parsed_alone(line: str) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


def _kind_named(content: Any) -> str:
    name = content.get("kind") if isinstance(content, dict) else None
    return name if isinstance(name, str) else ""


def _right_ones(kind: type[Event], contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with all fields that the kind needs, each of the type that it declares."""
    if _are_right(kind, contents):
        return contents
    return [content for content in contents if _are_right(kind, [content])]


def _are_right(kind: type[Event], contents: Sequence[dict[str, Any]]) -> bool:
    needed, hints = _declared(kind)
    return all(content.keys() >= needed for content in contents) and all(
        all_fit([content[name] for content in contents if name in content], hint) for name, hint in hints.items()
    )


@functools.cache
def _declared(kind: type[Event]) -> tuple[frozenset[str], dict[str, Any]]:
    """The fields that a line of the kind must have, and the type of each that it may have; its time among both."""
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    needed = {item.name for item in fields if item.default is item.default_factory is dataclasses.MISSING}
    return frozenset({"time", *needed}), {"time": str} | {item.name: hints[item.name] for item in fields}


def _entry(kind: type[Event], content: dict[str, Any]) -> Entry:
    known = {name: content[name] for name in _declared(kind)[1] if name in content}
    time = known.pop("time")
    if len(known) < len(dataclasses.fields(kind)):
        return Entry(time, kind(**known))
    event = object.__new__(kind)  # as __init__ makes it, several times as fast
    event.__dict__.update(known)
    return Entry(time, event)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
