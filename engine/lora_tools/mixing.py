"""Checkpoints mixed while they are copied: one tensor of each in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from engine.drawing.lora_lines import LoraChoice
from engine.lora_tools.checkpoint_layers import Checkpoint, block_of_key, part_of_key
from engine.lora_tools.checkpoint_tensors import metadata_of, weight_blocks, weight_entry
from engine.lora_tools.precision import FLOATING, Precision, dtype_in
from engine.lora_tools.stream import Entry, Tell, write_stream
from engine.lora_tools.tensors import narrowed, wide

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
            entries[name] = Entry(dtype, info.shape, partial(_bytes, mixing, name, terms, dtype))
        else:
            entries[name] = weight_entry(mixing.base, name, dtype)
    write_stream(mixing.target, entries, _metadata(mixing), tell)


Term = tuple[float, Checkpoint]


def _terms(mixing: Mixing, name: str, with_vae: bool) -> list[Term]:
    """(share, B) of each other checkpoint that has the tensor, as R must too."""
    if name not in (mixing.minus or mixing.base).header.tensors:
        return []
    shares = [(share_of(choice, name, with_vae), checkpoint) for checkpoint, choice in mixing.others]
    return [(share, other) for share, other in shares if share and name in other.header.tensors]


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


def _bytes(mixing: Mixing, name: str, terms: list[Term], dtype: str) -> Iterator[Any]:
    checkpoints = [mixing.base, mixing.minus or mixing.base, *(other for _, other in terms)]
    where = ", ".join(str(other.header.path) for _, other in terms)
    for weight, base, *others in zip(*(weight_blocks(each, name) for each in checkpoints), strict=True):
        given = ((share, other, base) for (share, _), other in zip(terms, others, strict=True))
        yield from narrowed(weighted_sum(weight, given), dtype, name, where)


def _metadata(mixing: Mixing) -> dict[str, str]:
    found = metadata_of(mixing.base)
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
