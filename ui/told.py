"""What the engine tells, as the page tells it: in the language of the request, settings by the labels of their fields.

The engine's sentences are English and hold values. `languages/LANGUAGE_told.json` has each single sentence with {1},
{2} … ({#1} for a number) where values stand, so that "… (got 7). Lower it." is two entries and the value in brackets
is none of them; LANGUAGE_phrases.json has what is no sentence: rows of the forecast, and words that stand in places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

from engine.errors import Problem, UserError
from engine.preset import BY_PATH, SECTIONS
from ui.language import either, read_part, say, speaking, spoken
from ui.words import place

SENTENCES, PHRASES = "told", "phrases"
_ANYTHING = {"{#": r"([\d.,]+)", **{f"{{{digit}": "(.+?)" for digit in range(1, 10)}}
_ENDS = re.compile(r"(?<=[.…])\s+(?=[A-Z(`1-9])")
_GOT = re.compile(r"^(?P<what>.+?) \(got (?P<value>.*)\)(?P<end>[.:]?)$", re.DOTALL)
_ABOUT = re.compile(r"((?:(?!: ).)*[/.](?:(?!: ).)*:) (.+)", re.DOTALL)  # a file or setting before what is told of it
_SETTING = re.compile(rf"(?<![\w./-])({'|'.join(SECTIONS)})\.([a-z_0-9]+)(?![\w/])")


def retold(message: str) -> str:
    """A sentence or several, from the engine or the tools."""
    return "\n".join(_retold(line, spoken()) for line in message.split("\n"))


def fault(error: UserError) -> str:
    """What a user's fault says, a line for each problem."""
    return "\n".join(map(named, error.problems))


def named(problem: Problem) -> str:
    """A problem with what it is about, in a line."""
    return f"{place(problem.where)}: {retold(problem.message)}".removeprefix(": ")


@lru_cache(4096)
def _retold(line: str, language: str) -> str:
    with speaking(language):
        return _SETTING.sub(_label, translated(line, language) or line if language != "en" else line)


def _label(found: re.Match[str]) -> str:
    item = BY_PATH.get(found[0])
    return say("“{label}”", label=either(item.label, item.zh)) if item else found[0]


def translated(line: str, language: str) -> str:
    """The line in a language, or "" where there is nothing of it in the catalogue. Pieces not in it stay English."""
    pieces = _ENDS.split(line)
    told = [_sentence(piece, language) for piece in pieces]
    if not all(told) and (whole := _found(line, _patterns(language, SENTENCES), language)):  # one with others in it
        return whole
    if not any(told):
        return "" if line.endswith(".") else _found(line, _patterns(language, PHRASES), language)
    shown = [new or old for new, old in zip(told, pieces, strict=True)]
    return "".join(text if text.endswith(("。", "？", "：")) else f"{text} " for text in shown).strip()


def _sentence(text: str, language: str) -> str:
    """One sentence, without and with the value that it got."""
    got = _GOT.fullmatch(text)
    if got is None:
        found, about = _found(text, _patterns(language, SENTENCES), language), _ABOUT.fullmatch(text)
        return found or (f"{about[1]} {rest}" if about and (rest := _sentence(about[2], language)) else "")
    what = _found(got["what"] + got["end"], _patterns(language, SENTENCES), language)
    with speaking(language):
        return what and what.removesuffix("。") + say("(got {value})", value=_value(got["value"], language)) + "。"


def _found(text: str, patterns: Sequence[tuple[re.Pattern[str], str]], language: str) -> str:
    """The text by the longest pattern that it is of."""
    for pattern, told in patterns:
        found = pattern.fullmatch(text)
        if found:
            return told.format("", *(_value(value, language) for value in found.groups()))
    return ""


def _value(value: str, language: str) -> str:
    """What stands in a sentence's place: a sentence, some words, a row of such, or a name, which is left alone."""
    if " " not in value:
        return value
    return translated(value, language) or ", ".join(translated(part, language) or part for part in value.split(", "))


@cache
def _patterns(language: str, part: str) -> list[tuple[re.Pattern[str], str]]:
    entries = read_part(language, part).items()
    ordered = sorted(entries, key=lambda entry: len(re.sub(r"\{#?\d+\}", "", entry[0])), reverse=True)
    return [(re.compile(_expression(english), re.DOTALL), told) for english, told in ordered]


def _expression(english: str) -> str:
    """A sentence with places, {1} for anything and {#1} for a number, as a regular expression."""
    pieces = re.split(r"(\{#?\d+\})", english)
    return "".join(_ANYTHING.get(piece[:2], re.escape(piece)) for piece in pieces)
