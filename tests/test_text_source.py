"""Text features: from the cache the same as computed, each text once, never those of other text or other weights."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.data.cache import Store
from engine.data.caption_draws import EMPTY, Caption
from engine.preset import Preset
from engine.text_source import TextReading, TextSource, Words, text_reading
from tests.tiny_text import tiny_encoders

CAPTIONS = [Caption.of("a (cat:1.5)"), EMPTY, Caption("a cat", "a dog"), Caption("a dog", "a cat")]


def source(folder=None, **reading) -> TextSource:
    store = Store.open(folder, "text") if folder else None
    return TextSource(tiny_encoders(), "weights", store, TextReading(**reading))


def test_captions_and_sample_prompts_are_read_as_the_preset_says():
    changes = {"captions.weighted": True, "captions.max_tokens": 150, "memory.gradient_checkpointing": True}
    assert text_reading(Preset().changed(changes)) == TextReading(150, 2, weighted=True, checkpointing=True)
    assert text_reading(Preset()) == TextReading()


def silent(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("weighted", [False, True])
def test_cached_features_are_the_live_ones(tmp_path, weighted):
    cached = source(tmp_path, weighted=weighted)
    cached.prepare(CAPTIONS, silent)
    cached.release()
    with torch.no_grad():
        live = [source(weighted=weighted).features([caption]) for caption in CAPTIONS]
    kept = cached.features(CAPTIONS)
    assert torch.equal(kept.rows, torch.cat([each.rows for each in live]))
    assert torch.equal(kept.pooled, torch.cat([each.pooled for each in live]))


def test_each_text_is_encoded_once(tmp_path):
    told: list[tuple[int, int]] = []
    first = source(tmp_path)
    first.prepare([*CAPTIONS, *CAPTIONS], lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    again: list[int] = []
    source(tmp_path).prepare(CAPTIONS, lambda done, total: again.append(done))
    assert again == []


@pytest.mark.parametrize("change", [{"weighted": True}, {"tokens": 150}, {"clip_skip": 1}])
def test_features_read_otherwise_are_others(tmp_path, change):
    source(tmp_path).prepare(CAPTIONS, silent)
    other = source(tmp_path, **change)
    other.release()
    with pytest.raises(RuntimeError, match="not prepared"):
        other.features(CAPTIONS)


def test_checkpointing_is_no_reason_to_encode_again(tmp_path):
    source(tmp_path).prepare(CAPTIONS, silent)
    again: list[int] = []
    source(tmp_path, checkpointing=True).prepare(CAPTIONS, lambda done, total: again.append(done))
    assert again == []


def test_each_encoder_reads_its_own_caption():
    with torch.no_grad():
        both = source().features([Caption("a cat", "a dog")])
        cat, dog = (source().features([Caption.of(text)]) for text in ("a cat", "a dog"))
    assert torch.equal(both.rows[..., :16], cat.rows[..., :16])
    assert torch.equal(both.rows[..., 16:], dog.rows[..., 16:])
    assert torch.equal(both.pooled, dog.pooled)


def test_encoding_of_prepared_words_never_waits_for_the_device():
    """Tensors without values: reading one on the host raises."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        made = source(weighted=True)
        words = Words(
            ids=(mode.from_tensor(torch.zeros(2, 1, 77).long()), mode.from_tensor(torch.zeros(2, 1, 77).long())),
            weights=(mode.from_tensor(torch.ones(2, 1, 77)), mode.from_tensor(torch.ones(2, 1, 77))),
        )
        assert made.encode(words).rows.shape == (2, 77, 40)


def test_a_batch_carries_what_the_model_reads_of_its_captions(tmp_path):
    cached = source(tmp_path)
    cached.prepare(CAPTIONS, silent)
    words = cached.words(CAPTIONS[:2])
    assert words.features is not None and words.features.rows.shape == (2, 77, 40)
    live = source().words(CAPTIONS[:2])
    assert live.features is None and live.ids is not None and live.ids[0].shape == (2, 1, 77)
