"""DoRA: W' = m · V / ‖V‖ with V = W + ΔW; ΔW as in LoRA, m one trained magnitude for each input or each output.

Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation" (arXiv 2402.09353), equation 5; the norm is a constant
for the gradient (section 4.3, equation 11), as in peft; LyCORIS lets the gradient through. ΔW is never built:

    ‖v + s·(BA)‖² = ‖v‖² + 2s ⟨v, BA⟩ + s² ‖BA‖²,

for each output from W Aᵀ and A Aᵀ, for each input from Bᵀ W and Bᵀ B: products as small as those of LoRA itself.

`dora_scale` [1, in] (norms of columns, as the paper's equation has it and as LyCORIS writes with wd_on_output=False)
is read alike by LyCORIS, ComfyUI, A1111 and Forge. [out, 1] is peft's and LyCORIS' wd_on_output=True; ComfyUI divides
by the norm of W instead of V there. The multiplier scales W' − W.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.adapter_shapes import Options, Place, Shapes, decomposed
from engine.adapters import lora
from engine.adapters.algorithm import Context, alpha_only, as_they_are, no_bias, no_gate
from engine.adapters.fused import low_rank_linear
from engine.adapters.layer import FrozenLayer
from engine.adapters.probe import dense_weight, from_left, from_right

SCALE = "dora_scale"
SUFFIXES: tuple[str, ...] = (*lora.SUFFIXES, SCALE)
STARTS_ZERO: tuple[str, ...] = lora.STARTS_ZERO
NETWORK_MODULE: str = "lycoris.kohya"
NETWORK_ALGORITHM: str = "locon"

shapes, rank_of, scalars = decomposed, lora.rank_of, alpha_only
delta_bias, gate, for_file = no_bias, no_gate, as_they_are


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the tensors of a layer in a file are those of a DoRA."""
    return set(tensors) == set(SUFFIXES)


def shapes_of(tensors: Mapping[str, Tensor], place: Place) -> Shapes:
    """Shapes for a layer at the rank and on the side that the tensors have."""
    return decomposed(dataclasses.replace(place, rank=rank_of(tensors), options=options_of(tensors, {})))


def options_of(parameters: Mapping[str, Tensor], scalars: Mapping[str, float]) -> Options:
    """The side that the magnitudes are for."""
    return Options(dora_norm="input" if parameters[SCALE].shape[0] == 1 else "output")


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """LoRA's start, and the norms of W as magnitudes: V = W, so that ΔW = 0."""
    lora.init(generator, parameters)
    scale = parameters[SCALE]
    scale.copy_(_squares(dense_weight(layer), scale).sqrt().view(scale.shape))


def constants(layer: FrozenLayer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{"squares": ‖v‖² of W for each output or input, in fp32 or finer}."""
    return {"squares": _squares(dense_weight(layer), parameters[SCALE])}


def _on_input(scale: Tensor, inputs: int) -> bool:
    """Whether the magnitudes [1, inputs] or [outputs, 1] are for the inputs."""
    return scale.shape[0] == 1 and scale.numel() == inputs


def _squares(weight: Tensor, scale: Tensor) -> Tensor:
    """‖v‖² of each input or output of [out, in, …], whichever `scale` is for, in fp32 or finer."""
    exact = weight.to(torch.promote_types(weight.dtype, torch.float32)).view(*weight.shape[:2], -1)
    return exact.square().sum((0, 2) if _on_input(scale, weight.shape[1]) else (1, 2))


@torch.no_grad()
def gain(layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """1 / ‖V‖ for each output or input, without building V, in fp32 or finer; outside the graph."""
    down, up, scale = parameters[lora.DOWN], parameters[lora.UP], context.scale
    squares = context.constants["squares"]
    if _on_input(parameters[SCALE], down.shape[1]):
        product = from_left(layer, up.flatten(1)).to(squares.dtype)  # Bᵀ W [r, in, k·k]
        flat = down.to(squares.dtype).view(product.shape)
        gram = (up.flatten(1).t() @ up.flatten(1)).to(squares.dtype)
        cross = (product * flat).sum((0, 2))
        own = (torch.einsum("rs,sik->rik", gram, flat) * flat).sum((0, 2))
    else:
        product = from_right(layer, down).to(squares.dtype)  # W Aᵀ [out, r]
        flat = up.flatten(1).to(squares.dtype)
        gram = (down.flatten(1) @ down.flatten(1).t()).to(squares.dtype)
        cross, own = (product * flat).sum(1), ((flat @ gram) * flat).sum(1)
    total = squares + 2 * scale * cross + scale**2 * own
    return total.clamp(min=torch.finfo(total.dtype).tiny).rsqrt()


def forward(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """f(x; W'): the inputs, or the outputs before the bias, are multiplied by m / ‖V‖."""
    scale, module = parameters[SCALE], layer.module
    axis = (-1, 1, 1) if isinstance(module, nn.Conv2d) else (-1,)
    factor = scale.reshape(-1) * gain(layer, parameters, context)
    step = (factor - 1).to(x.dtype).view(axis)  # near 0, where half precision is fine enough
    on_input = _on_input(scale, parameters[lora.DOWN].shape[1])
    y = _linear_part(torch.addcmul(x, x, step) if on_input else x, layer, parameters, context)
    if not on_input:
        y = torch.addcmul(y, y, step)
    if module.bias is not None:
        y = y + module.bias.view(axis)
    if context.multiplier == 1:
        return y
    return torch.lerp(layer.forward(x), y, context.multiplier)


def _linear_part(x: Tensor, layer: FrozenLayer, parameters: Mapping[str, Tensor], context: Context) -> Tensor:
    """V x, without the bias."""
    down, up, module = parameters[lora.DOWN], parameters[lora.UP], layer.module
    if layer.is_plain and isinstance(module, nn.Linear):
        return low_rank_linear(x, module.weight, None, down, up, context.scale)
    if layer.is_plain and isinstance(module, nn.Conv2d):
        y = functional.conv2d(x, module.weight, None, module.stride, module.padding, module.dilation)
    else:
        y = layer.forward(x)
        if module.bias is not None:
            y = y - module.bias.view((-1, 1, 1) if isinstance(module, nn.Conv2d) else (-1,))
    return torch.add(y, lora.low_rank_branch(x, layer, down, up), alpha=context.scale)


def delta_weight(parameters: Mapping[str, Tensor], weight: Tensor, context: Context) -> Tensor:
    """m V / ‖V‖ − W, built and normed openly: what the forward is tested against."""
    unscaled = dataclasses.replace(context, multiplier=1.0)
    whole = weight + lora.delta_weight(parameters, weight, unscaled)
    scale = parameters[SCALE].view(*parameters[SCALE].shape[:2], *(1 for _ in weight.shape[2:]))
    norm = _squares(whole, parameters[SCALE]).sqrt().view(scale.shape)
    return context.multiplier * (whole * (scale / norm).to(whole.dtype) - weight)
