"""The filter language of the workbench: `tag:dog NOT (tokens > 75 OR folder:old*)`.

any     := all ("OR" all)*
all     := one (["AND"] one)*                  side by side means both
one     := "NOT" one | "(" any ")" | count compare number | field ":" value | "untagged" | value
field   := tag | text | name | folder          count := tags | tokens | chars | words | lines
value   := a word, or anything in "double quotes"; * stands for any letters
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from captioning.bench.texts import tag_key
from engine.errors import UserError

COUNTS = ("tags", "tokens", "chars", "words", "lines")
_MOST_CHARACTERS = 2000
_DEEPEST = 40
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    ">=": operator.ge, "<=": operator.le, "!=": operator.ne, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:(?P<open>\()|(?P<close>\))|(?P<compare>>=|<=|!=|[<>=])|(?P<field>(?:tag|text|name|folder):)"""
    r"""|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<broken>")|(?P<word>[^\s()"<>=!]+(?:\([^\s()"]*\)[^\s()"<>=!]*)*|!))""",
    re.VERBOSE | re.IGNORECASE,
)


class Captioned(Protocol):
    """What a filter asks of an image."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def tag_keys(self) -> frozenset[str]: ...
    def count(self, what: str) -> int: ...


Filter = Callable[[Captioned], bool]


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def value(self) -> str:
        return re.sub(r"\\(.)", r"\1", self.text[1:-1]) if self.kind == "quoted" else self.text


def parse(text: str) -> Filter:
    """The filter that a text describes; an empty text lets everything through. Raises UserError naming the place."""
    if len(text) > _MOST_CHARACTERS:
        raise _fault(f"is longer than {_MOST_CHARACTERS} characters. Shorten it", len(text))
    parser = _Parser(list(_tokens(text)), len(text))
    return parser.whole() if parser.tokens else lambda item: True


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise _fault(f"{text[at : at + 10].strip()!r} cannot be read. Put it into double quotes", at + 1)
        begin = found.start(found.lastgroup)
        if found.lastgroup == "broken":
            raise _fault('the double quote is never closed. Write another " behind the text', begin + 1)
        yield _Token(found.lastgroup, found[found.lastgroup], begin + 1)
        at = found.end()


class _Parser:
    """Recursive descent over the tokens; one method a line of the grammar."""

    def __init__(self, tokens: list[_Token], length: int) -> None:
        self.tokens, self.next, self.end, self.depth = tokens, 0, length + 1, 0

    def whole(self) -> Filter:
        found = self._any()
        if (left := self._peek()) is not None:
            raise _fault(f"{left.text!r} has no opening bracket. Remove it or write ( before", left.at)
        return found

    def _any(self) -> Filter:
        choices = [self._all()]
        while self._take("OR"):
            choices.append(self._all())
        return choices[0] if len(choices) == 1 else lambda item: any(choice(item) for choice in choices)

    def _all(self) -> Filter:
        parts = [self._one()]
        while (token := self._peek()) is not None and token.kind != "close" and not _is(token, "OR"):
            self._take("AND")
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda item: all(part(item) for part in parts)

    def _one(self) -> Filter:
        token = self._peek()
        if token is None or token.kind == "close" or _is(token, "OR") or _is(token, "AND"):
            at, before = (token.at if token else self.end), self.tokens[self.next - 1].text if self.next else ""
            place = f"after {before!r} " if before else f"before {token.text!r} " if token else ""
            raise _fault(f"something is missing {place}to filter by. Write a word or tag:name there", at)
        self.next += 1
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _fault(f"brackets and NOT are more than {_DEEPEST} deep. Simplify it", token.at)
        found = self._after(token)
        self.depth -= 1
        return found

    def _after(self, token: _Token) -> Filter:
        if _is(token, "NOT"):
            inner = self._one()
            return lambda item: not inner(item)
        if token.kind == "open":
            inner = self._any()
            if (close := self._peek()) is None or close.kind != "close":
                raise _fault("the bracket ( is never closed. Write ) behind its content", token.at)
            self.next += 1
            return inner
        if token.kind == "field":
            return _field(token.text[:-1].lower(), self._value_of(token))
        if token.kind == "compare":
            names = ", ".join(COUNTS)
            raise _fault(f"{token.text!r} needs a count before it. Write one of {names} there", token.at)
        following = self._peek()
        if following is not None and following.kind == "compare":
            return self._comparison(token, following)
        if token.kind == "word" and token.text.lower() == "untagged":
            return lambda item: not item.text.strip()
        return _field("text", token.value)

    def _comparison(self, name: _Token, compare: _Token) -> Filter:
        what = name.text.lower()
        if what not in COUNTS:
            names, mark = ", ".join(COUNTS), compare.text
            what = (
                f"{name.text!r} cannot be counted. Write one of {names}, or put a text with {mark} into double quotes"
            )
            raise _fault(what, name.at)
        self.next += 1
        number = self._peek()
        if number is None or not re.fullmatch(r"[0-9]{1,9}", number.text):
            got = f" (got {number.text!r})" if number else ""
            raise _fault(f"a whole number is missing behind {compare.text}{got}", number.at if number else self.end)
        self.next += 1
        compares, limit = _COMPARE[compare.text], int(number.text)
        return lambda item: compares(item.count(what), limit)

    def _value_of(self, field: _Token) -> str:
        token = self._peek()
        if token is None or token.kind not in ("word", "quoted") or not token.value.strip():
            raise _fault(f'nothing stands behind {field.text!r}. Write a word or "several words"', field.at)
        self.next += 1
        return token.value

    def _peek(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def _take(self, word: str) -> bool:
        token = self._peek()
        if token is None or not _is(token, word):
            return False
        self.next += 1
        return True


def _is(token: _Token, word: str) -> bool:
    return token.kind == "word" and token.text == word


def _field(field: str, value: str) -> Filter:
    if field == "tag":
        wanted = tag_key(value)
        if "*" in wanted:
            matches = whole_match(wanted)
            return lambda item: any(matches(key) for key in item.tag_keys)
        return lambda item: wanted in item.tag_keys
    wanted = value.casefold()
    if field == "text":
        contains = _contains(wanted)
        return lambda item: contains(item.text.casefold())
    matches = whole_match(wanted) if "*" in wanted else _contains(wanted)
    if field == "name":
        return lambda item: matches(item.name.casefold())
    return lambda item: matches(item.folder.casefold())


def whole_match(pattern: str) -> Callable[[str], bool]:
    """Whether all of a text fits a pattern in which * stands for any letters; takes linear time."""
    first, *rest = pattern.split("*")
    if not rest:
        return lambda text: text == first
    *middle, last = rest

    def matches(text: str) -> bool:
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        return _in_order(text, middle, len(first), len(text) - len(last))

    return matches


def _contains(pattern: str) -> Callable[[str], bool]:
    parts = [part for part in pattern.split("*") if part]
    return lambda text: _in_order(text, parts, 0, len(text))


def _in_order(text: str, parts: list[str], begin: int, end: int) -> bool:
    for part in parts:
        found = text.find(part, begin, end)
        if found < 0:
            return False
        begin = found + len(part)
    return True


def _fault(what: str, at: int) -> UserError:
    return UserError(f"{what} (character {at}).", "The filter")
