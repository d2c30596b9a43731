"""What adding the changes of several LoRAs at a layer comes to, told from their headers. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from engine.adapter_names import MID
from engine.errors import Problem
from engine.lora_tools.lora_file import NAMES, NEEDS_THE_BASE, LoraFile, LoraLayer

Method = Literal["concatenate", "svd", "add"]
DIFFERENCES = ("full", "norm")
"""Families that are simply added up, number by number."""


@dataclass(frozen=True)
class Part:
    """What one file (by its place) does to a layer, and how strongly it takes part."""

    file: int
    layer: LoraLayer
    weight: float


def exact_rank(layer: LoraLayer) -> int:
    """The rank of the thin matrices whose product a layer's change is; its smaller side for differences."""
    if layer.family == "loha":
        return layer.rank**2
    if layer.family == "lokr":
        return math.prod(_kronecker_rank(layer, number) for number in ("w1", "w2"))
    return min(layer.matrix_shape) if layer.family in DIFFERENCES else layer.rank


def summed_rank(parts: Sequence[Part]) -> int:
    """The rank that holds the sum exactly."""
    return sum(exact_rank(part.layer) for part in parts)


def shared_faults(files: Sequence[LoraFile], parts: Mapping[str, Sequence[Part]]) -> list[Problem]:
    """Families that cannot be added without their base model, and layers of other models."""
    found = [
        Problem(
            str(file.path),
            f"has layers of the kind {NAMES[family]}, whose change depends on the base model's weights. "
            "Merge it into its base and extract a LoRA first.",
        )
        for file in files
        for family in NEEDS_THE_BASE
        if family in file.families
    ]
    if found:
        return found
    if not parts:
        return [Problem("files", "every weight is 0, so nothing would be left.")]
    for name, own in parts.items():
        shapes = {part.layer.matrix_shape: files[part.file].path.name for part in own}
        if len(shapes) > 1:
            told = " and ".join(f"{list(shape)} in {file}" for shape, file in shapes.items())
            what = f"were made for models of different sizes: {name} is {told}. Choose LoRAs for one kind of model."
            return [Problem("files", what)]
    return []


def layer_faults(method: Method, parts: Mapping[str, Sequence[Part]]) -> list[Problem]:
    """What a method cannot add: the first layer of each kind of fault."""
    found: dict[str, Problem] = {}
    for name, own in parts.items():
        fault = _fault(method, own) if len(own) > 1 else ""
        if fault:
            found.setdefault(fault, Problem("method", f"{fault} (first: {name})."))
    return list(found.values())


def _fault(method: Method, parts: Sequence[Part]) -> str:
    families = {part.layer.family for part in parts}
    if len(families) == 1 and families <= set(DIFFERENCES):
        return ""
    if "norm" in families:
        return "meets a norm in one LoRA and another kind of layer in the other; prune those layers first"
    if method != "svd" and "full" in families:
        return "cannot add differences and low ranks exactly; choose svd"
    if method != "add":
        return ""
    shapes = {tuple(sorted((suffix, info.shape) for suffix, info in part.layer.tensors.items())) for part in parts}
    if len(families) > 1 or len(shapes) > 1:
        return "needs LoRAs of one family and rank, layer by layer; choose concatenate or svd"
    has_cores = any(MID in part.layer.tensors for part in parts)
    if (families != {"lora"} or has_cores) and len({part.layer.scale for part in parts}) > 1:
        return "needs LoRAs of one alpha, layer by layer; choose concatenate or svd"
    if min(part.weight for part in parts) < 0:
        return "needs weights above 0; choose concatenate to take a LoRA away"
    return ""


def _kronecker_rank(layer: LoraLayer, number: str) -> int:
    whole = layer.tensors.get(f"lokr_{number}")
    if whole is None:
        return layer.tensors[f"lokr_{number}_b"].shape[0]
    return min(whole.shape[0], math.prod(whole.shape[1:]))
