"""The prompt language: what A1111 makes of a prompt over the steps (the figures are those of its own doctests)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.drawing.prompt_language import (
    DEEPEST,
    LoraMention,
    StepText,
    schedule_of,
    take_loras,
    text_at,
    weighted_parts,
)
from engine.errors import UserError

# Prompt → its schedule over 10 steps
SCHEDULES = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "a [{b|d{:.5] c": [(10, "a [{b|d{:.5] c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[fe|]male": [(step, "female" if step % 2 else "male") for step in range(1, 11)],
    "[a|(b:1.1)]": [(step, "a" if step % 2 else "(b:1.1)") for step in range(1, 11)],
    "[fe|||]male": [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
    "[a::0.5]": [(5, "a"), (10, "")],
    "[:b:4]": [(4, ""), (10, "b")],
    "[a:b:0]": [(10, "b")],
    "[a:b:1.0]": [(10, "a")],
    "[a:b:30]": [(10, "a")],
    "[a:b:-2]": [(10, "b")],
    "[a:b:1e400]": [(10, "a")],
    r"\[a:b:0.5\] (x:1.2)": [(10, r"\[a:b:0.5\] (x:1.2)")],
    r"[a\]:b\|c:0.5]": [(5, r"a\]"), (10, r"b\|c")],
    "[a:b]": [(10, "[a:b]")],
    "(red [cat:dog:2]:1.2)": [(2, "(red cat:1.2)"), (10, "(red dog:1.2)")],
    "one | two [a:b:2]": [(2, "one | two a"), (10, "one | two b")],
    "": [(10, "")],
}


@pytest.mark.parametrize("prompt", SCHEDULES)
def test_texts_over_the_steps_are_a1111s(prompt):
    assert [(item.until_step, item.text) for item in schedule_of(prompt, 10)] == SCHEDULES[prompt]


def test_the_second_pass_counts_on_from_the_first():
    assert schedule_of("a [b:.5] c", 10, 10) == (StepText(10, "a b c"),)
    assert schedule_of("a [b:1.5] c", 10, 10) == (StepText(5, "a  c"), StepText(10, "a b c"))
    assert schedule_of("[a:b:23]", 10, 20) == (StepText(3, "a"), StepText(10, "b"))


@given(st.text("[]():|\\ab.5 1", max_size=40), st.integers(1, 12))
def test_every_text_has_a_schedule_that_ends_with_the_steps(prompt, steps):
    found = schedule_of(prompt, steps)
    ends = [item.until_step for item in found]
    assert ends == sorted(set(ends)) and ends[0] >= 1 and ends[-1] == steps
    assert text_at(found, 1) == found[0].text and text_at(found, steps) == found[-1].text


@given(st.text("ab,() .1", max_size=40))
def test_without_square_brackets_a_prompt_is_itself(prompt):
    assert schedule_of(prompt, 7) == (StepText(7, prompt),)


def test_brackets_without_end_are_a_sentence():
    with pytest.raises(UserError, match="nested more than"):
        schedule_of("[" * (DEEPEST + 1), 10)


def test_break_begins_a_new_part_and_keeps_weights():
    assert weighted_parts("a (b BREAK c:2)  BREAK d") == [[("a ", 1.0), ("b", 2.0)], [("c", 2.0)], [("d", 1.0)]]
    assert weighted_parts("BREAKFAST") == [[("BREAKFAST", 1.0)]]
    assert weighted_parts("") == [[("", 1.0)]]
    assert weighted_parts("BREAK") == [[("", 1.0)], [("", 1.0)]]


MENTIONS = {
    "<lora:ship>": LoraMention("ship"),
    "<lora:ship:0.8>": LoraMention("ship", 0.8, 0.8),
    "<lora:ship:0.5:0.8>": LoraMention("ship", unet=0.8, text_encoders=0.5),
    "<lora:ship:te=0:unet=1.2>": LoraMention("ship", unet=1.2, text_encoders=0.0),
    "<lyco:two words v1.2:-1>": LoraMention("two words v1.2", -1.0, -1.0),
    "<lora:ship:1:0.8:16>": LoraMention("ship", unet=0.8, text_encoders=1.0),
}


@pytest.mark.parametrize("written", MENTIONS)
def test_loras_are_taken_out_of_the_prompt(written):
    assert take_loras(f"a {written}, b [{written}:0.5]") == ("a , b [:0.5]", (MENTIONS[written],) * 2)


@pytest.mark.parametrize("written", ["<lora:ship:much>", "<lora:ship:nan>", "<lora:ship:>", "<lora:ship:1e9>"])
def test_a_strength_that_is_no_number_is_a_sentence(written):
    with pytest.raises(UserError, match="needs a number as strength"):
        take_loras(written)


@pytest.mark.parametrize("written", ["<b>", "<lora>", "a < b : c >", "<lora:>"])
def test_other_angles_stay_text(written):
    assert take_loras(written) == (written, ())
