"""A caption that two have edited: their tags put together (three-way merge by tags)."""

from __future__ import annotations

from captioning.bench.texts import line_tags
from engine.data.tags import join_tags


def merged(base: str, theirs: str, mine: str, separator: str) -> str:
    """What both edits of `base` ask for: their text without the tags I took out, with those that I put in.

    base: the text that both began with. A tag that I put in stands behind the tag that it follows in my text. Where
    only one of the two changed anything the result is that one. Captions of several lines are merged line by line if
    all three have as many lines; otherwise the lines of both are kept.
    """
    if mine in (theirs, base):
        return theirs
    if theirs == base:
        return mine
    lines = [text.splitlines() or [""] for text in (base, theirs, mine)]
    if len({len(part) for part in lines}) == 1:
        return "\n".join(_merged_line(was, their, my, separator) for was, their, my in zip(*lines, strict=True))
    return "\n".join(dict.fromkeys([*lines[1], *lines[2]]))


def _merged_line(base: str, theirs: str, mine: str, separator: str) -> str:
    if mine in (theirs, base):
        return theirs
    if theirs == base:
        return mine
    was, my_tags = set(line_tags(base, separator)), line_tags(mine, separator)
    mine_now = set(my_tags)
    result = [tag for tag in line_tags(theirs, separator) if tag in mine_now or tag not in was]
    for at, tag in enumerate(my_tags):
        if tag in was or tag in result:
            continue
        before = next((result.index(left) + 1 for left in reversed(my_tags[:at]) if left in result), 0)
        result.insert(before, tag)
    return join_tags(result, separator)
