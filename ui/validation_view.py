"""A run's validations on the page: the curve beside the loss, the best marked, and the loss by timesteps. Pure text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from engine.events import Validated
from ui.charts import Line
from ui.language import say

Validations = Mapping[int, Validated]


def lines(found: Validations) -> list[Line]:
    """The validation losses as one line of points, the best with a ring; none where nothing was measured."""
    if not found:
        return []
    steps = sorted(found)
    return [Line(say("validation"), steps, [found[step].loss for step in steps], "points", marked=_best(found))]


def legend(found: Validations) -> str:
    return f'<span class="key points">{say("validation (ring: the best)")}</span>' if found else ""


def figures(found: Validations) -> list[tuple[str, str]]:
    """Name and value for the panel at the top."""
    best = _best(found)
    loss = found[max(found)].best_loss if best else None
    return (
        [(say("Best validation"), say("{loss} at step {step}", loss=f"{loss:.4f}", step=f"{best:,}"))]
        if loss is not None
        else []
    )


def bands(found: Validations) -> str:
    """A small table: the loss in each band of timesteps before training, at the best step, and now."""
    if not found or not found[max(found)].edges:
        return ""
    best, last = _best(found), max(found)
    edges = found[last].edges
    shown = dict.fromkeys(step for step in (min(found), best, last) if step in found)
    head = "".join(f"<th>{low}–{high - 1}</th>" for low, high in itertools.pairwise(edges))
    rows = []
    for step in sorted(shown):
        name = say("before") if step == 0 else say("step {number}", number=f"{step:,}")
        name += say(" (best)") if step == best and step else ""
        cells = "".join(f"<td>{_number(value)}</td>" for value in [*found[step].bands, found[step].loss])
        rows.append(f'<tr class="{"best" if step == best else ""}"><td>{name}</td>{cells}</tr>')
    top = f"<tr><th>{say('Validation loss at timesteps')}</th>{head}<th>{say('all')}</th></tr>"
    table = f'<table class="plain bands"><thead>{top}</thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _best(found: Validations) -> int:
    """The best step so far; 0 where there is none."""
    return found[max(found)].best_step if found else 0


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
