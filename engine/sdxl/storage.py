"""Base weights kept in 8 or 4 bits and made dense when used: fp8 and int8 scaled per output row, nf4 per 64 numbers.

Only frozen weights of linears and convolutions are stored so; norms, biases, embeddings (of tokens, time and size),
the first and last convolution and what is small stay as they are. The computation itself is in the run's precision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import MissingPackage
from engine.sdxl.frozen import frozen_conv2d, frozen_linear

LEAST_NUMBERS = 4096
NF4_BLOCK = 64
FP8_MAX, INT8_MAX = 448.0, 127.0
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_NF4_PAIRS = {  # both numbers of each byte, [256, 2]
    dtype: torch.cartesian_prod(torch.tensor(NF4_LEVELS), torch.tensor(NF4_LEVELS)).to(dtype)
    for dtype in (torch.float32, torch.bfloat16, torch.float16)
}
LEFT_ALONE = ("time_embedding", "add_embedding", "conv_in", "conv_out", "text_projection")


@dataclass(frozen=True)
class Storage:
    """How a weight is kept.

    pack: (weight [out, …] of any floating dtype, compute dtype) → (numbers, scales); the weight is not changed.
    unpack: (numbers, scales, shape, compute dtype) → weight in that shape and dtype.
    """

    pack: Callable[[Tensor, torch.dtype], tuple[Tensor, Tensor]]
    unpack: Callable[[Tensor, Tensor, torch.Size, torch.dtype], Tensor]


def _scaled_rows(weight: Tensor, largest: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows in −largest … largest, fp32, and their scales [out, 1] in `dtype`; rounding a scale costs no accuracy."""
    rows = weight.float().flatten(1)
    scales = (rows.abs().amax(dim=1, keepdim=True) / largest).to(dtype).clamp_min(torch.finfo(torch.float16).tiny / 512)
    return (rows / scales.float()).clamp_(-largest, largest), scales


def pack_fp8(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """e4m3 (Micikevicius et al. 2022, arXiv 2209.05433): 4 significant bits, relative error at most 1/16."""
    rows, scales = _scaled_rows(weight, FP8_MAX, dtype)
    return rows.to(torch.float8_e4m3fn), scales


def pack_int8(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Whole numbers −127 … 127 (Dettmers et al. 2022, arXiv 2208.07339, section 2.1): error at most half a scale."""
    rows, scales = _scaled_rows(weight, INT8_MAX, dtype)
    return rows.round_().to(torch.int8), scales


def unpack_rows(numbers: Tensor, scales: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """numbers × scales, row by row."""
    return numbers.to(dtype).mul_(scales).view(shape)


def pack_nf4(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """16 levels × the largest of 64 numbers (Dettmers et al. 2023, arXiv 2305.14314, equation 4), two in a byte."""
    numbers = weight.float().flatten()
    blocks = functional.pad(numbers, (0, -numbers.numel() % NF4_BLOCK)).view(-1, NF4_BLOCK)
    scales = blocks.abs().amax(dim=1)
    levels = torch.tensor(NF4_LEVELS, device=weight.device)
    borders = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks / scales.clamp_min(1e-30)[:, None], borders, out_int32=True).to(torch.uint8)
    pairs = codes.flatten()[: numbers.numel() + numbers.numel() % 2].view(-1, 2)
    return (pairs[:, 0] << 4) | pairs[:, 1], scales


def unpack_nf4(numbers: Tensor, scales: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """On a GPU with bitsandbytes' kernel, whose layout this is; elsewhere by looking up both numbers of a byte."""
    if numbers.is_cuda:
        return torch.ops.bitsandbytes.dequantize_4bit(numbers[:, None], scales, NF4_BLOCK, "nf4", shape, dtype)
    dense = _NF4_PAIRS[dtype].index_select(0, numbers.int()).view(-1)
    if dense.numel() % NF4_BLOCK == 0:
        return dense.view(-1, NF4_BLOCK).mul_(scales.to(dtype)[:, None]).view(shape)
    return dense.mul_(scales.to(dtype).repeat_interleave(NF4_BLOCK)[: dense.numel()])[: shape.numel()].view(shape)


STORAGES: dict[str, Storage] = {
    "fp8": Storage(pack_fp8, unpack_rows),
    "int8": Storage(pack_int8, unpack_rows),
    "nf4": Storage(pack_nf4, unpack_nf4),
}


def require_storage(storage: str, device: torch.device) -> None:
    """Load what a storage needs on `device`. Raises MissingPackage if that does not work here."""
    if storage != "nf4" or device.type != "cuda":
        return
    try:
        import bitsandbytes  # noqa: F401 -- registers its operations with torch
    except Exception as error:  # a broken build raises whatever its loader raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"nf4 on a GPU needs bitsandbytes, which does not load here ({reason}). Use int8, or run ./setup.sh."
        raise MissingPackage(message, "memory.unet_storage") from error


class _Stored:
    """What both kinds of stored layers share: `weight` holds the packed numbers, `weight_scales` their scales."""

    storage: Storage
    dense_shape: torch.Size
    compute_dtype: torch.dtype
    weight: nn.Parameter
    weight_scales: Tensor

    def store(self, weight: Tensor) -> None:
        """Keep a dense weight [out, in] or [out, in, k, k] (a linear also takes a 1×1 convolution's), packed."""
        numbers, scales = self.storage.pack(weight.reshape(self.dense_shape), self.compute_dtype)
        self.weight = nn.Parameter(numbers, requires_grad=False)
        self.weight_scales = scales

    def dense_weight(self) -> Tensor:
        """The weight as it is computed with: the stored one, in the layer's shape and the compute dtype."""
        return self.storage.unpack(self.weight, self.weight_scales, self.dense_shape, self.compute_dtype)


class StoredLinear(_Stored, nn.Linear):
    """A frozen linear with a packed weight."""

    def forward(self, input: Tensor) -> Tensor:
        """x [..., in] in the compute dtype → [..., out]."""
        return frozen_linear(input, self)


class StoredConv2d(_Stored, nn.Conv2d):
    """A frozen convolution with a packed weight."""

    def forward(self, input: Tensor) -> Tensor:
        """x [B, in, h, w] in the compute dtype → [B, out, h', w']."""
        return frozen_conv2d(input, self)


def make_stored(module: nn.Module, storage: str, dtype: torch.dtype) -> dict[str, Callable[[Tensor], None]]:
    """Turn the large linears and convolutions of `module`, which has no content yet, into stored ones.

    `storage`: a key of STORAGES. Returns {weight's name: function that takes its dense weight, on its device}.
    """
    takers: dict[str, Callable[[Tensor], None]] = {}
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) or name.split(".")[0] in LEFT_ALONE:
            continue
        if layer.weight.numel() >= LEAST_NUMBERS:
            kind: Any = StoredLinear if isinstance(layer, nn.Linear) else StoredConv2d
            layer.__class__ = kind
            stored: Any = layer
            stored.storage, stored.dense_shape, stored.compute_dtype = STORAGES[storage], layer.weight.shape, dtype
            layer.register_buffer("weight_scales", torch.empty(0, device="meta"), persistent=False)
            takers[f"{name}.weight"] = stored.store
    return takers
