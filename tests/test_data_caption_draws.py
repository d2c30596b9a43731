"""Captions as they are drawn: sd-scripts' figures as sets, and what holds for every caption and every setting."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest
from conftest import REFERENCE
from hypothesis import given
from hypothesis import strategies as st

from engine.data.caption_draws import CaptionRules, Drawing, draw_caption, is_dropped, variant_of, warmup_tag_count
from engine.data.tags import join_tags, split_tags
from engine.data.wildcards import expand_wildcards
from engine.draws import draw_fractions

CASES = json.loads((REFERENCE / "captions.json").read_text(encoding="utf-8"))
# Where Atelier means to differ: name of the case → its own text, and why
DIFFERENT = {
    "plain untrimmed": "a ,b,,c , d",  # captions are stripped when they are read
    "keepsep no shuffle": "sks, p, a, b, c",  # there the mark stays in the text unless something shuffles
    "keepsep three": "s, a, b, q, z, y",  # there a third mark stays in the text
    "wildcard nested": "b",  # there nested choices are left broken
}
NAMES = {
    "shuffle_caption": "shuffle",
    "keep_tokens": "keep_tokens",
    "keep_tokens_separator": "keep_separator",
    "secondary_separator": "secondary_separator",
    "caption_tag_dropout_rate": "tag_dropout",
    "token_warmup_min": "warmup_tags",
    "caption_prefix": "prefix",
    "caption_suffix": "suffix",
    "caption_dropout_rate": "dropout",
    "caption_dropout_every_n_epochs": "dropout_every_epochs",
    "enable_wildcard": "wildcards",
}
TAG = st.text("abcdefgh ", min_size=1, max_size=6).map(str.strip).filter(bool)
TAGS = st.lists(TAG, max_size=8)
NUMBERS = st.integers(0, 10**6)


def rules_of(case: dict[str, Any]) -> CaptionRules:
    """Our rules for sd-scripts' options; a warm-up below 1 is a share of its max_train_steps."""
    options = dict(case["opts"])
    warmup = options.pop("token_warmup_step", 0)
    steps = int(warmup * case["max_train_steps"]) if warmup < 1 else int(warmup)
    return CaptionRules(**{NAMES[name]: value for name, value in options.items()}, warmup_steps=steps)


def shown(case: dict[str, Any], number: int) -> str:
    """Drawing `number` of the caption; their epochs count from 1 (the 0 of their first batch does not exist here)."""
    rules = rules_of(case)
    if is_dropped(rules, 0, "a.png", number, case["epoch"] - 1):
        return ""
    return draw_caption(case["in"], rules, Drawing(0, "a.png", number, case["step"]))


def tags_of(text: str) -> Counter[str]:
    return Counter(split_tags(text, ","))


@pytest.mark.parametrize("case", [case for case in CASES if (case["name"], case["epoch"]) != ("dropout every 2", 0)])
def test_what_sd_scripts_drew_is_among_our_draws(case):
    """Its random numbers are not ours, so its text must be one of those that we draw."""
    wanted = DIFFERENT.get(case["name"], case["out"])
    draws = (shown(case, number) for number in range(20_000))
    assert any(text == wanted for text in draws), f"never drawn: {wanted}"


@pytest.mark.parametrize("case", [case for case in CASES if case["name"].startswith(("warmup", "plain", "prefix suf"))])
def test_what_is_not_drawn_is_always_the_same(case):
    assert {shown(case, number) for number in range(50)} == {DIFFERENT.get(case["name"], case["out"])}


@given(TAGS, NUMBERS, st.integers(0, 9))
def test_a_shuffle_loses_and_doubles_nothing_and_keeps_the_first(tags, number, keep):
    rules = CaptionRules(shuffle=True, keep_tokens=keep)
    found = split_tags(draw_caption(", ".join(tags), rules, Drawing(1, "x", number)), ",")
    assert Counter(found) == Counter(tags)
    assert found[:keep] == tags[:keep]


def test_a_shuffle_draws_every_order_alike():
    rules = CaptionRules(shuffle=True)
    counts = Counter(draw_caption("a, b, c, d", rules, Drawing(3, "x", number)) for number in range(4800))
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 49.7  # χ², 23 degrees of freedom, p = 0.001


