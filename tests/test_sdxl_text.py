"""Text features equal the reference and transformers' own hidden states, and let gradients through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REFERENCE
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from engine.errors import UserError
from engine.sdxl.checkpoint import TextEncoders, load_text_encoders
from engine.sdxl.detect import identify
from engine.sdxl.text import encode_text
from engine.sdxl.tokenizer import Tokenizers
from tests.tiny_text import tiny_encoders

FIGURES = load_file(REFERENCE / "model_reduced.safetensors")
NOTES = json.loads((REFERENCE / "model_reduced.json").read_text(encoding="utf-8"))["text"]
LONG = json.loads((REFERENCE / "token_ids.json").read_text(encoding="utf-8"))["max_token_length_None"]["captions"]
WIDTH_ONE = 256
CAPTIONS = ["a cat", "a red square on grey, " * 40]


@pytest.fixture(scope="module")
def reduced(reduced_model_path: Path) -> TextEncoders:
    return load_text_encoders(identify(reduced_model_path), torch.float32, "cpu")


@pytest.fixture
def tiny() -> TextEncoders:
    return tiny_encoders()


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note["name"])
def test_features_equal_the_reference(reduced: TextEncoders, note: dict):
    tokens = int(note["name"].split("_")[1])
    caption = LONG["long_gt225"]["text"] if note["name"].endswith("_2") else note["caption"]
    with torch.no_grad():
        features = encode_text(reduced, *Tokenizers.load().ids([caption], tokens))
    assert features.rows.shape == (1, 2 + tokens, 256 + 512)
    rows = features.rows[0, note["rows_saved"]]
    assert_close(rows[:, :WIDTH_ONE], FIGURES[f"{note['name']}.h1_rows"], rtol=1e-5, atol=1e-5)
    assert_close(rows[:, WIDTH_ONE:], FIGURES[f"{note['name']}.h2_rows"], rtol=1e-5, atol=1e-5)
    assert_close(features.pooled[0], FIGURES[f"{note['name']}.pool2_correct_x_at_P"], rtol=1e-5, atol=1e-5)
    assert features.rows[..., :WIDTH_ONE].double().sum().item() == pytest.approx(note["h1_sum"], abs=0.02)
    assert features.rows[..., WIDTH_ONE:].double().sum().item() == pytest.approx(note["h2_sum"], abs=0.02)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_features_equal_the_hidden_states_of_transformers(tiny: TextEncoders, clip_skip: int, attention: str):
    tiny.one.set_attn_implementation(attention)
    tiny.two.set_attn_implementation(attention)
    ids_one, ids_two = Tokenizers.load().ids(CAPTIONS, 75)
    with torch.no_grad():
        ours = encode_text(tiny, ids_one, ids_two, clip_skip)
        one = tiny.one(ids_one[:, 0], output_hidden_states=True)
        two = tiny.two(ids_two[:, 0], output_hidden_states=True)
    expected = torch.cat([one.hidden_states[-clip_skip], two.hidden_states[-clip_skip]], dim=-1)
    assert_close(ours.rows, expected, rtol=1e-5, atol=1e-5)
    assert_close(ours.pooled, two.text_embeds, rtol=1e-5, atol=1e-5)


def test_rows_of_long_captions_are_bos_then_all_tokens_then_the_last_row(tiny: TextEncoders):
    ids_one, ids_two = Tokenizers.load().ids(CAPTIONS, 150)
    with torch.no_grad():
        whole = encode_text(tiny, ids_one, ids_two)
        first, second = (encode_text(tiny, ids_one[:, [n]], ids_two[:, [n]]) for n in range(2))
    expected = torch.cat([first.rows[:, :76], second.rows[:, 1:]], dim=1)
    assert whole.rows.shape[1] == 152
    assert_close(whole.rows, expected, rtol=1e-5, atol=1e-5)
    assert_close(whole.pooled, first.pooled, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_layer_that_matters_and_no_other(tiny: TextEncoders):
    features = encode_text(tiny, *Tokenizers.load().ids(CAPTIONS, 150))
    (features.rows.square().sum() + features.pooled.square().sum()).backward()
    layers: Any = (*tiny.one.encoder.layers, *tiny.two.text_model.encoder.layers)
    trained = [layer.mlp.fc1.weight.grad is not None for layer in layers]
    assert trained == [True, True, False, True, True, True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_fp32(tiny: TextEncoders, dtype: torch.dtype):
    ids = Tokenizers.load().ids(CAPTIONS, 75)
    with torch.no_grad():
        exact = encode_text(tiny, *ids)
        torch.nn.ModuleList([tiny.one, tiny.two]).to(dtype)
        half = encode_text(tiny, *ids)
    assert half.rows.dtype == half.pooled.dtype == dtype
    assert (half.rows.float() - exact.rows).norm() < 0.05 * exact.rows.norm()
    assert (half.pooled.float() - exact.pooled).norm() < 0.05 * exact.pooled.norm()


@pytest.mark.parametrize("clip_skip", [0, 4])
def test_a_clip_skip_beyond_the_layers_is_refused(tiny: TextEncoders, clip_skip: int):
    with pytest.raises(UserError, match=rf"3 layers \(got {clip_skip}\)"):
        encode_text(tiny, *Tokenizers.load().ids(CAPTIONS, 75), clip_skip)


def test_encoding_never_waits_for_the_device(tiny: TextEncoders):
    """Tensors without values: reading one on the host raises."""
    ids_one, ids_two = Tokenizers.load().ids(CAPTIONS, 150)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        features = encode_text(tiny, mode.from_tensor(ids_one), mode.from_tensor(ids_two))
    assert features.rows.shape == (2, 152, 40)
    assert features.pooled.shape == (2, 20)
