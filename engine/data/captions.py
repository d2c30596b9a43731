"""Caption files: found beside their image, read in whatever encoding they are in."""

from __future__ import annotations

import codecs
import os
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

CAPTION_SUFFIXES = (".txt", ".caption", ".tags")  # what tools write; a missing caption is looked for among these

_UNDEFINED_IN_CP1252 = frozenset((0x81, 0x8D, 0x8F, 0x90, 0x9D))
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_FIRST_BYTES = 1 << 11  # nearly every caption is shorter, and room for more costs time for each of thousands of files
_BLOCK_BYTES = 1 << 16
_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class CaptionText(NamedTuple):
    """A caption file's text; `guessed` names the encoding when the file does not tell and is not UTF-8.

    `unread_lines`: how many lines with anything in them follow the one that was read.
    """

    text: str
    guessed: str = ""
    unread_lines: int = 0


def read_caption(path: str | os.PathLike[str], all_lines: bool = False) -> CaptionText:
    """The first line with anything in it (or all of them), stripped; "" for an empty file.

    Raises OSError where it cannot be read.
    """
    descriptor = os.open(path, _READ_FLAGS)
    try:
        raw = os.read(descriptor, _FIRST_BYTES)
        if len(raw) == _FIRST_BYTES:
            while block := os.read(descriptor, _BLOCK_BYTES):
                raw += block
    finally:
        os.close(descriptor)
    decoded = decode_caption(raw)
    lines = [line.strip() for line in decoded.text.splitlines() if line.strip()]
    if all_lines:
        return CaptionText("\n".join(lines), decoded.guessed)
    return CaptionText(lines[0] if lines else "", decoded.guessed, max(len(lines) - 1, 0))


def decode_caption(raw: bytes) -> CaptionText:
    """Text of `raw`: by its byte-order mark, else UTF-8, else UTF-16 without a mark or a Western 8-bit encoding."""
    if raw.isascii() and b"\0" not in raw:
        return CaptionText(raw.decode("ascii"))
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return CaptionText(raw.decode(encoding, errors="replace"))
    unmarked = _unmarked_utf16(raw)
    if unmarked:
        return CaptionText(raw.decode(unmarked, errors="replace"), "UTF-16 without a byte-order mark")
    try:
        return CaptionText(raw.decode("utf-8"))
    except UnicodeDecodeError:
        if _UNDEFINED_IN_CP1252.isdisjoint(raw):
            return CaptionText(raw.decode("cp1252"), "Windows-1252")
        return CaptionText(raw.decode("latin-1"), "Latin-1")


def _unmarked_utf16(raw: bytes) -> str:
    """Latin text in UTF-16 has a zero in every second byte; text in any 8-bit encoding has none."""
    if len(raw) < 2 or len(raw) % 2 or b"\0" not in raw:
        return ""
    even_zeros, odd_zeros = raw[0::2].count(0), raw[1::2].count(0)
    if min(even_zeros, odd_zeros) * 4 > max(even_zeros, odd_zeros):
        return ""
    return "utf-16-le" if odd_zeros > even_zeros else "utf-16-be"


def first_line(text: str) -> str:
    """The first line that holds more than blanks, stripped."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


class CaptionIndex:
    """Caption file of each image stem in one folder. The suffix may be in any case, the name in any Unicode form."""

    def __init__(self, names: Iterable[str], extension: str) -> None:
        wanted = extension.lower()
        self._by_stem: dict[str, str] = {}
        for name in sorted(names):
            if name.lower().endswith(wanted) and len(name) > len(wanted):
                stem = name[: -len(wanted)]
                if name.endswith(extension) or stem not in self._by_stem:
                    self._by_stem[stem] = name
        self._by_normal_stem = {_normal(stem): name for stem, name in self._by_stem.items()}

    def of(self, stem: str) -> str | None:
        """File name of the caption of the image called `stem`, or None."""
        return self._by_stem.get(stem) or self._by_normal_stem.get(_normal(stem))


def _normal(stem: str) -> str:
    return stem if stem.isascii() else unicodedata.normalize("NFC", stem)
