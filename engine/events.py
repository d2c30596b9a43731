"""What a run tells: one JSON object a line in events.jsonl, a closed set of kinds, each a frozen dataclass.

Every line carries `v` (format), `kind` and `time` (UTC, ISO 8601). The writer appends whole lines; a reader keeps a
byte offset and takes whole lines only, so that both may be killed at any moment. No heavy imports.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import orjson

from engine.secrets import redacted

FORMAT = 1


@dataclass(frozen=True)
class Event:
    kind: ClassVar[str] = ""


@dataclass(frozen=True)
class Started(Event):
    """A process began to work on the run; `from_step` is above 0 when it resumes."""

    kind: ClassVar[str] = "started"
    name: str
    steps: int
    epochs: int
    steps_per_epoch: int
    from_step: int
    process_id: int
    device: str


@dataclass(frozen=True)
class Stage(Event):
    """What is being done now, in words ("Loading the base model")."""

    kind: ClassVar[str] = "stage"
    name: str


@dataclass(frozen=True)
class Progress(Event):
    """How far the stage is: `done` of `total` things; how many a second and how long it takes still, where known."""

    kind: ClassVar[str] = "progress"
    stage: str
    done: int
    total: int
    per_second: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Step(Event):
    """One optimizer update. `loss` is None where it was not finite and the update was left out.

    With a norm limit some steps also tell how many layers the update shrank, and the mean norm of ΔW after it.
    """

    kind: ClassVar[str] = "step"
    step: int
    epoch: int
    loss: float | None
    lr: dict[str, float]
    gradient_norm: float | None
    seconds_per_step: float
    images: int
    memory_bytes: int
    shrunk_layers: int | None = None
    mean_norm: float | None = None


@dataclass(frozen=True)
class Validated(Event):
    """The held-out pictures were measured; `step` 0 is before the first update.

    `bands`: the loss in each band of timesteps, `edges` their limits (one more than bands). `best_step` and `best_loss`
    tell the best so far, this one included; step 0 cannot be the best. Values are None where they are not finite.
    """

    kind: ClassVar[str] = "validated"
    step: int
    loss: float | None
    bands: list[float | None] = field(default_factory=list)
    edges: list[int] = field(default_factory=list)
    best_step: int = 0
    best_loss: float | None = None
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Sampled(Event):
    """A sample image was written; `path` is relative to the run folder, `index` the prompt's place in the list."""

    kind: ClassVar[str] = "sampled"
    step: int
    index: int
    prompt: str
    seed: int
    path: str
    seconds: float


@dataclass(frozen=True)
class Saved(Event):
    """A file was written whole and checked; `what` is "checkpoint" or "state"; `path` is relative to the run folder."""

    kind: ClassVar[str] = "saved"
    step: int
    what: str
    path: str
    size_bytes: int


@dataclass(frozen=True)
class Warned(Event):
    kind: ClassVar[str] = "warned"
    message: str
    where: str = ""


@dataclass(frozen=True)
class Paused(Event):
    """The run holds after `step` updates, with everything in memory."""

    kind: ClassVar[str] = "paused"
    step: int


@dataclass(frozen=True)
class Continued(Event):
    """The run goes on after a pause of so many seconds."""

    kind: ClassVar[str] = "continued"
    step: int
    seconds: float


@dataclass(frozen=True)
class Changed(Event):
    """After `step` updates something got another value: "rate_factor", "prompts" or "steps" (the run's length)."""

    kind: ClassVar[str] = "changed"
    step: int
    what: str
    value: float | str
    before: float | str


@dataclass(frozen=True)
class Hardware(Event):
    """The graphics card as its driver tells it, every few seconds; None for what it does not tell.

    The memory is all that is in use on the card, by other programs too; `reserved_bytes` is what this run holds.
    """

    kind: ClassVar[str] = "hardware"
    step: int
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    reserved_bytes: int
    utilisation_percent: float | None
    temperature_c: float | None


@dataclass(frozen=True)
class Previewed(Event):
    """A picture as it is after `step` sampler steps; `path` is relative to the drawing folder."""

    kind: ClassVar[str] = "previewed"
    request: str
    index: int
    step: int
    path: str


