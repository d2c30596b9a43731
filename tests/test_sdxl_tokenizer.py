"""Token ids equal those of the reference, for both encoders and every caption length."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import REFERENCE, ROOT
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.sdxl.tokenizer import BOS, EOS, Tokenizers

FIGURES = json.loads((REFERENCE / "token_ids.json").read_text(encoding="utf-8"))
LENGTHS = {75: "max_token_length_None", 150: "max_token_length_150", 225: "max_token_length_225"}
CASES = [(tokens, name) for tokens, key in LENGTHS.items() for name in FIGURES[key]["captions"]]


def expected(chunks: list[dict]) -> list[list[int]]:
    return [chunk["ids"] + [chunk["pad_id"]] * chunk["trailing_pad"] for chunk in chunks]


@pytest.mark.parametrize(("tokens", "name"), CASES)
def test_ids_equal_the_reference(tokens: int, name: str):
    figure = FIGURES[LENGTHS[tokens]]["captions"][name]
    one, two = Tokenizers.load().chunks([figure["text"]], tokens)
    assert one[0] == expected(figure["te1"])
    assert two[0] == expected(figure["te2"])


@pytest.mark.parametrize("name", FIGURES["max_token_length_None"]["captions"])
def test_token_count_is_the_whole_caption(name: str):
    figure = FIGURES["max_token_length_None"]["captions"][name]
    assert Tokenizers.load().token_count(figure["text"]) == figure["raw_token_count_without_bos_eos"]


def test_exclamation_marks_are_text_and_never_padding():
    one, two = Tokenizers.load().chunks(["wow! ! cat!"], 75)
    assert one[0][0].count(256) == two[0][0].count(256) == 3
    assert 0 not in one[0][0]


def test_spelled_out_specials_are_text():
    ids = Tokenizers.load().tokens(["a <|endoftext|> b <|startoftext|>"])[0]
    assert BOS not in ids
    assert EOS not in ids


def test_tensors_hold_the_chunks():
    captions = ["a cat", "dog " * 200]
    one, two = Tokenizers.load().ids(captions, 150)
    chunks_one, chunks_two = Tokenizers.load().chunks(captions, 150)
    assert one.shape == two.shape == (2, 2, 77)
    assert one.tolist() == chunks_one
    assert two.tolist() == chunks_two


def test_no_captions_give_an_empty_batch():
    one, two = Tokenizers.load().ids([], 75)
    assert one.shape == two.shape == (0, 1, 77)


@pytest.mark.parametrize("tokens", [0, -75, 74, 77, 100])
def test_odd_lengths_are_refused(tokens: int):
    with pytest.raises(UserError, match=f"got {tokens}"):
        Tokenizers.load().chunks(["a"], tokens)


@given(st.text(max_size=400), st.integers(1, 5))
def test_chunks_hold_the_caption_in_order(caption: str, parts: int):
    tokenizers = Tokenizers.load()
    ids = tokenizers.tokens([caption])[0]
    one, _ = tokenizers.chunks([caption], 75 * parts)
    assert all(len(chunk) == 77 and chunk[0] == BOS and chunk[76] == EOS for chunk in one[0])
    inside = [token for chunk in one[0] for token in chunk[1 : chunk.index(EOS)]]
    assert inside == ids[: 75 * parts]


def test_tokenizers_load_without_torch_and_open_clip():
    code = (
        "import sys; from engine.sdxl.tokenizer import Tokenizers; Tokenizers.load().chunks(['a cat'], 75);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'open_clip', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
