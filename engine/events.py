"""What a run tells: a closed set of kinds, each a frozen dataclass. How they are written and read: event_log.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar


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
    lr: Mapping[str, float | None]
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
