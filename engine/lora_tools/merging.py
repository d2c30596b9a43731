"""Adapters merged into a checkpoint while it is copied: one tensor in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.adapter_header import SCALARS, AdapterHeader, is_number, read_number
from engine.adapter_names import DOTTED, DOWN, MAGNITUDE, UP, part_of
from engine.adapters.cores import without_core
from engine.adapters.loading import as_column, fitted, layer_of, site_of
from engine.adapters.merging import Step, merged_bias, merged_weight
from engine.adapters.targets import Target
from engine.drawing.lora_lines import LoraChoice
from engine.errors import ModelError
from engine.finite import is_finite
from engine.lora_tools.checkpoint_layers import Checkpoint, Weight
from engine.lora_tools.checkpoint_tensors import metadata_of, read_weight, weight_blocks, weight_entry
from engine.lora_tools.precision import Precision, dtype_in
from engine.lora_tools.stream import Entry, Tell, write_stream
from engine.lora_tools.tensors import narrowed, read_tensor, wide
from engine.sdxl.layers import UNET, block_of

if TYPE_CHECKING:
    from engine.lora_tools.merge import Merging

MERGED = "modelspec.merged_from"


@dataclass(frozen=True)
class _Change:
    """What one adapter does to a layer: the whole weight, or one third of a stacked one."""

    header: AdapterHeader
    layer: str
    strength: float
    weight: Weight


def merge(merging: Merging, precision: Precision, tell: Tell) -> None:
    """Write the merged checkpoint. ModelError where an adapter does not fit, or a number is not finite."""
    checkpoint = merging.checkpoint
    weights: dict[str, list[_Change]] = {}
    biases: dict[str, list[_Change]] = {}
    for header, choice in merging.loras:
        for layer, held in header.layers.items():
            weight, strength = checkpoint.weight_of(layer), strength_of(choice, layer)
            if weight is None or not strength:
                continue
            change = _Change(header, layer, strength, weight)
            weights.setdefault(weight.key, []).append(change)
            if {"diff_b", "b_norm"} & held.keys():
                biases.setdefault(weight.bias_key, []).append(change)
    _refuse_missing(biases, checkpoint)
    entries: dict[str, Entry] = {}
    for name, info in checkpoint.header.tensors.items():
        dtype, changes = dtype_in(info, precision), weights.get(name) or biases.get(name)
        if changes:
            how = _weight_bytes if name in weights else _bias_bytes
            entries[name] = Entry(dtype, info.shape, partial(how, checkpoint, name, changes, dtype))
        else:
            entries[name] = weight_entry(checkpoint, name, dtype)
    write_stream(merging.target, entries, _metadata(merging), tell)


def strength_of(choice: LoraChoice, layer: str) -> float:
    """How strongly an adapter acts on a layer."""
    if part_of(layer) != UNET:
        return choice.text_strength
    block = block_of(layer.replace("oft_unet_", "lora_unet_", 1))
    weights = choice.block_weights
    return choice.strength * (weights[block] if weights and block is not None else 1.0)


def step_of(header: AdapterHeader, layer: str, shape: tuple[int, ...], strength: float) -> Step:
    """An adapter's layer, read, for a weight of this shape. ModelError where it does not fit."""
    where, tensors, scalars = str(header.path), {}, {}
    for suffix, info in header.layers[layer].items():
        if suffix in SCALARS and is_number(info):
            scalars[suffix] = read_number(info)
            continue
        tensor = read_tensor(info)
        if not is_finite(tensor):
            what = f"holds numbers that are not finite (NaN or infinite), in {layer}. Choose an earlier checkpoint."
            raise ModelError(what, where)
        tensors[suffix] = as_column(tensor) if suffix == MAGNITUDE and header.naming in DOTTED else tensor
    alpha = header.alpha_of(layer)
    if alpha is not None:
        scalars["alpha"] = alpha
    loaded = layer_of(layer, without_core(tensors, layer, where), scalars, where)
    site = site_of(Target(part_of(layer) or "", layer, layer, _module(shape), len(shape) == 4), loaded)
    return Step(site, fitted(loaded, layer, site, where), strength)


