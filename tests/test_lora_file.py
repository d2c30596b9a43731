"""engine/lora_tools/lora_file.py: the header alone tells what loading the file tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Context
from engine.adapters.loading import load_adapter_file
from engine.errors import ModelError
from engine.lora_tools.lora_file import NEEDS_THE_BASE, read_lora
from tests.lora_files import CONVOLUTION, LINEAR, SHAPES_OF, changes_of, layer_tensors, write_file

OURS = {"full": "full", "boft": "oft", "lora_fa": "lora", "dylora": "lora", "tlora": "lora"}


@pytest.mark.parametrize("algorithm", ADAPTERS)
def test_family_rank_and_alpha_are_those_of_the_loaded_file(tmp_path: Path, algorithm: str) -> None:
    path = write_file(tmp_path / "a.safetensors", algorithm, rank=6, alpha=2, layers=(LINEAR,))
    found, loaded = read_lora(path), load_adapter_file(path)
    for name, layer in loaded.layers.items():
        ours = found.layers[name]
        assert ours.family == OURS.get(algorithm, algorithm)
        if ours.family not in ("full", "ia3", "oft"):
            assert (ours.rank, ours.alpha) == (layer.rank, layer.alpha)
        if ours.family not in NEEDS_THE_BASE:
            assert ours.matrix_shape == SHAPES_OF[name]


@pytest.mark.parametrize("options", [{}, {"factor": 4}, {"full_matrix": True}, {"decompose_both": True}])
def test_the_change_of_a_lokr_is_what_training_applies(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_file(tmp_path / "a.safetensors", "lokr", rank=2, alpha=1, layers=(LINEAR, CONVOLUTION), **options)
    for name, layer in load_adapter_file(path).layers.items():
        weight = torch.zeros(SHAPES_OF[name])
        expected = layer.how.delta_weight(layer.tensors, weight, Context(layer.alpha / layer.rank))
        torch.testing.assert_close(changes_of(path)[name], expected.flatten(1))
        assert read_lora(path).layers[name].kernel in (SHAPES_OF[name][2:], ())


def test_an_alpha_that_is_no_number_and_a_layer_of_two_kinds_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = layer_tensors(LINEAR, "lora", 2, 1, 0)
    save_file({**tensors, f"{LINEAR}.alpha": torch.tensor(float("nan"))}, path)
    with pytest.raises(ModelError, match="no number"):
        read_lora(path)
    save_file({**tensors, f"{LINEAR}.hada_w1_a": torch.ones(3, 2)}, path)
    with pytest.raises(ModelError, match="lacks tensors"):
        read_lora(path)
    save_file({**tensors, f"{LINEAR}.lora_more.weight": torch.ones(2, 2)}, path)
    with pytest.raises(ModelError, match="not known here"):
        read_lora(path)
