"""What the tools tell that read LoRA files, as HTML: facts, differences, checks. All of a file is shown as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.lora_tools.facts import Facts
from engine.plan_sizes import size_text
from engine.tools.tool import Proposal
from ui.language import say
from ui.words import escape

_PICTURE = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=\s]{16,3000000}")
_MOST_METADATA, _LONGEST = 200, 400
_MOST_SHOWN_TAGS = 60


def report(tool: str, found: Proposal) -> str | None:
    """What a tool read, where it is one that tells; None otherwise."""
    if tool not in _REPORTS or found.content is None:
        return None
    return _REPORTS[tool](found.content)


def _inspected(look: Any) -> str:
    facts: Facts = look.facts
    parts = [
        _sheet(say("What it is"), _picture(facts.thumbnail) + _pairs(_about(facts))),
        _sheet(say("Layers"), _blocks(facts)),
    ]
    if look.difference is not None:
        parts.insert(0, _sheet(say("What differs"), _difference(look.difference)))
    if facts.card:
        parts.append(_sheet(say("Card"), _pairs(facts.card)))
    if facts.training:
        parts.append(_sheet(say("Training"), _pairs(facts.training)))
    if facts.tags:
        parts.append(_sheet(say("Tags in its captions"), _tags(facts.tags)))
    parts.append(_sheet(say("Hashes"), _pairs(facts.hashes)))
    parts.append(_metadata(facts.metadata))
    return f'<div class="lora-report">{"".join(parts)}</div>'


def _about(facts: Facts) -> list[tuple[str, str]]:
    kinds = ", ".join(f"{name} ({count:,})" for name, count in facts.families.items())
    formats = ", ".join(f"{name} ({count:,})" for name, count in facts.formats.items())
    rows = [
        (say("File"), facts.path),
        (say("Size"), size_text(facts.size_bytes)),
        (say("Kind"), kinds),
        (say("Number formats"), formats),
        (say("Names"), facts.naming),
    ]
    return [*rows, (say("Trigger words"), ", ".join(facts.triggers))] if facts.triggers else rows


def _blocks(facts: Facts) -> str:
    largest = max((block.norm or 0.0 for block in facts.blocks), default=0.0)
    rows = []
    for block in facts.blocks:
        share = 100 * (block.norm or 0.0) / largest if largest else 0.0
        bar = f'<div class="bar"><div style="width:{share:.1f}%"></div></div>' if block.norm is not None else ""
        norm = "" if block.norm is None else f"{block.norm:.3g}"
        cells = (block.name, f"{block.layers:,}", block.ranks, block.alphas, norm)
        texts = "".join(
            f'<td class="{"number" if place else ""}">{escape(cell)}</td>' for place, cell in enumerate(cells)
        )
        rows.append(f"<tr>{texts}<td>{bar}</td></tr>")
    heads = (say("Block"), say("Layers"), say("Rank"), say("Alpha"), say("Size of the change"), "")
    return _table(heads, rows)


def _difference(difference: Any) -> str:
    if not difference.rows:
        return f"<p>{say('Nothing: weights and metadata are the same.')}</p>"
    rows = ["".join(("<tr>", *(f"<td>{escape(cell)}</td>" for cell in row), "</tr>")) for row in difference.rows]
    return _table(("", say("The first"), say("The second")), rows)


def _tags(tags: Sequence[tuple[str, int]]) -> str:
    shown = "".join(f'<span class="tag">{escape(tag)} · {count:,}</span> ' for tag, count in tags[:_MOST_SHOWN_TAGS])
    more = len(tags) - _MOST_SHOWN_TAGS
    rest = f' <span class="quiet">{say("and {count} more", count=f"{more:,}")}</span>' if more > 0 else ""
    return f'<p class="lora-tags">{shown}{rest}</p>'


def _metadata(metadata: dict[str, str]) -> str:
    rows = [(key, text if len(text) <= _LONGEST else text[:_LONGEST] + " …") for key, text in sorted(metadata.items())]
    title = say("All metadata ({count})", count=f"{len(metadata):,}")
    return f'<details class="group"><summary>{title}</summary>{_pairs(rows[:_MOST_METADATA])}</details>'


def _picture(url: str) -> str:
    """The thumbnail, where it is a picture and nothing else."""
    if not _PICTURE.fullmatch(url):
        return ""
    return f'<img class="lora-thumbnail" alt="" src="{escape(url)}">'


def _checked(checks: Sequence[Any]) -> str:
    rows = [
        f'<tr><td><span class="tag {"good" if check.is_good else "bad"}">{say("good") if check.is_good else say("bad")}'
        f"</span></td><td>{escape(check.name)}</td><td>{escape(check.note)}</td></tr>"
        for check in checks
    ]
    return f'<div class="lora-report">{_sheet(say("Checks"), _table(("", say("What"), say("Result")), rows))}</div>'


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in pairs)
    return f'<table class="plain facts"><tbody>{rows}</tbody></table>'


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _sheet(title: str, content: str) -> str:
    return f'<div class="sheet"><h4>{title}</h4>{content}</div>'


_REPORTS: dict[str, Callable[[Any], str]] = {"inspect": _inspected, "verify": _checked}
