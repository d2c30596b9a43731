"""How alike captions are: the figures by their definitions, the features as training has them, the tool as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_runs import carry_out, contents, make, propose

from captioning.caption_similarity import LIMITS, likeness
from captioning.text_features import features, load_encoders
from engine.errors import ModelError, UserError
from engine.sdxl.detect import identify
from engine.sdxl.text import encode_text
from engine.sdxl.tokenizer import Tokenizers

MODEL = ROOT / "demo" / "model.safetensors"


def random_features(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1.0, (count, 8)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.lists(st.integers(1, 4), min_size=2, max_size=9), st.sampled_from([0.2, 0.9]))
def test_the_figures_are_those_of_all_pairs(seed: int, counts: list[int], threshold: float):
    given_features = random_features(seed, len(counts))
    found = likeness(given_features, counts, threshold)
    units = given_features / np.linalg.norm(given_features, axis=1, keepdims=True)
    every = np.repeat(units, counts, axis=0).astype(np.float64)
    cosines = (every @ every.T)[np.triu_indices(len(every), 1)]
    assert found.mean == pytest.approx(cosines.mean(), abs=1e-5)
    assert found.similar_share == pytest.approx((cosines >= threshold - 1e-6).mean(), abs=1e-9)
    direction = np.linalg.norm(every.sum(axis=0))
    assert found.diversity == pytest.approx(1 - direction / len(every), abs=1e-5)
    among = units.astype(np.float64) @ units.T.astype(np.float64)
    np.fill_diagonal(among, -2)
    assert [pair.cosine for pair in found.nearest if pair] == pytest.approx(list(among.max(axis=1)), abs=1e-5)
    assert found.pairs[0].cosine == pytest.approx(among.max(), abs=1e-5)
    assert sorted(found.pairs, key=lambda pair: -pair.cosine) == list(found.pairs)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    counts = [1 + n % 3 for n in range(40)]
    whole = likeness(random_features(1, 40), counts, 0.5)
    monkeypatch.setattr("captioning.caption_similarity._ROWS_AT_ONCE", 7)
    parts = likeness(random_features(1, 40), counts, 0.5)
    assert (parts.mean, parts.similar_share) == pytest.approx((whole.mean, whole.similar_share), rel=1e-6)
    assert [(p.one, p.two) for p in parts.pairs] == [(p.one, p.two) for p in whole.pairs]
    assert [p and p.two for p in parts.nearest] == [p and p.two for p in whole.nearest]


def test_one_caption_for_all_is_beyond_every_limit():
    found = likeness(random_features(2, 1), [5])
    assert (found.mean, found.similar_share) == (1.0, 1.0) and found.diversity == pytest.approx(0, abs=1e-6)
    assert found.pairs == () and found.nearest == (None,)
    assert all(len(found.beyond(limits)) == 3 for limits in LIMITS.values())


def test_captions_at_right_angles_are_within_every_limit():
    found = likeness(np.eye(6, dtype=np.float32), [1] * 6)
    assert (found.mean, found.similar_share) == (0.0, 0.0)
    assert found.diversity == pytest.approx(1 - 6**-0.5)
    assert [found.beyond(limits) for limits in LIMITS.values()] == [[], []]


@pytest.fixture(scope="module")
def encoders():
    return load_encoders(identify(MODEL), torch.device("cpu"))


def test_features_are_the_summaries_that_training_uses(encoders):
    captions = [f"a {color} shape" for color in ("red", "blue")] + [f"picture {n}" for n in range(20)]
    batches = list(features(encoders, captions))
    one, two = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    ids_one, ids_two = Tokenizers.load().ids(captions, 75)
    with torch.inference_mode():
        pooled = encode_text(encoders, ids_one, ids_two).pooled.numpy()
        own = encoders.one(input_ids=ids_one[:, 0]).pooler_output.numpy()
    np.testing.assert_allclose(two, pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one, own, rtol=1e-4, atol=1e-5)


def test_the_tool_tells_names_and_advice_and_changes_nothing(tmp_path: Path):
    data = make(
        tmp_path / "set",
        {
            **{f"10_x/{n}.png": None for n in range(5)},
            "10_x/0.txt": "a red circle on a white background",
            "10_x/1.txt": "a red circle on a white background",
            "10_x/2.txt": "a red disc on a white background",
            "10_x/3.txt": "a green heart, " * 40,
            "10_x/4.txt": "",
        },
    )
    before = contents(data)
    code, job = carry_out(tmp_path / "job", "similarity", folder=data, model=MODEL, device="cpu")
    assert code == 0 and contents(data) == before
    notes = {Path(done.row.source).name: (done.outcome, done.row.note) for done in job.read_table()[0]}
    assert notes["4.png"] == ("kept", "has no caption")
    assert notes["0.png"][1].startswith("1 other image with the very same caption; text encoder 1: ")
    assert "to 2.png" in notes["0.png"][1] and "to 0.png" in notes["2.png"][1]
    told = json.loads((job.path / "similarity.json").read_text(encoding="utf-8"))
    assert (told["captions"], told["different"]) == (4, 3)
    first = told["encoders"][0]
    assert [Path(path).name for path in first["pairs"][0]["images"]] == ["0.png", "2.png"]
    assert told["encoders"][1]["mean"] <= 1 and "Say in each caption" in told["advice"]
    log = job.events.read_text(encoding="utf-8")
    assert "is safe" in log and "only the beginning is compared" in log


def test_a_stop_ends_it_without_a_result(tmp_path: Path, encoders, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("captioning.text_features.load_encoders", lambda *_: encoders)
    data = make(tmp_path / "set", {"a.png": None, "a.txt": "one", "b.png": None, "b.txt": "two"})
    (tmp_path / "job" / "requests").mkdir(parents=True)
    (tmp_path / "job" / "requests" / "stop").touch()
    code, job = carry_out(tmp_path / "job", "similarity", folder=data, model=MODEL, device="cpu")
    assert code == 0 and job.status() == "stopped" and not (job.path / "similarity.json").exists()


def test_what_cannot_be_compared_is_told(tmp_path: Path):
    data = make(tmp_path / "set", {"a.png": None, "a.txt": "one", "b.png": None})
    with pytest.raises(ModelError, match="no base model is given"):
        propose("similarity", folder=data)
    with pytest.raises(ModelError):
        propose("similarity", folder=data, model=tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="fewer than two captions"):
        propose("similarity", folder=data, model=MODEL)
