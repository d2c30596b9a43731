"""Sample prompts and their switches."""

from __future__ import annotations

import pytest

from engine.preset import Sample
from engine.prompts import SWITCHES, SamplePrompt, parse_prompts


def test_switches_set_what_they_name_and_the_rest_is_the_preset_s():
    sample = Sample(prompts="a cat, (sitting) --n ugly, blurry --w 832 --h 1216 --s 10 --l 7.5 --d 3", sampler="ddim")
    assert parse_prompts(sample) == (
        (SamplePrompt("a cat, (sitting)", "ugly, blurry", 832, 1216, 10, 7.5, 3, "ddim"),),
        (),
    )
    (plain,), _ = parse_prompts(Sample(prompts="a cat", negative="bad"))
    assert (plain.negative, plain.width_px, plain.steps, plain.seed) == ("bad", 1024, 24, 1234)


def test_each_line_without_a_seed_counts_one_up():
    prompts, _ = parse_prompts(Sample(prompts="a\n\n# a remark\nb\nc --d 5\n", seed=2**32 - 1))
    assert [(prompt.prompt, prompt.seed) for prompt in prompts] == [("a", 2**32 - 1), ("b", 0), ("c", 5)]


@pytest.mark.parametrize(
    "text", ["--x 3", "--w 10", "--w wide", "--h 99999", "--s 0", "--l 0", "--d -1", "--d 4294967296"]
)
def test_faulty_switches_are_told_with_their_line(text):
    _, (problem,) = parse_prompts(Sample(prompts=f"good\nbad {text}"))
    assert problem.where == "sample.prompts"
    assert problem.message.startswith("line 2: --")


def test_a_prompt_may_be_empty_and_sizes_become_multiples_of_eight():
    (prompt,), problems = parse_prompts(Sample(prompts="--w 1001 --d 1"))
    assert (prompt.prompt, prompt.width_px, problems) == ("", 1000, ())


def test_double_dashes_within_words_are_text():
    (prompt,), problems = parse_prompts(Sample(prompts="well--known -- dashes"))
    assert (prompt.prompt, problems) == ("well--known -- dashes", ())


def test_the_known_switches_are_told():
    _, (problem,) = parse_prompts(Sample(prompts="a --zz 1"))
    assert all(f"--{name}" in problem.message for name in SWITCHES)
