"""What Pick found as HTML: the proposal with its reasons, the trade-off, and each score over the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.compare.answers import share_rows, trade_off_rows
from ui.charts import nice_ticks
from ui.comparing_form import plain
from ui.language import say, word
from ui.told import retold
from ui.words import escape, plural

NAMES = {
    "likeness": word("Likeness"),
    "fidelity": word("Fidelity"),
    "diversity": word("Diversity"),
    "leak": word("Leak"),
    "drift": word("Drift"),
    "validation_loss": word("Validation loss"),
    "learnt": word("Learnt"),
    "kept": word("Kept"),
    "total": word("Total"),
}
_ABOUT = {
    "likeness": word("how like the training pictures the pictures are"),
    "fidelity": word("how well the pictures follow their prompts"),
    "diversity": word("how much the seeds of a prompt differ"),
    "leak": word("how little changes without the trigger word"),
    "drift": word("how well contrast and colours are kept"),
    "validation_loss": word("the lowest of all, divided by it"),
    "total": word("learnt and kept together"),
}
_KINDS = {
    "proposed": word("proposed"),
    "on-the-curve": word("on the curve: none surpasses it in both"),
    "other": word("surpassed by another"),
}
_SIZE = (420, 200)
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 10, 36
_TONES = 4  # colours of lines; further ones are dashed
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST_TICKS = 6


def proposed(scores: dict[str, Any]) -> dict[str, Any] | None:
    """The candidate to take; None where none is worth it, or where the scores cannot be read."""
    place, candidates = scores.get("proposed"), scores.get("candidates")
    if not isinstance(place, int) or not isinstance(candidates, list) or not 0 <= place < len(candidates):
        return None
    return candidates[place]


def panel(scores: dict[str, Any]) -> str:
    """All of it. Raises KeyError, TypeError or ValueError for what pick did not write."""
    rows = share_rows(scores)
    charts = "".join(_chart(name, [row for row in rows if row["score"] == name], scores) for name in _ABOUT)
    title = f"<h4>{say('Over the training')} {_legend(_strengths(rows))}</h4>"
    best_first = say("Each score from 0 (bad) to 1 (as good as can be wished).")
    over = f'<div class="sheet">{title}<p class="quiet">{best_first}</p><div class="score-charts">{charts}</div></div>'
    return f'<div class="score-top">{_proposal(scores)}{_trade_off(scores)}</div>{over}{_table(scores)}'


# ---------------------------------------------------------------- the proposal


def _proposal(scores: dict[str, Any]) -> str:
    one = proposed(scores)
    reasons = "".join(f"<li>{escape(retold(reason))}</li>" for reason in scores["reasons"])
    notes = "".join(f"<li>{escape(plain('pick', note))}</li>" for note in scores["notes"])
    told = f'<h5>{say("To know")}</h5><ul class="quiet">{notes}</ul>' if notes else ""
    head = say("None is proposed")
    does = ""
    if one is not None:
        head = say("Take {name}", name=escape(one["name"]))
        sample = f'<button type="button" class="primary" id="comparing-use">{say("Sample with it")}</button>'
        copy = f'<button type="button" data-comparing-copy="{escape(one["checkpoint"])}">{say("Copy path")}</button>'
        does = f'<div class="sample-buttons">{sample}{copy}</div>'
    return (
        f'<section class="sheet score-proposal" id="comparing-proposal"><h4>{head}</h4><ul>{reasons}</ul>{does}{told}'
        "</section>"
    )


# ---------------------------------------------------------------- charts


@dataclass(frozen=True)
class _Axis:
    """Where values lie on an axis from `low` to `high`, its ticks, and what they are called."""

    low: float
    high: float
    ticks: Sequence[float]
    label: Callable[[float], str]
    title: str

    def at(self, value: float, begin: float, end: float) -> float:
        span = (self.high - self.low) or 1.0
        return round(begin + (end - begin) * (value - self.low) / span, 1)


def _shares_axis(title: str) -> _Axis:
    return _Axis(0.0, 1.0, _SHARES, lambda value: f"{value:.2g}", title)


def _trade_off(scores: dict[str, Any]) -> str:
    rows = [{**row, "kind": row["kind"].replace(" ", "-")} for row in trade_off_rows(scores)]
    across, up = _shares_axis(say("learnt")), _shares_axis(say("kept"))
    line = sorted((row["learnt"], row["kept"]) for row in rows if row["kind"] != "other")
    dots = [
        _Dot(row["learnt"], row["kept"], row["kind"], f"{row['name']}: {_both(row)}")
        for row in sorted(rows, key=lambda row: list(_KINDS).index(row["kind"]), reverse=True)
    ]
    best = next((row for row in rows if row["kind"] == "proposed"), None)
    name = say("Learnt and kept of each candidate.")
    if best is not None:
        name += " " + say("Proposed is {name}: {shares}.", name=best["name"], shares=_both(best))
    svg = _svg(name, across, up, _path([line], across, up, ["front"]) + _dots(dots, across, up))
    keys = "".join(f'<span class="key-dot {kind}">{say(text)}</span>' for kind, text in _KINDS.items())
    about = say("To the right: more of the subject is learnt. Upwards: more of what the base model could is kept.")
    return (
        f'<section class="sheet"><h4>{say("The trade-off")}</h4><p class="quiet">{about}</p>{svg}'
        f'<p class="legend">{keys}</p></section>'
    )


def _both(row: dict[str, Any]) -> str:
    return say("learnt {learnt}, kept {kept}", learnt=f"{row['learnt']:.0%}", kept=f"{row['kept']:.0%}")


def _chart(name: str, rows: list[dict[str, Any]], scores: dict[str, Any]) -> str:
    """A score over the training, a line for each strength; words where it was not measured."""
    head = f"<h5>{say(NAMES[name])} <span>{say(_ABOUT[name])}</span></h5>"
    if not rows:
        return f'<figure>{head}<p class="score-none quiet">{_why_none(name, scores)}</p></figure>'
    places = sorted({row["at"] for row in rows})
    has_steps = all(one["step"] is not None for one in scores["candidates"])
    ticks = places if len(places) <= _MOST_TICKS else nice_ticks(places[0], places[-1])
    inside = [tick for tick in ticks if places[0] <= tick <= places[-1]]
    across = _Axis(
        places[0], places[-1], inside, lambda at: f"{at:,.0f}", say("step") if has_steps else say("checkpoint")
    )
    up = _shares_axis("")
    strengths = _strengths(rows)
    lines = [sorted((row["at"], row["share"]) for row in rows if row["strength"] == one) for one in strengths]
    dots = [
        _Dot(row["at"], row["share"], _tone(strengths.index(row["strength"])), f"{row['name']}: {row['share']:.0%}")
        for row in rows
    ]
    best = max(rows, key=lambda row: row["share"])
    about = say("{score} of each candidate; the best is {name} with {share}.", score=say(NAMES[name]),
                name=best["name"], share=f"{best['share']:.0%}")  # fmt: skip
    tones = [_tone(place) for place in range(len(lines))]
    return (
        f"<figure>{head}{_svg(about, across, up, _path(lines, across, up, tones) + _dots(dots, across, up))}</figure>"
    )


def _why_none(name: str, scores: dict[str, Any]) -> str:
    if name == "fidelity" and scores.get("features") != "clip":
        return say("Not measured: choose CLIP weights to know it.")
    if name == "validation_loss":
        return say("The run measured none.")
    return say("Could not be measured.")


def _strengths(rows: Sequence[dict[str, Any]]) -> list[float]:
    return sorted({row["strength"] for row in rows})


def _tone(place: int) -> str:
    return f"tone-{place % _TONES}" + (" dashed" if place >= _TONES else "")


def _legend(strengths: Sequence[float]) -> str:
    names = [say("strength {number}", number=f"{one:g}") for one in strengths]
    keys = "".join(f'<span class="key {_tone(place)}">{escape(name)}</span>' for place, name in enumerate(names))
    return f'<span class="legend">{keys}</span>' if len(strengths) > 1 else ""


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    style: str
    told: str


def _svg(name: str, across: _Axis, up: _Axis, content: str) -> str:
    """An SVG with both axes; `name` is what it shows, for those who do not see it."""
    width, height = _SIZE
    left, right, bottom = _LEFT, width - _RIGHT, height - _BOTTOM
    parts: list[str] = []
    for tick in up.ticks:
        y = up.at(tick, bottom, _TOP)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="y" x="{left - 7}" y="{y + 4}">{escape(up.label(tick))}</text>')
    for tick in across.ticks:
        x = across.at(tick, left, right)
        parts.append(f'<text class="x" x="{x}" y="{bottom + 16}">{escape(across.label(tick))}</text>')
    parts.append(f'<text class="x" x="{(left + right) / 2:g}" y="{height - 4}">{escape(across.title)}</text>')
    middle = (_TOP + bottom) / 2
    if up.title:
        turned = f'transform="rotate(-90 12 {middle:g})"'
        parts.append(f'<text class="x" x="12" y="{middle:g}" {turned}>{escape(up.title)}</text>')
    box = f'viewBox="0 0 {width} {height}"'
    return f'<svg class="chart score" {box} role="img" aria-label="{escape(name)}">{"".join(parts)}{content}</svg>'


def _place(x: float, y: float, across: _Axis, up: _Axis) -> tuple[float, float]:
    width, height = _SIZE
    return across.at(x, _LEFT, width - _RIGHT), up.at(y, height - _BOTTOM, _TOP)


def _path(lines: Sequence[Sequence[tuple[float, float]]], across: _Axis, up: _Axis, styles: Sequence[str]) -> str:
    found: list[str] = []
    for line, style in zip(lines, styles, strict=True):
        points = [_place(x, y, across, up) for x, y in line]
        d = " ".join(f"{'L' if number else 'M'}{x:g} {y:g}" for number, (x, y) in enumerate(points))
        found.append(f'<path class="line {style}" d="{d}"/>' if len(points) > 1 else "")
    return "".join(found)


def _dots(dots: Sequence[_Dot], across: _Axis, up: _Axis) -> str:
    found: list[str] = []
    for dot in dots:
        x, y = _place(dot.x, dot.y, across, up)
        radius = 6.5 if dot.style == "proposed" else 3.8
        found.append(
            f'<circle class="mark {dot.style}" cx="{x:g}" cy="{y:g}" r="{radius}"><title>{escape(dot.told)}</title>'
            "</circle>"
        )
    return "".join(found)


# ---------------------------------------------------------------- all numbers


def _table(scores: dict[str, Any]) -> str:
    heads = "".join(f"<th>{say(name)}</th>" for name in ("Candidate", *NAMES.values()))
    rows = "".join(_table_row(one, number == scores["proposed"]) for number, one in enumerate(scores["candidates"]))
    count = plural(len(scores["candidates"]), "candidate")
    table = f'<table class="plain bands"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return (
        f'<details class="sheet" data-keep="comparing-table"><summary>{say("All numbers")} '
        f'<span class="quiet">{count}</span></summary><div class="scroll">{table}</div></details>'
    )


def _table_row(one: dict[str, Any], is_proposed: bool) -> str:
    shares = {**one["shares"], **{name: one[name] for name in ("learnt", "kept", "total")}}
    cells = "".join(f"<td>{'–' if shares[name] is None else f'{shares[name]:.2f}'}</td>" for name in NAMES)
    return f'<tr class="{"best" if is_proposed else ""}"><td>{escape(one["name"])}</td>{cells}</tr>'
