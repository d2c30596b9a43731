"""Fonts for legends: the one that Pillow carries, a chosen file, or one of this computer that has all the letters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import ImageFont

from engine.errors import UserError
from engine.preset import resolve

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Files that Pillow finds in the folders of the system, for scripts that the font of its own has not
OTHERS = (
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "msyh.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc",
    "wqy-microhei.ttc", "SourceHanSansSC-Regular.otf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf",
)  # fmt: skip
PLAIN = {"…": "...", "×": "x", "·": "-", "–": "-", "’": "'", "“": '"', "”": '"'}
"""What stands for marks that a font has not."""
_NO_LETTER = "\U0010ffff"


def font_for(texts: Sequence[str], size_px: int, chosen: str = "") -> Font:
    """The chosen font, else the first that has every letter of the texts, else Pillow's. UserError for a bad file."""
    if chosen:
        path = resolve(chosen)
        try:
            return ImageFont.truetype(path, size_px)
        except OSError as error:
            raise UserError(f"{path} cannot be read as a font ({error}). Choose another.", "grid.font") from None
    own = ImageFont.load_default(size_px)
    letters = sorted({letter for text in texts for letter in text if not letter.isspace() and letter not in PLAIN})
    if not lacks(own, letters):
        return own
    for name in OTHERS:
        font = _system_font(name, size_px)
        if font is not None and not lacks(font, letters):
            return font
    return own


def spelled(text: str, font: Font) -> str:
    """The text with plain marks in the place of those that the font has not."""
    missing = lacks(font, [letter for letter in PLAIN if letter in text])
    return text.translate({ord(letter): PLAIN[letter] for letter in missing})


def lacks(font: Font, letters: Sequence[str]) -> list[str]:
    """The letters that a font would show as an empty box."""
    box = _drawn(font, _NO_LETTER)
    return [letter for letter in letters if _drawn(font, letter) == box]


def _drawn(font: Font, letter: str) -> bytes:
    mask: Any = font.getmask(letter)
    return bytes(mask)


@cache
def _system_font(name: str, size_px: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return None


def wrapped(text: str, font: Font, width_px: int, most_lines: int) -> list[str]:
    """Lines no wider than `width_px`: broken at spaces, else after / _ - . , else anywhere; what is too much for
    `most_lines` loses its middle, since beginning and end tell most.
    """
    text = spelled(text, font)
    lines = _lines(text, font, width_px)
    if len(lines) <= most_lines:
        return lines
    kept, gap = len(text), spelled("…", font)
    while kept > 2 and len(lines) > most_lines:
        kept = max(2, kept * 9 // 10)
        lines = _lines(f"{text[: kept - kept // 2].rstrip()}{gap}{text[-(kept // 2) :].lstrip()}", font, width_px)
    return lines[:most_lines]


def _lines(text: str, font: Font, width_px: int) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        rest = paragraph.strip()
        while rest and font.getlength(rest) > width_px:
            at = _break_at(rest, font, width_px)
            lines.append(rest[:at].rstrip())
            rest = rest[at:].lstrip()
        lines.append(rest)
    return lines


def _break_at(text: str, font: Font, width_px: int) -> int:
    low, high = 1, len(text)
    while low < high:  # the most letters that fit
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width_px else (low, middle - 1)
    for marks in (" ", "/\\_-.,·"):
        at = max((text.rfind(mark, 1, low) for mark in marks), default=-1)
        if at >= low // 3:
            return at + 1
    return low
