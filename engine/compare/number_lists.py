"""Lists as people write them. Numbers: `1, 2, 5`, ranges `0.1-1:0.1`, and A1111's `1-9 (+2)` and `1-9 [5]`."""

from __future__ import annotations

import re
from decimal import Decimal

MOST_VALUES = 500
"""So many values an axis may have."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER})\s*(?:-|–|…|\.\.\.?)\s*({_NUMBER})\s*(?::\s*({_NUMBER})|\(({_NUMBER})\)|\[(\d+)\])?")
_WHAT = "is no number and no range like 1-5 or 0.2-1:0.2"


def lines_of(text: str) -> list[str]:
    """The lines, without those that are empty or begin with #."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def words_of(text: str) -> list[str]:
    """What stands between commas and line ends, without what is empty."""
    return [word for word in (part.strip() for part in re.split(r"[,\n]", text)) if word]


def numbers_of(text: str) -> tuple[list[Decimal], list[str]]:
    """The numbers in their order, each once, exact as written; and a sentence for each word that is none."""
    found: dict[Decimal, None] = {}
    faults: list[str] = []
    for word in words_of(text):
        try:
            found |= dict.fromkeys(_numbers(word))
        except ValueError as error:
            faults.append(f"{error} (got {word!r}).")
    return list(found), faults


def _numbers(word: str) -> list[Decimal]:
    if re.fullmatch(_NUMBER, word):
        return [Decimal(word)]
    match = _RANGE.fullmatch(word)
    if match is None:
        raise ValueError(_WHAT)
    low, high = Decimal(match[1]), Decimal(match[2])
    if match[5]:
        return _spread(low, high, int(match[5]))
    step = Decimal(match[3] or match[4] or 1)
    step = -step if low > high and step > 0 and not match[4] else step
    if not step or (high - low) * step < 0:
        raise ValueError("is a range whose step does not lead to its end")
    count = int((high - low) / step) + 1
    if count > MOST_VALUES:
        raise ValueError(f"is a range of {count:,} values; {MOST_VALUES} are the most")
    return [low + step * place for place in range(count)]


def _spread(low: Decimal, high: Decimal, count: int) -> list[Decimal]:
    if not 2 <= count <= MOST_VALUES:
        raise ValueError(f"is a range of {count} values; write 2 to {MOST_VALUES} in the brackets")
    return [round(low + (high - low) * place / (count - 1), 6).normalize() for place in range(count)]


def shown(number: Decimal) -> str:
    """0.30 → "0.3", 1E+1 → "10"."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
