"""What a failure is recognised by, and what is said about it. Pure and torch-free."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from engine.errors import PresetError
from engine.preset import Preset

Values = Mapping[str, Any]
How = Literal["failed", "killed", "new", "stopped", "running", "finished"]
EXACT_SECTIONS = ("sample", "logging", "sharing")  # a resume with other values here is the very same training
EXACT_SETTINGS = ("run.keep_last", "run.save_every_epochs", "run.save_every_steps", "run.save_every_minutes")
FIRST_WORDS = "Looking at the images …"  # what an engine says first; log.txt holds every start of the run


@dataclass(frozen=True)
class Facts:
    """What a run has left: how it stands, what it told, and how its process ended, where that is known.

    told: the failed event's message, problems and traceback. log: the end of log.txt. exit_code: as the system told it,
    negative for a signal. memory_kills: processes that the kernel has ended for want of memory meanwhile. losses and
    seconds_per_step: of the first and the last steps. gpu_bytes: memory of the card, 0 where it is not known.
    """

    how: How
    told: str = ""
    log: str = ""
    warnings: Sequence[str] = ()
    exit_code: int | None = None
    memory_kills: int = 0
    booted_since: bool = False
    stage: str = ""
    losses: Sequence[float | None] = ()
    seconds_per_step: Sequence[float] = ()
    memory_bytes: int = 0
    gpu_bytes: int = 0
    preset: Preset = field(default_factory=Preset)

    @cached_property
    def last_words(self) -> str:
        """What the last process of the run has said, as far as it is kept; without its warnings, which end nothing."""
        since = self.log.rpartition(FIRST_WORDS)[2]
        return "\n".join(line for line in since.split("\n") if not line.startswith("Warning: "))

    @cached_property
    def text(self) -> str:
        """Where a cause is looked for: what a failed run told of it, else what its process said last."""
        return self.told if self.how == "failed" else self.last_words if self.how in ("killed", "new") else ""


@dataclass(frozen=True)
class Kind:
    """One entry of the catalogue: `cause` in a sentence, what to do, and how it is recognised.

    signs: regular expressions, of which one is found in `Facts.text`, or in a warning for what does not end a run
    (`ends_run`). signals: the process was ended by one of these. when: also has to hold, and decides alone where there
    are neither. fixes: changes of settings that may help, the mildest first; the first that makes a sound preset is
    offered. seen: how it shows itself, for the documentation.
    """

    cause: str
    remedy: str
    seen: str
    signs: tuple[str, ...] = ()
    signals: tuple[int, ...] = ()
    when: Callable[[Facts], bool] | None = None
    fixes: Callable[[Facts], Sequence[Values]] | None = None
    ends_run: bool = True

    def matches(self, facts: Facts) -> bool:
        """Whether these facts show this kind."""
        if self.when is not None and not self.when(facts):
            return False
        if not self.signs and not self.signals:
            return self.when is not None
        text = facts.text if self.ends_run else "\n".join(facts.warnings)
        signal = -facts.exit_code if facts.how == "killed" and facts.exit_code is not None else 0
        return signal in self.signals or any(re.search(sign, text) for sign in self.signs)


@dataclass(frozen=True)
class Failure:
    """What a run shows: its kind's name and sentences, and changes of settings that may help ({} where none do).

    exact: whether the run may be resumed with these changes and goes on just as it would have.
    """

    name: str
    cause: str
    remedy: str
    fix: Values
    exact: bool


def failure_of(name: str, kind: Kind, facts: Facts) -> Failure:
    """The kind as it applies to this run."""
    fix = next((fix for fix in kind.fixes(facts) if _is_sound(facts.preset, fix)), {}) if kind.fixes else {}
    return Failure(name, kind.cause, kind.remedy, dict(fix), bool(fix) and all(map(_is_exact, fix)))


def _is_exact(path: str) -> bool:
    return path.partition(".")[0] in EXACT_SECTIONS or path in EXACT_SETTINGS


def _is_sound(preset: Preset, fix: Values) -> bool:
    if all(preset.get(path) == value for path, value in fix.items()):
        return False
    try:
        preset.changed(fix)
    except PresetError:
        return False
    return True


# Changes that more than one kind offers


def always(*fixes: Values) -> Callable[[Facts], Sequence[Values]]:
    """The same changes for every run."""
    return lambda facts: fixes


def less_memory(facts: Facts) -> list[Values]:
    """What spares GPU memory, the cheapest first: checkpointing, half batches, a smaller UNet, a smaller rank."""
    preset, fixes = facts.preset, []
    if not preset.memory.gradient_checkpointing:
        fixes.append({"memory.gradient_checkpointing": True})
    if preset.run.batch_size > 1:
        half = preset.run.batch_size // 2
        times = -(-preset.run.batch_size * preset.run.accumulation // half)
        fixes.append({"run.batch_size": half, "run.accumulation": times})
    if preset.memory.precision == "fp32":
        fixes.append({"memory.precision": "bf16"})
    if preset.memory.unet_storage == "same":
        fixes.append({"memory.unet_storage": "int8"})
    elif preset.memory.unet_storage in ("int8", "fp8"):
        fixes.append({"memory.unet_storage": "nf4"})
    if preset.adapter.rank > 8:
        fixes.append({"adapter.rank": preset.adapter.rank // 2, "adapter.alpha": preset.adapter.alpha / 2})
    return fixes


def lower_rates(facts: Facts) -> list[Values]:
    """All learning rates a third of what they are."""
    rates = ("unet_rate", "text_encoder_1_rate", "text_encoder_2_rate")
    optimizer = facts.preset.optimizer
    return [{f"optimizer.{name}": float(f"{getattr(optimizer, name) / 3:.2g}") for name in rates}]


def fewer_checkpoints(facts: Facts) -> list[Values]:
    """Keep only the last two of the checkpoints on the way."""
    return [{"run.keep_last": 2}] if not 0 < facts.preset.run.keep_last <= 2 else []


def is_spilling(facts: Facts) -> bool:
    """Steps got many times slower while the card is full: the driver moves memory to the computer's own."""
    seconds = [value for value in facts.seconds_per_step if value > 0]
    if len(seconds) < 20 or not facts.gpu_bytes or facts.memory_bytes < 0.9 * facts.gpu_bytes:
        return False
    return statistics.median(seconds[-5:]) > 4 * min(statistics.median(seconds[:5]), statistics.median(seconds))


def has_diverged(facts: Facts) -> bool:
    """The loss of the last steps is three times that of the first ones kept, and was not so before."""
    losses = [value for value in facts.losses if value is not None]
    if len(losses) < 60:
        return False
    first, last = statistics.median(losses[:20]), statistics.median(losses[-20:])
    return last > 3 * first and last > 0.3
