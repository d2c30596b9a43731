"""How large the layers of a new LoRA file are, told before it is made. Torch-free."""

from __future__ import annotations

from engine.lora_tools.choices import RankChoice
from engine.lora_tools.lora_file import LoraLayer
from engine.sdxl.safefile import DTYPE_BYTES

_ENTRY_BYTES = 200
"""What a tensor takes in the header, its alpha with it."""
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def number_bytes(layer: LoraLayer, precision: str) -> int:
    """Bytes of each number of the layer in this precision."""
    own = max((DTYPE_BYTES[info.dtype] for info in layer.tensors.values()), default=4)
    return _BYTES.get(precision, own)


def pair_bytes(shape: tuple[int, int], rank: int, each_bytes: int) -> int:
    """Bytes of a LoRA pair of this rank for a matrix of this shape."""
    return sum(shape) * rank * each_bytes + 2 * _ENTRY_BYTES


def kept_bytes(layer: LoraLayer, precision: str) -> int:
    """Bytes of a layer that keeps its tensors."""
    own = max((DTYPE_BYTES[info.dtype] for info in layer.tensors.values()), default=4)
    return layer.size_bytes * number_bytes(layer, precision) // own + len(layer.tensors) * _ENTRY_BYTES


def lora_bytes(layer: LoraLayer, choice: RankChoice, precision: str) -> int:
    """At most so many bytes a layer takes after its rank was chosen."""
    kept = kept_bytes(layer, precision)
    if layer.family == "norm":
        return kept
    limit = choice.limit(layer.name, layer.kernel)
    if layer.family in ("lora", "dora"):
        limit = min(limit, layer.rank)
    return pair_bytes(layer.matrix_shape, min(limit, *layer.matrix_shape), number_bytes(layer, precision))
