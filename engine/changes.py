"""What was changed in a run after its start: kept in its folder, each change with the step that it came at. Torch-free.

runs/NAME/changes.json. What holds at a step is read from this list alone: a run that was killed after a change and
takes up an older state changes at the same step again, and comes to the same numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.atomic import write_text_whole
from engine.errors import PresetError, UserError
from engine.preset import Preset
from engine.prompts import SamplePrompt, parse_prompts
from engine.run import ChangeRequest, RunFolder

What = Literal["rate_factor", "prompts", "steps"]
FACTOR_LIMITS = (0.001, 100.0)
_RATES = ("unet_rate", "text_encoder_1_rate", "text_encoder_2_rate")


@dataclass(frozen=True)
class Change:
    """From step number `step` on (that many updates were done) `what` has another value.

    rate_factor: all learning rates are multiplied by it. prompts: lines as in sample.prompts. steps: the run's length.
    """

    step: int
    what: What
    value: float | str
    before: float | str


class Changes:
    """The changes of one run. `preset` is the run's, `planned` its own sample prompts."""

    def __init__(
        self, file: Path, preset: Preset, planned: Sequence[SamplePrompt] = (), entries: Sequence[Change] = ()
    ) -> None:
        self.file = file
        self.preset = preset
        self.planned = tuple(planned)
        self.entries = tuple(entries)

    @classmethod
    def of(cls, run: RunFolder, preset: Preset, planned: Sequence[SamplePrompt] = (), kept: Any = None) -> Changes:
        """Those of a run; `kept`: as its last state tells them, for a folder whose list is gone. Raises UserError."""
        return cls(run.changes, preset, planned, read_changes(run.changes, kept))

    def rate_factor(self, step: int) -> float:
        """What the learning rates of update `step` (0 is the first) are multiplied by."""
        return float(self._at("rate_factor", step, 1.0))

    def prompt_text(self, step: int) -> str:
        """The sample prompts in force when `step` updates were done, as the user wrote them."""
        return str(self._at("prompts", step, self.preset.sample.prompts))

    def prompts_at(self, step: int) -> tuple[SamplePrompt, ...]:
        """The sample prompts in force when `step` updates were done."""
        text = self._at("prompts", step, None)
        return self.planned if text is None else self.read(str(text))

    def later_prompts(self) -> tuple[SamplePrompt, ...]:
        """All prompts that the run was ever changed to."""
        texts = (str(entry.value) for entry in self.entries if entry.what == "prompts")
        return tuple(prompt for text in texts for prompt in self.read(text))

    def read(self, text: str) -> tuple[SamplePrompt, ...]:
        """Lines of prompts, with the run's settings where they give none."""
        return parse_prompts(self.preset.sample.model_copy(update={"prompts": text}))[0]

    def told(self, step: int) -> list[dict[str, Any]]:
        """The changes up to a step as plain JSON: for metadata and states."""
        return [dataclasses.asdict(entry) for entry in self.entries if entry.step <= step]

    def asked(self, what: ChangeRequest, content: str, step: int) -> Change:
        """The change that a request file's content asks for at this step. Raises UserError where it cannot be."""
        try:
            value = json.loads(content)["value"]
        except (ValueError, KeyError, TypeError):
            raise UserError("the request cannot be read. Ask once more from the page.", what) from None
        if what == "prompts":
            text = valid_prompts(self.preset, value)
            return Change(step, "prompts", text, self.prompt_text(step))
        return Change(step, "rate_factor", valid_factor(self.preset, value), self.rate_factor(step))

    def record(self, change: Change) -> None:
        """Write a change down; it holds from then on. Raises UserError where the disk refuses: then nothing changed.

        Changes of the same thing at this step or a later one, of which a resume lost the steps, hold no more.
        """
        others = [entry for entry in self.entries if entry.what != change.what or entry.step < change.step]
        entries = tuple(sorted([*others, change], key=lambda entry: entry.step))
        content = {"changes": [dataclasses.asdict(entry) for entry in entries]}
        write_text_whole(self.file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        self.entries = entries

    def _at(self, what: What, step: int, otherwise: Any) -> Any:
        found = [entry for entry in self.entries if entry.what == what and entry.step <= step]
        return found[-1].value if found else otherwise


def read_changes(file: Path, kept: Any = None) -> tuple[Change, ...]:
    """The changes in a file, by step; `kept` where there is none. Raises UserError where they cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))["changes"] if file.exists() else kept or []
        found = [Change(**entry) for entry in content]
        if not all(isinstance(entry.step, int) and _is_sound(entry) for entry in found):
            raise ValueError
        return tuple(sorted(found, key=lambda entry: entry.step))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        what = (
            "the list of what was changed in this run cannot be read, so it would not go on as before. Restore the "
            "file, or delete it: the changes up to the last state are known from there."
        )
        raise UserError(what, str(file)) from None


def _is_sound(entry: Change) -> bool:
    if entry.what == "prompts":
        return isinstance(entry.value, str)
    return entry.what in ("rate_factor", "steps") and isinstance(entry.value, (int, float))


def valid_factor(preset: Preset, value: Any) -> float:
    """A learning-rate factor with which the run's rates keep to the limits of their settings. Raises UserError."""
    low, high = FACTOR_LIMITS
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or not low <= value <= high:
        what = f"the learning-rate factor must be a number from {low:g} to {high:g} (got {value!r}). 1 is no change."
        raise UserError(what, "rate_factor")
    preset.changed({f"optimizer.{name}": getattr(preset.optimizer, name) * value for name in _RATES})
    return float(value)


def valid_prompts(preset: Preset, value: Any) -> str:
    """Sample prompts as the preset takes them. Raises UserError with all that is wrong with their lines."""
    if not isinstance(value, str):
        raise UserError("the sample prompts must be text, one a line.", "sample.prompts")
    changed = preset.changed({"sample.prompts": value})
    problems = parse_prompts(changed.sample)[1]
    if problems:
        raise PresetError(problems)
    return value
