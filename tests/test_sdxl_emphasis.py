"""Weights in captions: how they are read, which token has which, and what they do to the features."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from engine.sdxl.emphasis import weighted_pieces
from engine.sdxl.text import encode_text
from engine.sdxl.tokenizer import PAD_ONE, PAD_TWO, Tokenizers
from tests.tiny_text import tiny_encoders

PIECES = {
    "": [("", 1.0)],
    "a cat": [("a cat", 1.0)],
    "a (cat:1.3) here": [("a ", 1.0), ("cat", 1.3), (" here", 1.0)],
    "(cat)": [("cat", 1.1)],
    "((cat))": [("cat", 1.1 * 1.1)],
    "[cat]": [("cat", 1 / 1.1)],
    "(a (b:2) c:0.5)": [("a ", 0.5), ("b", 1.0), (" c", 0.5)],
    "(a, b: .5)": [("a, b", 0.5)],
    r"miku \(vocaloid\)": [("miku (vocaloid)", 1.0)],
    "(never closed": [("never closed", 1.1)],
    "never opened)": [("never opened)", 1.0)],
    "ratio 4:3": [("ratio 4:3", 1.0)],
    "a:1.3)": [("a:1.3)", 1.0)],
    r"back\slash": [(r"back\slash", 1.0)],
}


@pytest.mark.parametrize("text", PIECES)
def test_weights_are_read_as_in_a1111(text):
    found = weighted_pieces(text)
    assert [piece for piece, _ in found] == [piece for piece, _ in PIECES[text]]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in PIECES[text]])


@given(st.text(max_size=40))
def test_any_text_is_pieces_of_it(text):
    letters = set(r"\()[]:.0123456789+- ")
    found = "".join(piece for piece, _ in weighted_pieces(text))
    assert [sign for sign in found if sign not in letters] == [sign for sign in text if sign not in letters]


@pytest.mark.parametrize("tokens", [75, 150])
@pytest.mark.parametrize("caption", ["", "a photo of a cat, sitting!", "a red square on grey, " * 40])
def test_without_marks_ids_are_the_plain_ones_and_weights_one(caption, tokens):
    tokenizers = Tokenizers.load()
    for pad, plain in zip((PAD_ONE, PAD_TWO), tokenizers.ids([caption], tokens), strict=True):
        ids, weights = tokenizers.weighted_ids([caption], tokens, pad)
        assert torch.equal(ids, plain)
        assert torch.equal(weights, torch.ones(weights.shape))


def test_each_token_has_its_words_weight_also_in_the_second_chunk():
    text = "cat, " * 50 + "(dog:1.5)"
    plain = Tokenizers.load().ids([text.replace("(dog:1.5)", "dog")], 150)[0]
    ids, weights = Tokenizers.load().weighted_ids([text], 150, PAD_ONE)
    assert torch.equal(ids, plain)
    assert weights.shape == (1, 2, 77)
    [place] = (weights != 1).nonzero().tolist()
    assert place == [0, 1, 100 - 75 + 1]
    assert weights[tuple(place)] == 1.5


@pytest.mark.parametrize("tokens", [75, 150])
def test_rows_are_multiplied_and_the_summary_is_left(tokens):
    """Row j of chunk n is multiplied by the weight of that token alone; no other caption's weights count."""
    encoders = tiny_encoders()
    captions = ["a (cat:1.5) and [dog] " * 12, "plain words"]
    tokenizers = Tokenizers.load()
    (ids_1, weights_1), (ids_2, weights_2) = (
        tokenizers.weighted_ids(captions, tokens, pad) for pad in (PAD_ONE, PAD_TWO)
    )
    with torch.no_grad():
        plain = encode_text(encoders, ids_1, ids_2)
        weighted = encode_text(encoders, ids_1, ids_2, weights=(weights_1, weights_2))
    inner = weights_1[:, :, 1:-1].flatten(1)
    assert torch.equal(inner, weights_2[:, :, 1:-1].flatten(1))
    assert_close(weighted.rows[:, 1:-1], plain.rows[:, 1:-1] * inner[..., None])
    assert torch.equal(weighted.rows[:, [0, -1]], plain.rows[:, [0, -1]])
    assert torch.equal(weighted.pooled, plain.pooled)
    assert torch.equal(weighted.rows[1], plain.rows[1])
    assert not torch.equal(weighted.rows[0], plain.rows[0])


def test_checkpointing_changes_no_gradient():
    encoders = tiny_encoders()
    ids = Tokenizers.load().ids(["a cat", "a dog"], 75)
    parameters = [*encoders.one.parameters(), *encoders.two.parameters()]
    gradients = []
    for checkpointing in (False, True):
        features = encode_text(encoders, *ids, checkpointing=checkpointing)
        loss = features.rows.square().mean() + features.pooled.square().mean()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    for plain, again in zip(*gradients, strict=True):
        assert (plain is None) == (again is None)
        assert plain is None or torch.equal(plain, again)


def test_checkpointing_keeps_less():
    """What is saved for the backward pass: the layers' inputs instead of everything inside."""

    def saved_numbers(checkpointing: bool) -> int:
        sizes: list[int] = []
        ids = Tokenizers.load().ids(["a cat"], 75)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept
        ):
            encode_text(encoders, *ids, checkpointing=checkpointing)
        return sum(sizes)

    encoders = tiny_encoders()
    assert saved_numbers(True) < saved_numbers(False) / 3
