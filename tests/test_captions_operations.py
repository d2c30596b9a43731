"""Operations on many captions: what each does, twice is once, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.bench import regex_replace
from captioning.bench.operations import OPERATIONS, Context
from captioning.bench.spellings import count_spellings, variants
from captioning.bench.texts import tags_of
from engine.errors import UserError


def run(name: str, texts: list[str], separator: str = ",", **values: Any) -> list[str]:
    """What an operation makes of texts, with its form as it is at first but for `values`."""
    kind = OPERATIONS[name]
    given_values = {field.name: field.default for field in kind.fields} | values
    counts = count_spellings(tags_of(text, separator) for text in texts)
    return kind.build(given_values, Context(separator, counts))(texts)


@pytest.mark.parametrize(
    ("name", "values", "before", "after"),
    [
        ("replace_tag", {"old": "dog", "new": "cat"}, "a, Dog, b", "a, cat, b"),
        ("replace_tag", {"old": "dog", "new": "cat"}, "cat, dog", "cat"),
        ("replace_tag", {"old": "dog", "new": "cat"}, "dogs,  b", "dogs,  b"),
        ("replace_tag", {"old": "blue *", "new": "eyes, blue"}, "blue eyes, red, blue hat", "eyes, blue, red"),
        ("replace_tag", {"old": "dog", "new": "Dog"}, "dog, a", "Dog, a"),
        ("delete_tag", {"old": "a, *b"}, "a, xb, ab c, b", "ab c"),
        ("delete_tag", {"old": "x"}, "a,b ,c", "a,b ,c"),
        ("add_tag", {"new": "x, y", "place": "start"}, "a, Y", "x, a, Y"),
        ("add_tag", {"new": "x"}, "", "x"),
        ("add_tag", {"new": "x"}, "a\n\nb, x", "a, x\n\nb, x"),
        ("trigger", {"word": "mycat"}, "a, MyCat, b, mycat", "mycat, a, b"),
        ("trigger", {"word": "mycat"}, "", "mycat"),
        ("find_replace", {"find": "RED", "new": "blue"}, "red Redder", "blue blueder"),
        ("find_replace", {"find": "RED", "new": "blue", "match_case": True}, "red RED", "red blue"),
        ("find_replace", {"find": "a.c", "new": r"\n"}, "abc a.c", r"abc \n"),
        ("find_replace", {"find": r"(\w+), (\w+)", "new": r"\2, \1", "regular": True}, "one, two", "two, one"),
        ("find_replace", {"find": "^", "new": "x ", "regular": True}, "a\nb", "x a\nx b"),
        ("prefix", {"text": "photo of "}, "  a cat", "photo of a cat"),
        ("prefix", {"text": "photo of "}, "photo of a cat", "photo of a cat"),
        ("prefix", {"text": "photo of ", "mode": "remove"}, "photo of photo of a cat", "a cat"),
        ("prefix", {"text": "photo of ", "mode": "remove"}, "a  cat ", "a  cat "),
        ("suffix", {"text": ", best"}, "a", "a, best"),
        ("suffix", {"text": ", best"}, "", "best"),
        ("suffix", {"text": ", best", "mode": "remove"}, "a, best", "a"),
        ("dedupe", {}, "a, b, A, a", "a, b"),
        ("tidy", {}, " a ,,b  c,A", "a, b c"),
        ("sort", {}, "c, B, a", "a, B, c"),
        ("sort", {"keep": "1"}, "z, c, a", "z, a, c"),
        ("set_caption", {"text": " same "}, "a, b", "same"),
        ("order", {"groups": "subject: dog, *girl\n...\nstyle: photo"}, "photo, red, 1girl, dog",
         "dog, 1girl, red, photo"),
        ("order", {"groups": "photo", "keep": "1"}, "mycat, red, photo", "mycat, photo, red"),
        ("delete_tag", {"old": "a"}, "(a, b:1.3), a", "(a, b:1.3)"),
    ],
)  # fmt: skip
def test_what_an_operation_does(name, values, before, after):
    assert run(name, [before], **values) == [after]


def test_the_order_of_groups_that_is_there_at_first_puts_the_subject_first_and_quality_last():
    assert run("order", ["masterpiece, white background, red hat, smiling, 1girl, photo"]) == [
        "1girl, smiling, red hat, white background, photo, masterpiece"
    ]


def test_sorting_by_frequency_counts_captions_of_the_folder():
    assert run("sort", ["a, b, c", "c", "C, b"], by="frequency")[0] == "c, b, a"


def test_spellings_become_one_and_are_listed_with_their_counts():
    texts = ["long_hair, a", "long hair", "Long Hair, long hair", "x_y, X Y"]
    assert run("spellings", texts, **{"except": "x y"}) == ["long hair, a", "long hair", "long hair", "x_y, X Y"]
    assert run("spellings", texts, preferred="underscores")[1] == "long_hair"
    found = variants(count_spellings(tags_of(text, ",") for text in texts), "frequent")
    assert found[0].kept == "long hair"
    assert dict(found[0].spellings) == {"long hair": 2, "Long Hair": 1, "long_hair": 1}


def test_the_separator_of_the_data_set_is_used():
    assert run("add_tag", ["a; b, c"], ";", new="d; e") == ["a; b, c; d; e"]


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("replace_tag", {"old": " "}, "Tag: is empty"),
        ("replace_tag", {"old": "a", "new": ""}, "New tag: is empty"),
        ("trigger", {"word": "a, b"}, "Trigger word: is one tag"),
        ("find_replace", {}, "Find: is empty"),
        ("find_replace", {"find": "(", "regular": True}, "Find: is no regular expression: missing )"),
        ("find_replace", {"find": "a", "new": r"\2", "regular": True}, "Replace with: cannot be used: invalid group"),
        ("prefix", {"text": " "}, "Text: is empty"),
        ("suffix", {"text": "a\nb"}, "Text: is one line"),
        ("sort", {"keep": "two"}, "Tags that stay in front: is a whole number"),
        ("order", {"groups": "subject:\n..."}, "Tag order: names no tag"),
        ("spellings", {"preferred": "best"}, "Spelling to keep: is one of"),
    ],
)
def test_unusable_values_are_told_by_the_name_of_their_field(name, values, sentence):
    with pytest.raises(UserError) as fault:
        run(name, ["a"], **values)
    assert str(fault.value).startswith(sentence)


@pytest.mark.slow
def test_a_regular_expression_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(regex_replace, "LIMIT_SECONDS", 0.7)
    with pytest.raises(UserError, match="did not end within"):
        run("find_replace", ["a" * 60 + "b"], find="(a+)+$", new="", regular=True)


WORDS = st.text(alphabet="ab ,_A\n.é", max_size=12)
ONCE = {
    "prefix": [{"mode": "add"}, {"mode": "remove"}],
    "suffix": [{"mode": "add"}, {"mode": "remove"}],
    "trigger": [{}], "add_tag": [{"place": "start"}, {"place": "end"}], "delete_tag": [{}],
    "dedupe": [{}], "tidy": [{}], "sort": [{}, {"by": "frequency"}], "order": [{"groups": "a\n...\nb"}],
    "spellings": [{}, {"preferred": "blanks"}], "set_caption": [{}],
}  # fmt: skip


@pytest.mark.parametrize(("name", "values"), [(name, values) for name, forms in ONCE.items() for values in forms])
@settings(max_examples=60)
@given(texts=st.lists(WORDS, min_size=1, max_size=3), word=WORDS)
def test_twice_is_once(name, values, texts, word):
    entries = {"text": word, "new": word, "old": word, "word": word}
    fields = {field.name for field in OPERATIONS[name].fields}
    values = {key: value for key, value in entries.items() if key in fields} | values
    try:
        once = run(name, texts, **values)
    except UserError:
        return
    assert run(name, once, **values) == once


@settings(max_examples=60)
@given(texts=st.lists(WORDS, min_size=1, max_size=3), word=WORDS)
def test_what_a_prefix_puts_in_front_its_removal_takes_away(texts, word):
    texts = [" ".join(text.split()) for text in texts]
    if not word.strip() or "\n" in word or any(text.startswith(word.strip()) or not text for text in texts):
        return
    added = run("prefix", texts, text=word)
    assert [text.strip() for text in run("prefix", added, text=word, mode="remove")] == texts
