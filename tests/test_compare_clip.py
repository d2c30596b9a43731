"""CLIP's features from a folder on this computer: a tiny one with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.compare.clip import Clip, clip_problems
from engine.errors import ModelError
from tests.tiny_clip import tiny_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.mark.slow
def test_features_have_length_1_and_belong_to_their_pictures_and_texts(folder: Path, tmp_path: Path):
    clip = Clip(str(folder), "", "cpu")
    for name, colour in (("a", (200, 0, 0)), ("b", (0, 0, 200))):
        Image.new("RGB", (40, 32), colour).save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in "aab"]
    rows = clip.pictures(paths)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
    assert np.allclose(rows[0], rows[1])
    assert not np.allclose(rows[0], rows[2])
    texts = clip.texts(["a cat", "a dog"])
    assert texts.shape == (2, 16)
    assert not np.allclose(texts[0], texts[1])


@pytest.mark.slow
def test_weights_of_another_kind_are_told(tmp_path: Path):
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read as a CLIP"):
        Clip(str(tmp_path / "other.safetensors"), "ViT-B-32", "cpu")


def test_a_choice_that_cannot_work_is_told_before_anything_is_loaded(tmp_path: Path):
    assert "no file or folder" in clip_problems(str(tmp_path / "none.pt"), "ViT-L-14")[0].message
    assert "open_clip_config.json" in clip_problems(str(tmp_path), "")[0].message
    foreign = {"model_cfg": {"text_cfg": {"hf_tokenizer_name": "some/tokenizer"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(foreign))
    assert "tokenizer" in clip_problems(str(tmp_path), "")[0].message
    (tmp_path / "weights.pt").write_bytes(b"")
    assert clip_problems(str(tmp_path / "weights.pt"), "")[0].where == "clip.model"
    assert clip_problems(str(tmp_path / "weights.pt"), "ViT-L-14") == []
    assert "Did you mean ViT-L-14?" in clip_problems(str(tmp_path / "weights.pt"), "ViT-L-l4")[0].message
    for name in ("ViT-SO400M-14-SigLIP", "xlm-roberta-base-ViT-B-32"):  # parts of these are not in the file
        assert clip_problems(str(tmp_path / "weights.pt"), name)[0].where == "clip.weights"
    (tmp_path / "open_clip_config.json").write_text("[1]")
    assert "tells no model" in clip_problems(str(tmp_path), "")[0].message
