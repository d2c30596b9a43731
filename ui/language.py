"""The page in the language of who looks at it: English sentences in the code, other languages in ui/languages/.

A sentence is written in English where it is used, as `say("{count} of {total}", count=…, total=…)`. Each request has
its language (a cookie that the switch on the page sets, else what the browser prefers), so that one program serves
every window in its own. What was drawn when the page was built is told in that language when the page is opened:
page_language.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from gradio.context import Context

LANGUAGES = {"en": "English", "zh": "简体中文"}
COOKIE = "atelier_language"
FOLDER = Path(__file__).parent / "languages"
# LANGUAGE_PART.json: {English: the same}
PARTS = ("page", "help", "choices", "tools", "lora_tools", "comparing", "failures")

_spoken: ContextVar[str] = ContextVar("language", default="en")
built: dict[str, tuple[str, dict[str, Any]]] = {}  # sentences with values that were said while the page was built


def spoken() -> str:
    """The language of the present request; English outside of requests."""
    return _spoken.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Say everything in this language until the end of the block."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def say(sentence: str, /, **values: Any) -> str:
    """The sentence in the language of the present request, its {places} filled with `values` as they are."""
    found = catalogue(spoken()).get(sentence, sentence)
    said = found.format(**values) if values else found
    if values and Context.root_block is not None:
        built[said] = sentence, values
    return said


def word(sentence: str) -> str:
    """Marks a sentence that is kept in a table and said later, with `say(table[…])`."""
    return sentence


def either(english: str, chinese: str) -> str:
    """The label of a setting, which is declared in both languages."""
    return chinese if spoken() == "zh" and chinese else english


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English sentence → the same in a language; empty for English."""
    found: dict[str, str] = {}
    for part in PARTS if language != "en" else ():
        found |= read_part(language, part)
    return found


def read_part(language: str, part: str) -> dict[str, str]:
    return json.loads((FOLDER / f"{language}_{part}.json").read_text(encoding="utf-8"))


def chosen(cookies: str, preferred: str) -> str:
    """The language of a request by its headers Cookie and Accept-Language."""
    try:
        kept = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        kept = None
    if kept is not None and kept.value in LANGUAGES:
        return kept.value
    return next((name for name in _by_preference(preferred) if name in LANGUAGES), "en")


def _by_preference(header: str) -> Iterable[str]:
    """The languages of Accept-Language without their regions, the most wanted first: "zh-CN,zh;q=0.9,en;q=0.8"."""
    ranked: list[tuple[float, str]] = []
    for entry in header.split(",")[:20]:
        name, _, quality = entry.strip().partition(";q=")
        try:
            ranked.append((float(quality or 1), name.partition("-")[0].lower()))
        except ValueError:
            continue
    return [name for quality, name in sorted(ranked, key=lambda item: -item[0]) if quality > 0]


class LanguageOfRequest:
    """ASGI middleware: what a request leads to is said in its language."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        with speaking(chosen(headers.get(b"cookie", ""), headers.get(b"accept-language", ""))):
            await self.app(scope, receive, send)