def _module(shape: tuple[int, ...]) -> Any:
    """A layer with a weight of this shape, without content."""
    with torch.device("meta"):
        if len(shape) == 1:
            return nn.LayerNorm(shape[0])
        if len(shape) == 4 and shape[2:] != (1, 1):
            return nn.Conv2d(shape[1], shape[0], shape[2:])  # pyright: ignore[reportArgumentType]
        return nn.Linear(shape[1], shape[0])


def _weight_bytes(checkpoint: Checkpoint, name: str, changes: Iterable[_Change], dtype: str) -> Iterator[Any]:
    shape, where = checkpoint.header.tensors[name].shape, str(checkpoint.header.path)  # adapters are looked at before
    found = [(_rows(change.weight, shape), _step(change, shape)) for change in changes]
    if all(step.site.algorithm == "lora" and step.parameters.keys() == {DOWN, UP} for _, step in found):
        for block in _with_low_rank(weight_blocks(checkpoint, name), found):
            yield from narrowed(block, dtype, name, where)
        return
    whole = wide(read_weight(checkpoint, name))
    for rows, step in found:
        own = whole[rows]
        own.copy_(merged_weight([step], own.reshape(_own_shape(own.shape))).reshape(own.shape))
    yield from narrowed(whole, dtype, name, where)


def _rows(weight: Weight, shape: tuple[int, ...]) -> slice:
    """The rows of the tensor that a layer's weight is."""
    third = -(-shape[0] // 3)
    return slice(0, shape[0]) if weight.third is None else slice(weight.third * third, (weight.third + 1) * third)


def _own_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[:2]) if shape[2:] == (1, 1) else tuple(shape)


def _step(change: _Change, shape: tuple[int, ...]) -> Step:
    rows = len(range(*_rows(change.weight, shape).indices(shape[0])))
    return step_of(change.header, change.layer, _own_shape((rows, *shape[1:])), change.strength)


@torch.no_grad()
def _with_low_rank(blocks: Iterable[Tensor], steps: Iterable[tuple[slice, Step]]) -> Iterator[Tensor]:
    """W + s · up · down, some rows at a time: as `merged_weight`, without ΔW as a whole. Blocks may be written to."""
    terms: list[tuple[int, Tensor, Tensor]] = []
    for rows, step in steps:
        up, down = (wide(step.parameters[suffix]).flatten(1) for suffix in (UP, DOWN))
        terms.append((rows.start, step.site.scale * step.strength * up, down))
    begin = 0
    for block in blocks:
        whole = wide(block)
        flat, end = whole.flatten(1), begin + len(whole)
        for start, up, down in terms:
            first, last = max(begin, start), min(end, start + len(up))
            if first < last:
                part = up[first - start : last - start]
                flat[first - begin : last - begin].addmm_(part.to(flat.dtype), down.to(flat.dtype))
        yield flat.view(whole.shape)
        begin = end


def _bias_bytes(checkpoint: Checkpoint, name: str, changes: Iterable[_Change], dtype: str) -> Iterable[Any]:
    whole: Tensor = wide(read_weight(checkpoint, name))
    for change in changes:
        step = step_of(change.header, change.layer, checkpoint.shape_of(change.weight), change.strength)
        own = whole if change.weight.third is None else whole.chunk(3)[change.weight.third]
        own.copy_(merged_bias([step], own))
    return narrowed(whole, dtype, name, str(checkpoint.header.path))


def _refuse_missing(biases: Mapping[str, list[_Change]], checkpoint: Checkpoint) -> None:
    missing = [name for name in biases if name not in checkpoint.header.tensors]
    if missing:
        header = biases[missing[0]][0].header
        what = f"changes the bias {missing[0]}, which this model does not have. It was made for another base model."
        raise ModelError(what, str(header.path))


def _metadata(merging: Merging) -> dict[str, str]:
    found = metadata_of(merging.checkpoint)
    merged = [
        {
            "file": header.path.name,
            "hash": header.metadata.get("sshs_model_hash", ""),
            "strength": choice.strength,
            "text_strength": choice.text_strength,
            "blocks": list(choice.block_weights),
        }
        for header, choice in merging.loras
    ]
    earlier = found.get(MERGED, "")
    names = [merging.checkpoint.header.path.name, *(header.path.name for header, _ in merging.loras)]
    found[MERGED] = ", ".join(filter(None, [earlier, *names]))
    found["atelier.merged"] = json.dumps(merged, ensure_ascii=False)
    return found
