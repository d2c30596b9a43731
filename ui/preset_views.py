"""What the tab Presets shows, as HTML: a preset's note, what it changes, the receipt of an import, what is lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.kohya import Export, Line, Receipt
from engine.kohya.receipt import TITLES, Group
from engine.preset import BY_PATH, Preset
from ui import form as forms
from ui.language import say
from ui.told import retold
from ui.words import escape, place, plural

_LONGEST_VALUE = 160
# The order in which people need them; the first two stand open
_GROUPS: tuple[tuple[Group, str, bool], ...] = (
    ("ignored_effect", "warning", True),
    ("converted", "", False),
    ("honoured", "", False),
    ("ignored_default", "", False),
)


def about(preset: Preset, own: bool) -> str:
    """What a preset says about itself, and whose it is."""
    text = (
        escape(preset.about if own else retold(preset.about))
        or f'<span class="quiet">{say("This preset carries no note.")}</span>'
    )
    whose = say("yours") if own else say("comes with Atelier")
    author = say("by {author}, ", author=escape(preset.author)) if preset.author else ""
    return f'<p class="about">{text}</p><p class="quiet">{author}{whose}</p>'


def changes(rows: Sequence[tuple[str, Any, Any]], kept: Sequence[str]) -> str:
    """What loading changes in the form, before it is done."""
    left_alone = f'<p class="quiet">{say("Stays as it is: {settings}.", settings=_labels(kept))}</p>' if kept else ""
    if not rows:
        return f'<p class="quiet">{say("The form holds these settings already.")}</p>{left_alone}'
    head = say("Loading changes {settings}", settings=plural(len(rows), "setting"))
    table = settings_table(rows, (say("In the form"), say("Then")))
    return f'<details class="changes"><summary>{head}</summary>{table}</details>{left_alone}'


def loaded(title: str, kept: Sequence[str]) -> str:
    before = say("Kept from before: {settings}.", settings=_labels(kept))
    stays = f' <span class="quiet">{before}</span>' if kept else ""
    return f'<p class="done">{say("“{title}” is in the form now.", title=escape(title))}{stays}</p>'


def settings_table(rows: Iterable[tuple[str, Any, Any]], heads: tuple[str, str]) -> str:
    """Settings with two values each."""
    cells = "".join(
        f"<tr><td>{escape(_section(path))}</td><td>{escape(place(path))}</td>"
        f"<td><code>{_value(path, one)}</code></td><td><code>{_value(path, two)}</code></td></tr>"
        for path, one, two in rows
    )
    titles = "".join(f"<th>{head}</th>" for head in (say("Section"), say("Setting"), *heads))
    return f'<table class="plain"><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table>'


def receipt(found: Receipt, file: str) -> str:
    """What became of each key of an imported file, group by group."""
    parts = [f"<h4>{escape(file)}: {escape(retold(found.kind))}, {plural(len(found.lines()), 'key')}</h4>"]
    parts += [f'<p class="quiet">{escape(retold(warning))}</p>' for warning in found.warnings]
    for group, style, is_open in _GROUPS:
        lines: tuple[Line, ...] = getattr(found, group)
        if lines:
            head = say("{what}: {count}", what=say(TITLES[group]), count=len(lines))
            heads = (say("Key"), say("There"), say("Here"), "")
            parts.append(_group(head, style, is_open, map(_receipt_row, lines), heads))
    return f'<div class="sheet receipt">{"".join(parts)}</div>'


def export(made: Export) -> str:
    """What a kohya_ss file cannot hold."""
    notes = "".join(f'<p class="quiet">{escape(retold(note))}</p>' for note in made.notes)
    if not made.lost:
        body = f"<p>{say('Everything in this preset can be said in it.')}</p>"
    else:
        rows = (
            f"<tr><td>{escape(_label(item.setting))}</td><td><code>{_short(item.value)}</code></td>"
            f"<td><code>{_short(item.there)}</code></td><td>{escape(retold(item.note))}</td></tr>"
            for item in made.lost
        )
        head = say("What kohya_ss cannot hold, or holds differently: {count}", count=len(made.lost))
        body = _group(head, "warning", True, rows, (say("Setting"), say("Here"), say("There"), ""))
    title = say("kohya_ss preset, {count} keys", count=len(made.content))
    return f'<div class="sheet receipt"><h4>{title}</h4>{body}{notes}</div>'


def _group(head: str, style: str, is_open: bool, rows: Iterable[str], heads: Sequence[str]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in heads)
    table = f'<table class="plain"><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    opened = " open" if is_open else ""
    return f'<details class="group {style}"{opened}><summary>{escape(head)}</summary>{table}</details>'


def _receipt_row(line: Line) -> str:
    settings = ", ".join(_label(path) for path in line.setting.split(", ") if path)
    return (
        f"<tr><td><code>{escape(line.key)}</code></td><td><code>{_short(line.value)}</code></td>"
        f"<td>{escape(settings)}</td><td>{escape(retold(line.note))}</td></tr>"
    )


def _label(path: str) -> str:
    return f"{_section(path)}: {place(path)}" if path in BY_PATH else say(path.capitalize())


def _section(path: str) -> str:
    return say(BY_PATH[path].section.capitalize())


def _labels(paths: Sequence[str]) -> str:
    return escape(say(", ").join(place(path) if path in BY_PATH else say(path.capitalize()) for path in paths))


def _value(path: str, value: Any) -> str:
    return _short(forms.show(BY_PATH[path], value))


def _short(value: Any) -> str:
    """A value as people read it, cut where it is very long."""
    if isinstance(value, bool):
        return say("on") if value else say("off")
    text = " ".join(str(value).split()) if value is not None else ""
    return escape(text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…") or say("empty")
