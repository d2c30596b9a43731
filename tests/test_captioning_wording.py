"""How captions are put together: nothing is lost, and twice is once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.wording import Wording, prepended, with_tags, with_trigger

WORDS = st.lists(st.sampled_from(["cat", "Dog", "red hat", "o_o", "日本"]), max_size=5).map(", ".join)
FIXED = st.lists(st.sampled_from(["cat", "Dog", "red hat", "日本"]), unique=True, max_size=4).map(", ".join)


@given(text=WORDS, word=st.sampled_from(["qzy", "red hat", "Dog", "qzy, cat"]))
def test_a_trigger_put_first_twice_is_once_and_no_word_is_lost(text: str, word: str):
    once = with_trigger(text, word)
    assert with_trigger(once, word) == once
    assert once.lower().startswith(word.lower())
    rest = {part.strip().lower() for part in once[len(word) :].split(",")}
    assert not {part.lower() for part in word.split(", ")} & rest
    assert all(part.lower() in once.lower() for part in text.split(", "))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1girl, qzy, hat", "qzy, 1girl, hat"),
        ("a, QZY, b, qzy", "qzy, a, b"),
        ("qzy standing in a field", "qzy standing in a field"),
        ("qzys in a field, QZY", "qzy, qzys in a field"),
        ("", "qzy"),
        ("\na, qzy\nsecond line", "\nqzy, a\nsecond line"),
    ],
)
def test_a_trigger_is_found_wherever_it_is_among_the_tags(text: str, expected: str):
    assert with_trigger(text, "qzy") == expected


@given(old=WORDS, new=WORDS)
def test_prepending_twice_is_prepending_once_and_loses_no_word(old: str, new: str):
    once = prepended(old, new)
    assert prepended(once, new) == once
    assert all(part.lower() in once.lower() for text in (old, new) for part in text.split(", "))


@given(text=WORDS, before=FIXED, after=FIXED)
def test_fixed_tags_stand_around_once(text: str, before: str, after: str):
    once = with_tags(text, before, after)
    assert with_tags(once, before, after) == once
    assert not text or once.startswith(before)
    said = [part.lower() for part in once.split(", ")]
    assert all(said.count(part.lower()) == 1 for part in {*before.split(", "), *after.split(", ")} if text and part)


@given(old=WORDS, new=WORDS.filter(bool), existing=st.sampled_from(["append", "prepend", "replace"]))
def test_the_whole_of_it_twice_is_once(old: str, new: str, existing):
    wording = Wording(existing, before="photo", after="Dog", trigger="qzy")
    once = wording.final(old, new)
    assert wording.final(once, new) == once