@given(TAGS, NUMBERS, st.floats(0, 1), st.integers(0, 4), TAGS)
def test_dropped_tags_leave_the_others_in_order_and_kept_ones_stay(tags, number, rate, keep, never):
    rules = CaptionRules(tag_dropout=rate, keep_tokens=keep, never_dropped=frozenset(never))
    found = split_tags(draw_caption(", ".join(tags), rules, Drawing(1, "x", number)), ",")
    assert found[: len(tags[:keep])] == tags[:keep]
    rest = iter(tags)
    assert all(tag in rest for tag in found)
    assert Counter(tag for tag in tags if tag in never) == Counter(tag for tag in found if tag in never)


@pytest.mark.slow
@given(TAGS, NUMBERS)
def test_tag_dropout_of_0_keeps_all_and_of_1_none(tags, number):
    text = ", ".join(tags)
    assert draw_caption(text, CaptionRules(tag_dropout=0.0), Drawing(1, "x", number)) == text
    assert draw_caption(text, CaptionRules(tag_dropout=1.0), Drawing(1, "x", number)) == ""


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_tags_and_captions_are_dropped_at_their_rate(rate):
    kept = sum(
        len(split_tags(draw_caption("a, b, c, d", CaptionRules(tag_dropout=rate), Drawing(2, "x", n)), ","))
        for n in range(2500)
    )
    assert kept / 10_000 == pytest.approx(1 - rate, abs=0.02)
    dropped = sum(is_dropped(CaptionRules(dropout=rate), 2, "x", showing, 0) for showing in range(10_000))
    assert dropped / 10_000 == pytest.approx(rate, abs=0.02)


@given(NUMBERS)
def test_caption_dropout_of_0_drops_none_and_of_1_all(showing):
    assert not is_dropped(CaptionRules(dropout=0.0), 5, "x", showing, 0)
    assert is_dropped(CaptionRules(dropout=1.0), 5, "x", showing, 0)


def test_every_third_epoch_is_without_captions():
    rules = CaptionRules(dropout_every_epochs=3)
    assert [is_dropped(rules, 1, "x", 0, epoch) for epoch in range(7)] == [0, 0, 1, 0, 0, 1, 0]


@given(TAGS, NUMBERS, st.booleans())
def test_the_trigger_word_is_first_and_there_once(tags, number, shuffle):
    rules = CaptionRules(trigger="zkt", shuffle=shuffle, tag_dropout=0.5, keep_tokens=1, warmup_steps=10)
    found = split_tags(draw_caption(", ".join([*tags, "zkt"]), rules, Drawing(1, "x", number, 3)), ",")
    assert found[0] == "zkt"
    assert found.count("zkt") == 1


@given(TAGS, TAGS, TAGS, NUMBERS)
def test_marks_keep_the_front_and_the_end_in_place_and_go(front, loose, end, number):
    text = "|||".join(", ".join(part) for part in (front, loose, end))
    rules = CaptionRules(keep_separator="|||", shuffle=True, keep_tokens=2)
    found = split_tags(draw_caption(text, rules, Drawing(1, "x", number)), ",")
    assert found[: len(front)] == front
    assert found[len(found) - len(end) :] == end
    assert Counter(found) == Counter([*front, *loose, *end])


@given(st.integers(0, 30), st.integers(0, 5), st.integers(1, 50))
def test_warm_up_never_takes_tags_away_again(tags, begin, steps):
    rules = CaptionRules(warmup_steps=steps, warmup_tags=begin)
    counts = [min(warmup_tag_count(tags, rules, step), tags) for step in range(steps + 2)]
    assert counts == sorted(counts)
    assert counts[0] == min(begin, tags)
    assert counts[-1] == tags


@given(st.text("ab{}|,", max_size=14), NUMBERS)
def test_only_braces_are_choices(text, number):
    """Whatever the braces, no letter appears that was not there."""
    found = draw_caption(text, CaptionRules(wildcards=True), Drawing(1, "x", number))
    assert not Counter(found) - Counter(text)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("{a|b} {c|d}", {"a c", "a d", "b c", "b d"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{{a|b}}", {"{a|b}"}),
        ("{{{a|b}}}", {"{a}", "{b}"}),
        ("{a|}x", {"ax", "x"}),
        ("{a}", {"a"}),
        ("{a|b", {"{a|b"}),
        ("a|b} c", {"a|b} c"}),
    ],
)
def test_choices(text, choices):
    rules = CaptionRules(wildcards=True)
    assert {draw_caption(text, rules, Drawing(1, "x", number)) for number in range(60)} == choices


