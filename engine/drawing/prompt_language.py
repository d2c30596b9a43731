"""What a prompt says, as A1111's web UI and its relatives read it. Pure; torch-free.

The order is theirs: wildcards are drawn (`drawn_wildcards` in wildcard_files.py), `<lora:…>` taken out (`take_loras`),
the texts over the steps told (`schedule_of`), and each text cut at BREAK into pieces with weights (`weighted_parts`).

| written | means |
|---|---|
| `[a:b:0.5]` | `a` for the first half of the steps, then `b`; `[b:0.5]` b from then on, `[a::0.5]` a until then |
| `[a:b:10]` | the same at step 10: a number without a point counts steps |
| `[a\\|b]` | `a` in the first step, `b` in the second, `a` in the third … |
| `(a:1.2)`, `(a)`, `[a]` | weights, see engine/sdxl/emphasis.py |
| `BREAK` | what follows begins a new part of 75 tokens |
| `\\(` | a bracket that is text |
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from engine.errors import UserError
from engine.sdxl.emphasis import weighted_pieces

DEEPEST = 64  # brackets within brackets
_TOKEN = re.compile(r"\\.|[()\[\]:|]|[^\\()\[\]:|]+|\\", re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_LORA = re.compile(r"<(lora|lyco):([^<>:]+)((?::[^<>:]*)*)>")
_CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True)
class StepText:
    """One text of a schedule: it holds up to and with step `until_step` (counted from 1)."""

    until_step: int
    text: str


@dataclass(frozen=True)
class LoraMention:
    """`<lora:name:text encoders:UNet>`: the strengths, the second one the same as the first where it is not given."""

    name: str
    unet: float = 1.0
    text_encoders: float = 1.0


@dataclass(frozen=True)
class _Switch:
    """`[before:after:when]`."""

    before: list[_Part]
    after: list[_Part]
    when: str


@dataclass(frozen=True)
class _Turns:
    """`[a|b|c]`: one after the other, a step each."""

    choices: list[list[_Part]]


_Part = str | _Switch | _Turns


@dataclass
class _Open:
    """A bracket that is not closed yet: its parts between separators, and the separators."""

    bracket: str
    runs: list[list[_Part]] = field(default_factory=lambda: [[]])
    marks: list[str] = field(default_factory=list)

    def add(self, part: _Part) -> None:
        self.runs[-1].append(part)

    def as_text(self, closing: str = "") -> list[_Part]:
        """Everything as it was written; what was understood inside stays understood."""
        found: list[_Part] = [self.bracket] if self.bracket else []
        for mark, run in zip(["", *self.marks], self.runs, strict=True):
            found += [mark, *run] if mark else run
        return [*found, closing] if closing else found


def schedule_of(text: str, steps: int, hires_after_steps: int | None = None) -> tuple[StepText, ...]:
    """The texts of a prompt over `steps` sampler steps, in order; the last one's `until_step` is `steps`.

    hires_after_steps: the number of steps of the first pass, where this is the second one (hires fix). Fractions from
    1.0 to 2.0 and step numbers above the first pass's then belong to this pass, as in A1111.
    Raises UserError when brackets are nested more than `DEEPEST` deep.
    """
    parts = _parsed(text)
    ends: set[int] = {steps}
    _collect_ends(parts, steps, hires_after_steps, ends)
    found: list[StepText] = []
    for end in sorted(ends):
        here = _text_at(parts, end, steps, hires_after_steps)
        if found and found[-1].text == here:
            found.pop()
        found.append(StepText(end, here))
    return tuple(found)


def text_at(schedule: tuple[StepText, ...], step: int) -> str:
    """The text of a step, counted from 1."""
    return next((item.text for item in schedule if step <= item.until_step), schedule[-1].text)


def weighted_parts(text: str) -> list[list[tuple[str, float]]]:
    """One text cut at BREAK: per part its pieces as (text, weight). Each part begins a new chunk of 75 tokens."""
    parts: list[list[tuple[str, float]]] = [[]]
    for piece, weight in weighted_pieces(text):
        for number, words in enumerate(_BREAK.split(piece)):
            if number:
                parts.append([])
            if words:
                parts[-1].append((words, weight))
    return [part or [("", 1.0)] for part in parts]


def take_loras(text: str) -> tuple[str, tuple[LoraMention, ...]]:
    """The prompt without its `<lora:…>`, and what they say. Raises UserError for a strength that is no number."""
    mentions: list[LoraMention] = []

    def take(found: re.Match[str]) -> str:
        mentions.append(_mention(found[0], found[2].strip(), found[3].split(":")[1:]))
        return ""

    rest = _LORA.sub(take, text)
    return rest, tuple(mentions)


def _mention(written: str, name: str, values: list[str]) -> LoraMention:
    """Strengths by place (text encoders, then UNet) or by name (`te=`, `unet=`)."""
    by_place = [value for value in values if "=" not in value][:2]
    named = {key.strip(): value for key, _, value in (value.partition("=") for value in values if "=" in value)}
    text = _strength(written, named.get("te", by_place[0] if by_place else "1"))
    unet = named.get("unet", by_place[1] if len(by_place) > 1 else None)
    return LoraMention(name, text if unet is None else _strength(written, unet), text)


def _strength(written: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -100 <= value <= 100:
        what = f"{written} needs a number as strength (got {text.strip()!r}). Write it as <lora:name:0.8>."
        raise UserError(what, "prompt")
    return value


def _parsed(text: str) -> list[_Part]:
    """The prompt as text and what changes over the steps. Brackets that do not pair, or pair crosswise, are text."""
    opened = [_Open("")]
    for token in _TOKEN.findall(text):
        top = opened[-1]
        if token in ("(", "["):
            opened.append(_Open(token))
            if len(opened) > DEEPEST:
                what = f"brackets are nested more than {DEEPEST} deep. Write \\( or \\[ for a bracket that is text."
                raise UserError(what, "prompt")
        elif token in _CLOSES:
            group = _closed(top) if top.bracket == _CLOSES[token] else None
            if group is None:
                opened = [_flattened(opened)]
                opened[0].add(token)
            else:
                opened.pop()
                for part in group:
                    opened[-1].add(part)
        elif top.bracket == "[" and token in (":", "|"):
            top.marks.append(token)
            top.runs.append([])
        else:
            top.add(token)
    return _flattened(opened).runs[0]


def _flattened(opened: list[_Open]) -> _Open:
    """All open brackets as text in the outermost place."""
    whole = _Open("")
    for part in opened:
        for item in part.as_text():
            whole.add(item)
    return whole


def _closed(group: _Open) -> list[_Part] | None:
    """What a closed bracket is; None where its content is none of the known forms."""
    if group.bracket == "(" or not group.marks:
        return group.as_text("]" if group.bracket == "[" else ")")
    if set(group.marks) == {"|"}:
        return [_Turns(group.runs)]
    when = group.runs[-1]
    is_number = all(isinstance(part, str) for part in when) and _NUMBER.fullmatch("".join(map(str, when)))
    if set(group.marks) != {":"} or len(group.runs) > 3 or not is_number:
        return None
    before = group.runs[0] if len(group.runs) == 3 else []
    return [_Switch(before, group.runs[-2], is_number[1])]


def _switch_step(when: str, steps: int, hires_after_steps: int | None) -> int:
    """The last step of `before`: a fraction of the steps where there is a point, else a step's number."""
    value = float(when)
    if "." in when:
        value = (value - (0.0 if hires_after_steps is None else 1.0)) * steps
    else:
        value -= hires_after_steps or 0
    return int(max(-1.0, min(float(steps), value)))


def _collect_ends(parts: list[_Part], steps: int, hires_after_steps: int | None, ends: set[int]) -> None:
    for part in parts:
        if isinstance(part, _Switch):
            step = _switch_step(part.when, steps, hires_after_steps)
            if step >= 1:
                ends.add(step)
            _collect_ends(part.before, steps, hires_after_steps, ends)
            _collect_ends(part.after, steps, hires_after_steps, ends)
        elif isinstance(part, _Turns):
            ends.update(range(1, steps + 1))
            for choice in part.choices:
                _collect_ends(choice, steps, hires_after_steps, ends)


def _text_at(parts: list[_Part], step: int, steps: int, hires_after_steps: int | None) -> str:
    found: list[str] = []
    for part in parts:
        if isinstance(part, str):
            found.append(part)
            continue
        if isinstance(part, _Switch):
            is_before = step <= _switch_step(part.when, steps, hires_after_steps)
            chosen = part.before if is_before else part.after
        else:
            chosen = part.choices[(step - 1) % len(part.choices)]
        found.append(_text_at(chosen, step, steps, hires_after_steps))
    return "".join(found)
