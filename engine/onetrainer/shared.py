"""Rules that many keys share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.kohya.receipt import Outcome
from engine.onetrainer.keys import DEFAULTS

Values = Mapping[str, Any]
Rule = Callable[[Values, str], Outcome]


def straight(setting: str, kind: type = float) -> Rule:
    """The same value under another name."""
    return lambda values, key: Outcome("honoured", {setting: kind(values[key] or 0)})


def chosen(setting: str, words: Mapping[str, str], note: str = "") -> Rule:
    """One of a list of words, in ours."""

    def rule(values: Values, key: str) -> Outcome:
        word = str(values[key])
        if word in words:
            return Outcome("converted", {setting: words[word]}, note)
        return Outcome("ignored_effect", note=f"Atelier knows {', '.join(words)}", setting=setting)

    return rule


def unless_default(values: Values, key: str, why: str) -> Outcome:
    if values[key] in (None, DEFAULTS[key]):
        return Outcome("ignored_default")
    return Outcome("ignored_effect", note=f"had no effect there either: {why}")


def told_by(other: str, setting: str) -> Rule:
    """A key that is read together with another one."""

    def rule(values: Values, key: str) -> Outcome:
        if values[key] in (None, DEFAULTS[key]):
            return Outcome("ignored_default", setting=setting)
        return Outcome("converted", note=f"read together with {other}", setting=setting)

    return rule


def fixed(note: str) -> Rule:
    return lambda values, key: Outcome("converted", note=note)
