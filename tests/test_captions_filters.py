"""The filter language: what it lets through, and what it says about a filter that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.bench.filters import parse, whole_match
from captioning.bench.texts import tag_key, tags_of
from engine.errors import UserError


@dataclass(frozen=True)
class Picture:
    name: str
    folder: str
    text: str

    @property
    def tag_keys(self) -> frozenset[str]:
        return frozenset(map(tag_key, tags_of(self.text, ",")))

    def count(self, what: str) -> int:
        return len(self.text.split()) if what == "words" else len(tags_of(self.text, ","))


A = Picture("IMG_1.png", "10_cat", "1girl, long_hair, hat (red), smile")
B = Picture("photo.jpg", "10_cat/old", "a dog on a Sofa")
C = Picture("x.webp", "5_dog", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [A, B, C]), ("   ", [A, B, C]), ("sofa", [B]), ("SOFA", [B]), ("on*sofa", [B]), ("so fa", [B]),
        ('"on a"', [B]), ('"so fa"', []),
        ("tag:smile", [A]), ("tag:long_hair", [A]), ('tag:"Long Hair"', [A]), ("tag:long*", [A]), ("tag:long", []),
        ('tag:"hat (red)"', [A]), ("tag:*(red)", [A]), ("text:hat_(red)", []), ("text:1girl", [A]), ("tag:*", [A, B]),
        ("name:img_*", [A]), ("name:photo", [B]), ("name:*.webp", [C]), ("folder:10_cat", [A, B]), ("folder:*cat", [A]),
        ("tags > 1", [A]), ("tags>=1", [A, B]), ("tags = 0", [C]), ("tags != 0", [A, B]), ("words<=0", [C]),
        ("tags < 1", [C]),
        ("untagged", [C]), ("NOT untagged", [A, B]), ("sofa OR untagged", [B, C]), ("sofa untagged", []),
        ("a AND sofa", [B]),
        ("dog OR 1girl smile", [A, B]), ("(dog OR 1girl) smile", [A]), ("NOT (dog OR smile)", [C]),
        ("NOT NOT dog", [B]),
        ('text:"a \\"dog"', []), ("not", []), ('"NOT"', []),
    ],
)  # fmt: skip
def test_a_filter_lets_through(text, found):
    passes = parse(text)
    assert [picture for picture in (A, B, C) if passes(picture)] == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(dog", "the bracket ( is never closed. Write ) behind its content (character 1)."),
        ("dog)", "')' has no opening bracket. Remove it or write ( before (character 4)."),
        ("dog OR", "something is missing after 'OR' to filter by. Write a word or tag:name there (character 7)."),
        ("OR dog", "something is missing before 'OR' to filter by. Write a word or tag:name there (character 1)."),
        ("a AND AND b", "something is missing after 'AND' to filter by. Write a word or tag:name there (character 7)."),
        ("()", "something is missing after '(' to filter by. Write a word or tag:name there (character 2)."),
        ("tag:", "nothing stands behind 'tag:'. Write a word or \"several words\" (character 1)."),
        ("a tag: ) b", "nothing stands behind 'tag:'. Write a word or \"several words\" (character 3)."),
        ("tokens >", "a whole number is missing behind > (character 9)."),
        ("tokens > many", "a whole number is missing behind > (got 'many') (character 10)."),
        ("> 5", "'>' needs a count before it. Write one of tags, tokens, chars, words, lines there (character 1)."),
        ("dogs > 5", "'dogs' cannot be counted. Write one of tags, tokens, chars, words, lines, or put a text with > "
         "into double quotes (character 1)."),
        ('a "dog', 'the double quote is never closed. Write another " behind the text (character 3).'),
        ("NOT " * 60 + "a", "brackets and NOT are more than 40 deep. Simplify it (character 161)."),
        ("a" * 2001, "is longer than 2000 characters. Shorten it (character 2001)."),
    ],
)  # fmt: skip
def test_a_fault_is_a_sentence_with_its_place(text, sentence):
    with pytest.raises(UserError) as fault:
        parse(text)
    assert str(fault.value) == f"The filter: {sentence}"


@settings(max_examples=200)
@given(st.text(alphabet='ab*()"<>=! :tagnmeNOTORAND\\', max_size=30))
def test_any_text_is_a_filter_or_a_sentence(text):
    try:
        passes = parse(text)
    except UserError:
        return
    assert passes(B) in (True, False)


@given(pattern=st.text(alphabet="ab*", max_size=8), text=st.text(alphabet="ab", max_size=8))
def test_wildcards_are_those_of_regular_expressions(pattern, text):
    import re

    assert whole_match(pattern)(text) == bool(re.fullmatch(pattern.replace("*", ".*"), text))


def test_many_wildcards_take_no_time():
    assert not whole_match("*a" * 300 + "b")("a" * 5000)
