"""DyLoRA: LoRA trained so that it can be cut to any lower rank afterwards.

Valipour et al. 2023, "DyLoRA" (arXiv 2210.07558), section 3: each step draws a rank b, forward and backward use the
first b rows of down and columns of up only, with the scale alpha / b. Ranks come in blocks. One b holds for all layers
of a step and for all its batches; it stands in a mask on the device, so that the step has no branch. Outside of
training all ranks are used, with alpha / rank: the file is that of a LoRA.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.adapter_shapes import Options
from engine.adapters import lora

SUFFIXES: tuple[str, ...] = lora.SUFFIXES
STARTS_ZERO: tuple[str, ...] = lora.STARTS_ZERO
NETWORK_MODULE: str = "networks.dylora"
NETWORK_ALGORITHM: str = ""

shapes, recognises, shapes_of, rank_of, options_of, scalars = (
    lora.shapes, lora.recognises, lora.shapes_of, lora.rank_of, lora.options_of, lora.scalars,
)  # fmt: skip
init, constants, forward = lora.init, lora.constants, lora.forward
delta_weight, delta_bias, for_file = lora.delta_weight, lora.delta_bias, lora.for_file


def gate(rank: int, options: Options, draw: float, timesteps: Tensor) -> Tensor:
    """rank / b for the first b ranks, else 0: [rank]."""
    blocks = max(1, rank // options.block_size)
    active = min(rank, (int(draw * blocks) + 1) * options.block_size)
    ranks = torch.arange(rank, device=timesteps.device)
    return (ranks < active).float() * (rank / active)