def test_places_of_one_caption_are_drawn_apart():
    seen: list[tuple[int, int]] = []
    expand_wildcards("{a|b} {c|{d|e}}", lambda count, place: seen.append((count, place)) or 0)
    assert seen == [(2, 0), (2, 1), (2, 2)]


def test_lines_are_the_first_one_drawn_or_all():
    text = "a, b\n\n c ,\nd"
    first, random, together = (CaptionRules(lines=lines) for lines in ("first", "random", "all"))
    draws = {
        name: {draw_caption(text, rules, Drawing(1, "x", number)) for number in range(40)}
        for name, rules in (("first", first), ("random", random), ("all", together))
    }
    assert draws == {"first": {"a, b"}, "random": {"a, b", "c ,", "d"}, "all": {"a, b, c, d"}}


def test_each_line_has_the_affixes():
    rules = CaptionRules(lines="random", prefix="pre,", suffix=", suf")
    found = {draw_caption("a\nb", rules, Drawing(1, "x", number)) for number in range(40)}
    assert found == {"pre, a , suf", "pre, b , suf"}
    assert draw_caption("", rules, Drawing(1, "x", 0)) == "pre, , suf"


def test_tags_are_joined_with_their_own_separator():
    rules = CaptionRules(separator=";", trigger="zkt")
    assert draw_caption("a ;b", rules, Drawing(1, "x", 0)) == "zkt; a; b"


def test_groups_move_together():
    rules = CaptionRules(shuffle=True, secondary_separator=";;;")
    found = {draw_caption("a, b;;;c, d", rules, Drawing(1, "x", number)) for number in range(60)}
    assert len(found) == 6
    assert all("b,c" in text for text in found)


def test_a_weight_over_several_tags_stays_whole_where_weights_are_read():
    assert split_tags("(a, b:1.3), c", ",", whole_brackets=True) == ["(a, b:1.3)", "c"]
    assert split_tags(r"\(a, b\), c", ",", whole_brackets=True) == [r"\(a", r"b\)", "c"]
    assert split_tags(":(, b, c", ",", whole_brackets=True) == [":(", "b", "c"]  # never closed: text like any other
    assert split_tags("(a, b:1.3), c", ",") == ["(a", "b:1.3)", "c"]


@given(TAGS)
def test_tags_split_and_joined_are_the_same(tags):
    assert split_tags(join_tags(tags, ","), ",") == tags
    assert split_tags(join_tags(tags, ","), ",", whole_brackets=True) == tags


@given(TAGS, NUMBERS, st.integers(0, 2**32), st.sampled_from(["shuffle", "wildcards", "none"]))
def test_a_draw_is_a_function_of_seed_image_and_number(tags, number, seed, what):
    rules = CaptionRules(shuffle=what == "shuffle", wildcards=what == "wildcards", tag_dropout=0.3, lines="random")
    text = "{x|y}, " + ", ".join(tags) + "\nother"
    first, again = (draw_caption(text, rules, Drawing(seed, "x", number)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("change", [{"seed": 2}, {"image": "y"}, {"number": 1}])
def test_another_seed_image_or_number_is_another_draw(change):
    rules = CaptionRules(shuffle=True)
    text = ", ".join("abcdefghijklmnop")
    first = Drawing(1, "x", 0)
    assert draw_caption(text, rules, dataclasses.replace(first, **change)) != draw_caption(text, rules, first)


@given(st.integers(1, 12), st.integers(0, 100), NUMBERS)
def test_each_variant_is_shown_once_before_any_is_shown_again(variants, time_round, seed):
    first = time_round * variants
    found = [variant_of(showing, variants, seed, "x") for showing in range(first, first + variants)]
    assert sorted(found) == list(range(variants))


def test_the_plain_rules_leave_a_caption_as_it_is():
    text = "a photo of {x|y}, (sks:1.2) ,  thing||| b"
    assert draw_caption(text, CaptionRules(), Drawing(1, "x", 4)) == text
    assert tags_of(text) == Counter(["a photo of {x|y}", "(sks:1.2)", "thing||| b"])


@given(NUMBERS, st.integers(0, 20), st.integers(0, 20))
def test_many_fractions_begin_as_fewer_do(number, count, more):
    found = draw_fractions(count + more, "x", number)
    assert found[:count] == draw_fractions(count, "x", number)
    assert all(0 <= fraction < 1 for fraction in found)
