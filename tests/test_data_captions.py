"""Caption files in any encoding, under any spelling of their image's name."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.captions import CaptionIndex, decode_caption, first_line, read_caption

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=40)


@given(TEXT)
def test_utf8_is_read_with_and_without_a_mark(text: str):
    plain = decode_caption(text.encode("utf-8"))
    assert plain.guessed == ""
    assert decode_caption(codecs.BOM_UTF8 + text.encode("utf-8")).text == text
    assert plain.text == text.removeprefix("\ufeff")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@given(text=TEXT)
def test_utf16_and_utf32_are_told_by_their_mark(encoding: str, text: str):
    marks = {
        "utf-16": b"",
        "utf-16-le": codecs.BOM_UTF16_LE,
        "utf-16-be": codecs.BOM_UTF16_BE,
        "utf-32": b"",
        "utf-32-be": codecs.BOM_UTF32_BE,
    }
    found = decode_caption(marks[encoding] + text.encode(encoding))
    assert (found.text, found.guessed) == (text, "")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_guessed_and_said(encoding: str):
    found = decode_caption("a red café".encode(encoding))
    assert found.text == "a red café"
    assert "UTF-16" in found.guessed


def test_western_eight_bit_text_is_guessed_and_said():
    assert decode_caption("a café – “zkt”".encode("cp1252")).text == "a café – “zkt”"
    assert decode_caption("café".encode("latin-1")).guessed == "Windows-1252"
    assert decode_caption(b"caf\xe9 \x81").guessed == "Latin-1"


@given(st.binary(max_size=60))
def test_any_bytes_are_some_text(raw: bytes):
    assert isinstance(decode_caption(raw).text, str)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a cat\nsecond", "a cat"), ("\n \n  a cat  \r\nx", "a cat"), ("", ""), (" \n\t\n", ""), ("a\rb", "a")],
)
def test_the_first_line_with_anything_in_it_counts(text: str, line: str):
    assert first_line(text) == line


def test_a_long_file_is_read_whole(tmp_path: Path):
    path = tmp_path / "long.txt"
    path.write_text("x, " * 60_000, encoding="utf-8")
    assert len(read_caption(path).text) == len("x, " * 60_000) - 1


def test_the_suffix_may_be_in_any_case_but_the_exact_one_wins():
    assert CaptionIndex(["a.TXT", "b.txt", "b.TXT", "c.caption"], ".txt").of("a") == "a.TXT"
    assert CaptionIndex(["b.TXT", "b.txt"], ".txt").of("b") == "b.txt"
    assert CaptionIndex(["c.caption"], ".txt").of("c") is None


@pytest.mark.parametrize(("image_form", "caption_form"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_names_find_each_other(image_form, caption_form):
    name = unicodedata.normalize(caption_form, "zoë") + ".txt"
    assert CaptionIndex([name], ".txt").of(unicodedata.normalize(image_form, "zoë")) == name


def test_a_name_with_dots_keeps_them():
    assert CaptionIndex(["shot.v2.txt"], ".txt").of("shot.v2") == "shot.v2.txt"
    assert CaptionIndex(["shot.txt"], ".txt").of("shot.v2") is None
