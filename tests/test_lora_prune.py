"""The tools `prune`, `cut` and `dylora`: what stays stays to the bit, alpha keeps its meaning, faults in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import UserError
from engine.layer_choice import BLOCK_CHOICES
from engine.lora_tools import TOOLS
from engine.tools.tool import settings_table
from tests.lora_files import (
    CONVOLUTION,
    FEED_FORWARD,
    LINEAR,
    TEXT,
    changes_of,
    made,
    metadata_of,
    propose,
    sentences,
    tensors_of,
    write_file,
)


def layers_of(path: Path) -> set[str]:
    return {key.partition(".")[0] for key in tensors_of(path)}


@pytest.mark.parametrize(
    ("tool", "values", "left"),
    [
        ("cut", {"away": "text_encoders"}, {LINEAR, FEED_FORWARD, CONVOLUTION}),
        ("cut", {"away": "unet"}, {TEXT}),
        ("prune", {"blocks": "cross_attention", "text_encoders": False}, {LINEAR}),
        ("prune", {"block_numbers": "1, 5-12", "text_encoders": False}, {LINEAR, CONVOLUTION}),
        ("prune", {"block_numbers": "13-22"}, {FEED_FORWARD, TEXT}),
        ("prune", {"include": "*attn2*\n*ff_net*", "exclude": "*output_blocks*"}, {LINEAR}),
    ],
)
def test_chosen_layers_stay_to_the_bit(tmp_path: Path, tool: str, values: dict[str, object], left: set[str]) -> None:
    source = write_file(tmp_path / "a.safetensors", "lokr", dtype=torch.float16)
    result = made(tool, tmp_path, files=source, **values)
    old, new = tensors_of(source), tensors_of(result)
    assert layers_of(result) == left
    assert all(torch.equal(old[key], tensor) and old[key].dtype == tensor.dtype for key, tensor in new.items())


def test_the_blocks_to_choose_are_those_that_training_knows() -> None:
    choices = settings_table("prune", TOOLS["prune"].Settings)["blocks"].choices
    assert set(choices) == set(BLOCK_CHOICES)


def test_nothing_left_and_words_that_are_no_blocks_are_told(tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.safetensors", layers=(LINEAR,))
    assert "nothing would be left" in sentences(propose("prune", files=source, exclude="*"))
    assert "no layer of it would go" in sentences(propose("prune", files=source, block_numbers="5"))
    with pytest.raises(UserError, match="from 0 to 22"):
        propose("prune", files=source, block_numbers="9-4")
    with pytest.raises(UserError, match="not a regular expression"):
        propose("prune", files=source, include="re:(")


def test_the_same_in_another_precision(tmp_path: Path) -> None:
    result = made("cut", tmp_path, files=write_file(tmp_path / "a.safetensors"), precision="fp16")
    assert {tensor.dtype for tensor in tensors_of(result).values() if tensor.dim()} == {torch.float16}


def dylora(path: Path) -> Path:
    source = tensors_of(write_file(path.with_name("plain.safetensors"), rank=8, alpha=4))
    save_file(source, path, {"ss_network_module": "networks.dylora", "ss_network_args": '{"unit": "4"}'})
    return path


def test_a_dylora_at_a_rank_is_its_first_ranks_at_alpha_by_that_rank(tmp_path: Path) -> None:
    """As it was trained: with b ranks in use the factor is alpha / b (adapters/dylora.py)."""
    source = dylora(tmp_path / "dy.safetensors")
    result = made("dylora", tmp_path, files=source, rank=4)
    old = tensors_of(source)
    up, down = old[f"{LINEAR}.lora_up.weight"], old[f"{LINEAR}.lora_down.weight"]
    torch.testing.assert_close(changes_of(result)[LINEAR], 4 / 4 * up[:, :4] @ down[:4])
    assert (metadata_of(result)["ss_network_module"], metadata_of(result)["ss_network_dim"]) == ("networks.lora", "4")


def test_what_is_no_dylora_is_told(tmp_path: Path) -> None:
    source = dylora(tmp_path / "dy.safetensors")
    assert "blocks of 4" in str(propose("dylora", files=source, rank=3).warnings[0])
    assert "Choose a lower one" in sentences(propose("dylora", files=source, rank=8))
    plain = propose("dylora", files=tmp_path / "plain.safetensors", rank=4)
    assert not plain.problems and "use resize" in str(plain.warnings[0])
    loha = write_file(tmp_path / "loha.safetensors", "loha")
    assert "not a DyLoRA" in sentences(propose("dylora", files=loha, rank=4))
