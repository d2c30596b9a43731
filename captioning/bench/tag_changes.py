"""Changes of a caption's tags, as functions from tags to tags. Case makes no difference in finding a tag."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from captioning.bench.filters import whole_match
from captioning.bench.texts import line_tags, tag_key, without_repeats
from engine.data.tags import join_tags
from engine.errors import UserError

ChangeTags = Callable[[list[str]], list[str]]


def tag_list(text: str, separator: str) -> list[str]:
    """The tags of an entry field; lines separate too."""
    return [tag for line in text.splitlines() for tag in line_tags(line, separator)]


def replacing(olds: Sequence[str], news: Sequence[str]) -> ChangeTags:
    """Each of `olds` (with * for any letters) becomes `news`, where they first stand; no new tag is there twice."""
    matches = _matcher(olds)

    def change(tags: list[str]) -> list[str]:
        if not any(map(matches, tags)):
            return tags
        result: list[str] = []
        for tag in tags:
            result += news if matches(tag) else [tag]
        return _once(result, news)

    return change


def deleting(olds: Sequence[str]) -> ChangeTags:
    matches = _matcher(olds)
    return lambda tags: [tag for tag in tags if not matches(tag)]


def adding(news: Sequence[str], at_start: bool) -> ChangeTags:
    """`news` put in, at the start or the end, but those that are there stay where they are."""

    def change(tags: list[str]) -> list[str]:
        there = {tag.casefold() for tag in tags}
        missing = [tag for tag in without_repeats(news) if tag.casefold() not in there]
        return [*missing, *tags] if at_start else [*tags, *missing]

    return change


def putting_first(word: str) -> ChangeTags:
    """The word in front, once, wherever it stood."""
    return lambda tags: [word, *(tag for tag in tags if tag.casefold() != word.casefold())]


def respelled(tags: Sequence[str], kept: Mapping[str, str]) -> list[str]:
    """Tags in the spelling to keep; those that thereby become equal are there once."""
    after = [kept.get(tag, tag) for tag in tags]
    return list(tags) if after == list(tags) else _once(after, list(kept.values()))


def tidied(line: str, separator: str) -> str:
    """The tags with one blank inside and between them, none empty or twice."""
    return join_tags(without_repeats(" ".join(tag.split()) for tag in line_tags(line, separator)), separator)


def replace_plain(text: str, find: str, new: str, match_case: bool) -> str:
    if match_case:
        return text.replace(find, new)
    return re.sub(re.escape(find), lambda match: new, text, flags=re.IGNORECASE)


def key_counts(spelling_counts: Mapping[str, int]) -> Counter[str]:
    """Counts by tag_key of counts by spelling."""
    counts: Counter[str] = Counter()
    for tag, count in spelling_counts.items():
        counts[tag_key(tag)] += count
    return counts


def whole_number(value: Any, label: str) -> int:
    """An entry field's number, 0 where it is empty. Raises UserError."""
    text = str(value or "0").strip()
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise UserError(f"is a whole number from 0 on (got {text!r}).", label)
    return int(text)


def _matcher(olds: Sequence[str]) -> Callable[[str], bool]:
    exact = {old.casefold() for old in olds if "*" not in old}
    patterns = [whole_match(old.casefold()) for old in olds if "*" in old]
    return lambda tag: tag.casefold() in exact or any(matches(tag.casefold()) for matches in patterns)


def _once(tags: Sequence[str], once: Sequence[str]) -> list[str]:
    """The tags, those of `once` only at their first place."""
    limited, seen, result = {tag.casefold() for tag in once}, set[str](), []
    for tag in tags:
        key = tag.casefold()
        if key in limited and key in seen:
            continue
        seen.add(key)
        result.append(tag)
    return result