@dataclass(frozen=True)
class Drawn(Event):
    """A picture of a request was written; `index` is its place among the request's, `path` an absolute one."""

    kind: ClassVar[str] = "drawn"
    request: str
    index: int
    path: str
    seed: int
    seconds: float


@dataclass(frozen=True)
class Answered(Event):
    """A request for pictures came to its end: "drawn", "cancelled" or "failed"; `problems`, `message`: why."""

    kind: ClassVar[str] = "answered"
    request: str
    outcome: str
    pictures: int
    seconds: float
    message: str = ""
    problems: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Failed(Event):
    """The run ended by a fault. `traceback` is empty when the user can mend it."""

    kind: ClassVar[str] = "failed"
    message: str
    exit_code: int
    traceback: str = ""
    problems: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Stopped(Event):
    """The run was stopped on request at `step` and can be resumed there."""

    kind: ClassVar[str] = "stopped"
    step: int


@dataclass(frozen=True)
class Finished(Event):
    """The run came to its end; `reason` says why where that was before the last planned step."""

    kind: ClassVar[str] = "finished"
    step: int
    checkpoint: str
    seconds: float
    reason: str = ""


KINDS: dict[str, type[Event]] = {
    item.kind: item
    for item in (
        *(Started, Stage, Progress, Step, Validated, Sampled, Saved, Warned, Failed, Stopped, Finished),
        *(Paused, Continued, Changed, Hardware, Previewed, Drawn, Answered),
    )
}
_LINES_AT_ONCE = 500
_FIELDS = {kind: {item.name for item in dataclasses.fields(event)} for kind, event in KINDS.items()}
_NEEDED = {
    kind: {item.name for item in dataclasses.fields(event) if item.default is dataclasses.MISSING}
    for kind, event in KINDS.items()
}
_OF_A_STEP = _NEEDED[Step.kind] | {"time"}


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
    for contents in _parsed_in_parts(lines):
        yield from _entries(contents)


def entries_and_steps(lines: Sequence[str]) -> Iterator[Entry | Steps]:
    """The same with steps that follow each other together: a log may hold 100,000, and each is an object to make."""
    for contents in _parsed_in_parts(lines):
        for are_steps, group in itertools.groupby(contents, _is_step):
            if not are_steps:
                yield from _entries(group)
                continue
            fields = list(group)
            (last,) = _entries([dict(fields[-1])])
            yield Steps(fields, last.time, cast(Step, last.event))


def _is_step(content: Any) -> bool:
    return isinstance(content, dict) and content.get("kind") == Step.kind and content.keys() >= _OF_A_STEP


def _parsed_in_parts(lines: Sequence[str]) -> Iterator[list[Any]]:
    """100,000 at once would keep Python's collector busy."""
    for begin in range(0, len(lines), _LINES_AT_ONCE):
        yield _parsed(lines[begin : begin + _LINES_AT_ONCE])


def _entries(contents: Iterable[Any]) -> Iterator[Entry]:
    return (entry for content in contents if (entry := _entry(content)) is not None)


def _parsed(lines: Sequence[str]) -> list[Any]:
    """The content of each line, None for a torn one. All in one go where they are whole: that is faster."""
    found = _parsed_alone(f"[{','.join(lines)}]")
    return found if found is not None and len(found) == len(lines) else [_parsed_alone(line) for line in lines]


def _parsed_alone(line: str) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None


def _entry(content: Any) -> Entry | None:
    try:
        kind, time = content.pop("kind"), content.pop("time")
        content.pop("v", None)
        if not content.keys() <= _FIELDS[kind]:
            for name in content.keys() - _FIELDS[kind]:
                del content[name]
        if not content.keys() >= _NEEDED[kind]:
            return Entry(time, KINDS[kind](**content))
        event = object.__new__(KINDS[kind])  # as __init__ makes it, several times as fast
        event.__dict__.update(content)
        return Entry(time, event)
    except (KeyError, TypeError, AttributeError):
        return None


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
