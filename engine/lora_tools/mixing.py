"""Checkpoints mixed while they are copied: one tensor of each in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from engine.drawing.lora_lines import LoraChoice
from engine.lora_tools.checkpoint_layers import block_of_key, part_of_key
from engine.lora_tools.precision import FLOATING, Precision, dtype_in
from engine.lora_tools.stream import HASHES, Entry, Tell, write_stream
from engine.lora_tools.tensors import in_format, narrowed, read_tensor, wide
from engine.sdxl.safefile import TensorInfo

if TYPE_CHECKING:
    from engine.lora_tools.merge_checkpoints import Mixing

MERGED = "modelspec.merged_from"


def mix(mixing: Mixing, precision: Precision, with_vae: bool, tell: Tell) -> None:
    """Write the mix. ModelError where a number is not finite or does not fit the precision."""
    entries: dict[str, Entry] = {}
    for name, info in mixing.base.header.tensors.items():
        dtype = dtype_in(info, precision)
        terms = _terms(mixing, name, with_vae) if info.dtype in FLOATING and info.shape else []
        if terms:
            entries[name] = Entry(dtype, info.shape, partial(_bytes, name, info, terms, dtype))
        else:
            entries[name] = in_format(info, dtype, name)
    write_stream(mixing.target, entries, _metadata(mixing), tell)


Term = tuple[float, TensorInfo, TensorInfo]


def _terms(mixing: Mixing, name: str, with_vae: bool) -> list[Term]:
    """(share, B, R) of each other checkpoint that has the tensor."""
    found: list[Term] = []
    base = (mixing.minus or mixing.base).header.tensors.get(name)
    for checkpoint, choice in mixing.others:
        other, share = checkpoint.header.tensors.get(name), share_of(choice, name, with_vae)
        if share and other is not None and base is not None:
            found.append((share, other, base))
    return found


def share_of(choice: LoraChoice, name: str, with_vae: bool) -> float:
    """How much of another checkpoint a tensor takes."""
    part = part_of_key(name)
    if part == "vae":
        return choice.strength if with_vae else 0.0
    if part == "text":
        return choice.text_strength
    block = block_of_key(name)
    return choice.strength * (choice.block_weights[block] if choice.block_weights and block is not None else 1.0)


def weighted_sum(weight: torch.Tensor, terms: Iterable[tuple[float, torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """A + Σ share · (B − R), in fp32 at least."""
    found = wide(weight).clone()
    for share, other, base in terms:
        found += share * (wide(other) - wide(base))
    return found


def _bytes(name: str, info: TensorInfo, terms: list[Term], dtype: str) -> list[Any]:
    weight = read_tensor(info)
    bases = {id(base): weight if base is info else read_tensor(base) for _, _, base in terms}
    given = ((share, read_tensor(other), bases[id(base)]) for share, other, base in terms)
    return narrowed(weighted_sum(weight, given), dtype, name, ", ".join(str(other.path) for _, other, _ in terms))


def _metadata(mixing: Mixing) -> dict[str, str]:
    found = {key: text for key, text in mixing.base.header.metadata.items() if key not in HASHES}
    mixed = [
        {
            "file": checkpoint.header.path.name,
            "share": choice.strength,
            "text": choice.text_strength,
            "blocks": list(choice.block_weights),
        }
        for checkpoint, choice in mixing.others
    ]
    names = [mixing.base.header.path.name, *(checkpoint.header.path.name for checkpoint, _ in mixing.others)]
    found[MERGED] = ", ".join(filter(None, [found.get(MERGED, ""), *names]))
    minus = mixing.minus.header.path.name if mixing.minus else ""
    found["atelier.mixed"] = json.dumps({"minus": minus, "others": mixed}, ensure_ascii=False)
    return found
