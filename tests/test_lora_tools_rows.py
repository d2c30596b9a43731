"""Large tensors are worked on some rows at a time: the same numbers as in one piece."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro_loras import carry_out, save_lora
from micro_model import micro_model
from safetensors.torch import load, load_file, save_file

from engine.adapters.attach import Recipe
from engine.finite import is_finite
from engine.lora_tools import tensors
from engine.sdxl.safefile import TensorInfo, read_header

PARTS = ("unet", "text_encoder_1", "text_encoder_2")


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(1, 300))
def test_blocks_of_rows_are_the_tensor_one_after_the_other(shape: list[int], at_once: int) -> None:
    info = TensorInfo(Path("x"), "F16", tuple(shape), 100, 100 + 2 * math.prod(shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "_NUMBERS_AT_ONCE", at_once)
        blocks = list(tensors.row_blocks(info))
    assert (blocks[0].start, blocks[-1].end) == (info.start, info.end)
    assert all(one.end == two.start for one, two in itertools.pairwise(blocks))
    assert all(block.end - block.start == 2 * math.prod(block.shape) for block in blocks)
    if math.prod(shape) and shape:
        assert sum(block.shape[0] for block in blocks) == shape[0]
        assert all(block.shape[0] == 1 or math.prod(block.shape) <= at_once for block in blocks)


def made(folder: Path, at_once: int, tool: str, **values: Any) -> bytes:
    """The file that a tool writes with blocks of so many numbers."""
    target = folder / f"{tool}-{at_once}.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "_NUMBERS_AT_ONCE", at_once)
        assert carry_out(folder / f"job-{tool}-{at_once}", tool, output=target, **values)[0] == 0
    return target.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["file", "folder"])
def test_a_merge_of_two_loras_is_the_same_in_pieces(tmp_path: Path, layout: str) -> None:
    """q, k and v of the second encoder are thirds of one tensor: pieces of 300 numbers cut through them."""
    base = micro_model()
    one = save_lora(tmp_path / "one.safetensors", Recipe(rank=2, conv_rank=1), PARTS)
    two = save_lora(tmp_path / "two.safetensors", Recipe(rank=3), PARTS)
    if layout == "folder":
        values = {"file": base, "layout": "folder", "output": tmp_path / "folder"}
        assert carry_out(tmp_path / "job", "convert", **values)[0] == 0
        base = tmp_path / "folder"
    values = {"base": base, "loras": f"{one}: 0.7\n{two}: -0.3: 0.5", "precision": "fp32"}
    whole, pieces = (load(made(tmp_path, at_once, "merge", **values)) for at_once in (1 << 18, 300))
    assert whole.keys() == pieces.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, rtol=1e-5, atol=1e-7)
    before = load_file(micro_model())
    assert sum(not torch.equal(pieces[name], before[name].float()) for name in before) > 50


@pytest.mark.slow
def test_a_mix_and_a_narrower_copy_are_the_same_in_pieces_to_the_bit(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    about = read_header(micro_model()).metadata
    save_file({name: tensor * 1.25 for name, tensor in load_file(micro_model()).items()}, other, about)
    for tool, values in (
        ("merge_checkpoints", {"base": micro_model(), "others": f"{other}: 0.4"}),
        ("convert", {"file": micro_model(), "precision": "bf16"}),
    ):
        assert made(tmp_path, 1 << 18, tool, **values) == made(tmp_path, 70, tool, **values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn])
@given(st.integers(0, 200), st.sampled_from([None, math.nan, math.inf, -math.inf]), st.integers(0, 199))
def test_whether_all_numbers_are_finite(dtype: torch.dtype, count: int, odd: float | None, place: int) -> None:
    tensor = torch.linspace(-3, 3, count).to(dtype)
    if odd is not None and count:
        tensor[place % count] = odd
    assert is_finite(tensor) == bool(torch.isfinite(tensor.float()).all())
    assert is_finite(tensor[::2]) == bool(torch.isfinite(tensor[::2].float()).all())


def test_whole_numbers_are_finite() -> None:
    assert is_finite(torch.arange(5)) and is_finite(torch.ones(2, dtype=torch.bool)) and is_finite(torch.tensor(1.0))
