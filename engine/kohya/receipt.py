"""The receipt of an import: each key of the file in exactly one group, with what became of it. No secret is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Literal

from engine.errors import Problem
from engine.kohya.values import HIDDEN, SECRETS

Group = Literal["honoured", "converted", "ignored_default", "ignored_effect"]
GROUPS: tuple[Group, ...] = ("honoured", "converted", "ignored_default", "ignored_effect")
TITLES: dict[Group, str] = {
    "honoured": "Taken over as they are",
    "converted": "Taken over in other words",
    "ignored_effect": "NOT taken over, and they are not at their default",
    "ignored_default": "Left out at their default, nothing is lost",
}


@dataclass(frozen=True)
class Outcome:
    """What a rule makes of one key: its group, the settings it sets, and a note."""

    group: Group
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    setting: str = ""

    @property
    def shown_setting(self) -> str:
        return self.setting or ", ".join(self.settings)


@dataclass(frozen=True)
class Line:
    """One key of the file: its value there, the settings it became ("section.name", comma-separated), and a note."""

    key: str
    value: Any
    setting: str
    note: str


@dataclass(frozen=True)
class Receipt:
    """What became of every key; `warnings` tell what the file leaves to a default that Atelier cannot follow."""

    kind: str
    honoured: tuple[Line, ...] = ()
    converted: tuple[Line, ...] = ()
    ignored_default: tuple[Line, ...] = ()
    ignored_effect: tuple[Line, ...] = ()
    warnings: tuple[str, ...] = ()

    def lines(self) -> tuple[Line, ...]:
        """All lines, group by group."""
        return tuple(line for group in GROUPS for line in getattr(self, group))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        groups = {group: [asdict(line) for line in getattr(self, group)] for group in GROUPS}
        return {"kind": self.kind, **groups, "warnings": list(self.warnings)}

    def text(self, problems: Iterable[Problem] = ()) -> str:
        """The receipt to read: counts, then every key whose value changed or was lost."""
        parts = [f"This is {self.kind}: {len(self.lines())} keys."]
        for group in ("honoured", "converted", "ignored_effect", "ignored_default"):
            found: tuple[Line, ...] = getattr(self, group)
            parts.append(f"\n{TITLES[group]}: {len(found)}")
            if group != "ignored_default":
                parts += [_sentence(line) for line in found]
        parts += [f"\nNote: {warning}" for warning in self.warnings]
        parts += [f"\nTo mend: {problem}" for problem in problems]
        return "\n".join(parts)


def make_receipt(kind: str, outcomes: Iterable[tuple[str, Any, Outcome]], warnings: Iterable[str] = ()) -> Receipt:
    """Sort (key, value in the file, outcome) into the groups, secrets blacked out."""
    listed = list(outcomes)
    secrets = secrets_of(listed)
    groups: dict[Group, list[Line]] = {group: [] for group in GROUPS}
    for key, value, outcome in listed:
        shown = HIDDEN if SECRETS.search(key) and value not in ("", None) else black_out(value, secrets)
        note = black_out(outcome.note, secrets)
        groups[outcome.group].append(Line(key, shown, outcome.shown_setting, note))
    return Receipt(
        kind,
        **{group: tuple(lines) for group, lines in groups.items()},
        warnings=tuple(black_out(warning, secrets) for warning in warnings),
    )


def secrets_of(outcomes: Iterable[tuple[str, Any, Outcome]]) -> set[str]:
    """The texts of a file that must be neither shown nor written."""
    return set(_secrets({key: value for key, value, _ in outcomes}))


def black_out(value: Any, secrets: Iterable[str]) -> Any:
    """The value with every secret in it hidden, however deep."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {key: HIDDEN if SECRETS.search(str(key)) else black_out(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list):
        return [black_out(inner, secrets) for inner in value]
    return value


def _secrets(content: Mapping[str, Any]) -> Iterable[str]:
    """Texts that must not be shown: values of secret keys, and of secret options in free text."""
    for key, value in content.items():
        if SECRETS.search(str(key)) and isinstance(value, str) and len(value.strip()) > 3:
            yield value.strip()
        elif isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and "--" in value:
            words = value.replace("=", " ").split()
            yield from (
                after.strip("\"'")
                for word, after in pairwise(words)
                if word.startswith("--") and SECRETS.search(word[2:]) and after.strip("\"'")
            )


def _sentence(line: Line) -> str:
    target = f" → {line.setting}" if line.setting else ""
    note = f" ({line.note})" if line.note else ""
    return f"  {line.key} = {_short(line.value)}{target}{note}"


def _short(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split()) or "empty"
    return text if len(text) <= 70 else text[:67] + "…"
