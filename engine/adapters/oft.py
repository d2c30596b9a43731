"""OFT: W' = Rᵀ W, where R turns the outputs of a layer in blocks: R = (I + Q)(I − Q)⁻¹, Q = blocks − blocksᵀ.

Qiu et al. 2023, "Controlling Text-to-Image Diffusion by Orthogonal Finetuning" (arXiv 2306.07280), section 3.3 (the
Cayley form) and 4 (the constraint: ‖Q‖ over all blocks of a layer at most `constraint` · outputs). `oft_blocks` as in
the files of kohya's networks.oft and of LyCORIS' diag-oft; `rescale` as in the latter.

A file's alpha is the constraint, but programs disagree how to read it, and some take 0 as "no change at all". So files
hold blocks that are within the constraint already, and an alpha so large that no reader cuts anything.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.adapter_shapes import Options, Place, Shapes, rotation
from engine.adapters.algorithm import Context, no_bias, no_constants, no_gate
from engine.adapters.layer import FrozenLayer

SUFFIXES: tuple[str, ...] = ("oft_blocks", "rescale")
STARTS_ZERO: tuple[str, ...] = ("oft_blocks",)
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "diag-oft"
NO_CONSTRAINT = 10_000.0

shapes, constants, delta_bias, gate = rotation, no_constants, no_bias, no_gate


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are OFT's: one stage of blocks."""
    return "oft_blocks" in tensors and tensors["oft_blocks"].dim() == 3


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes with blocks as large as the tensors'."""
    size, ones = tensors["oft_blocks"].shape[-1], (1,) * len(place.kernel)
    found: Shapes = {"oft_blocks": (place.outputs // size, size, size), "rescale": (place.outputs, 1, *ones)}
    return {suffix: shape for suffix, shape in found.items() if suffix in tensors}


def rank_of(parameters: Mapping[str, Tensor]) -> int:
    """The size of a block."""
    return parameters["oft_blocks"].shape[-1]


def options_of(parameters: Mapping[str, Tensor], scalars: Mapping[str, float]) -> Options:
    """The constraint that the file asks for."""
    asked = scalars.get("alpha", NO_CONSTRAINT)
    return Options(constraint=asked if asked < NO_CONSTRAINT else 0.0, rescaled="rescale" in parameters)


def scalars(place: Place, alpha: float) -> dict[str, float]:
    """An alpha that constrains nothing."""
    return {"alpha": NO_CONSTRAINT}


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """Q = 0: nothing is turned; rescale 1."""
    parameters["oft_blocks"].zero_()
    if "rescale" in parameters:
        parameters["rescale"].fill_(1)


def turn(blocks: Tensor, limit: float) -> Tensor:
    """D = R − I of each block [..., n, n], in fp32 or finer; 2 (I − Q)⁻¹ Q, so that small Q lose no digits.

    `limit`: the largest ‖Q‖ over all blocks; 0: none.
    """
    blocks = blocks.to(torch.promote_types(blocks.dtype, torch.float32))
    skew = (blocks - blocks.mT) * _cut(blocks, limit)
    one = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    return torch.linalg.solve_ex(one - skew, 2 * skew)[0]  # not solve, which would wait for the device


def _cut(blocks: Tensor, limit: float) -> Tensor | float:
    """The factor that brings ‖Q‖ within the limit."""
    if not limit:
        return 1.0
    norm = torch.linalg.vector_norm(blocks - blocks.mT)
    return limit / norm.clamp(min=limit)


def unchanged(x: Tensor, layer: FrozenLayer) -> tuple[Tensor, Tensor]:
    """(f(x), f(x) without the bias)."""
    y, bias = layer.forward(x), layer.module.bias
    if bias is None:
        return y, y
    return y, y - (bias.view(-1, 1, 1) if isinstance(layer.module, nn.Conv2d) else bias)


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x) + m · (rescale ∘ Rᵀ − I) (f(x) − b): outputs are turned, which is what turning W does."""
    y, plain = unchanged(x, layer)
    blocks = parameters["oft_blocks"]
    difference = turn(blocks, context.options.constraint * plain.shape[_axis(layer)]).to(plain.dtype)
    change = _turned(plain, difference, _axis(layer))
    return torch.add(y, with_rescale(plain, change, parameters, _axis(layer)), alpha=context.multiplier)


def with_rescale(plain: Tensor, change: Tensor, parameters: Mapping[str, Tensor], axis: int) -> Tensor:
    """rescale ∘ (plain + change) − plain."""
    if "rescale" not in parameters:
        return change
    rescale = parameters["rescale"].reshape((-1, 1, 1) if axis == 1 else (-1,))
    return change + (plain + change) * (rescale - 1).to(plain.dtype)


def _axis(layer: FrozenLayer) -> int:
    return 1 if isinstance(layer.module, nn.Conv2d) else -1


def _turned(plain: Tensor, difference: Tensor, axis: int) -> Tensor:
    """Dᵀ on the outputs: block k, out m: Σ_n D[k, n, m] · plain[k, n]."""
    blocks, size, _ = difference.shape
    parted = plain.unflatten(axis, (blocks, size))
    if axis == 1:
        return torch.einsum("knm,bknhw->bkmhw", difference, parted).flatten(1, 2)
    return torch.einsum("knm,...kn->...km", difference, parted).flatten(-2)


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """(rescale ∘ Rᵀ − I) W."""
    difference = turn(parameters["oft_blocks"], context.options.constraint * weight.shape[0]).to(weight.dtype)
    columns = weight.flatten(1).t()
    change = with_rescale(columns, _turned(columns, difference, -1), parameters, -1)
    return context.multiplier * change.t().reshape(weight.shape)


def for_file(parameters: Mapping[str, Tensor], place: Place) -> dict[str, Tensor]:
    """Blocks within the constraint, so that readers need not know it."""
    if not place.options.constraint:
        return dict(parameters)
    blocks = parameters["oft_blocks"]
    cut = _cut(blocks.float(), place.options.constraint * place.outputs)
    return {**parameters, "oft_blocks": (blocks * cut).to(blocks.dtype).contiguous()}
