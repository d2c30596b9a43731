"""T-LoRA: LoRA of which only a few ranks learn in strong noise and all of them near the finished picture.

Soboleva et al. 2025, "T-LoRA: Single Image Diffusion Model Customization Without Overfitting" (arXiv 2507.05964):
equation 3, r(t) = ⌊(r − r_min) · (T − t) / T⌋ + r_min, and start values with orthogonal rows (section 4.2; here of the
down matrix, up being zero). The mask is made for each batch from its timesteps, before the step. Samples and other
programs use all ranks: the file is that of a LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.adapter_shapes import Options
from engine.adapters import lora
from engine.adapters.layer import FrozenLayer

SUFFIXES: tuple[str, ...] = lora.SUFFIXES
STARTS_ZERO: tuple[str, ...] = lora.STARTS_ZERO
NETWORK_MODULE: str = "networks.lora"
NETWORK_ALGORITHM: str = ""
TIMESTEPS = 1000

shapes, recognises, shapes_of, rank_of, options_of, scalars = (
    lora.shapes, lora.recognises, lora.shapes_of, lora.rank_of, lora.options_of, lora.scalars,
)  # fmt: skip
constants, forward = lora.constants, lora.forward
delta_weight, delta_bias, for_file = lora.delta_weight, lora.delta_bias, lora.for_file


def init(generator: torch.Generator, parameters: Mapping[str, Tensor], layer: FrozenLayer) -> None:
    """Orthogonal rows of length 1/√3, as long as those of LoRA; where there are too few columns as LoRA. up zero."""
    lora.init(generator, parameters)
    down = parameters[lora.DOWN].view(parameters[lora.DOWN].shape[0], -1)
    if down.shape[0] <= down.shape[1]:
        drawn = torch.randn(down.t().shape, generator=generator)
        down.copy_(torch.linalg.qr(drawn)[0].t() / math.sqrt(3))


def gate(rank: int, options: Options, draw: float, timesteps: Tensor) -> Tensor:
    """1 for the ranks that take part at each image's timestep, else 0: [B, rank]."""
    least = min(options.min_rank, rank)
    active = (TIMESTEPS - timesteps) * (rank - least) // TIMESTEPS + least
    return (torch.arange(rank, device=timesteps.device) < active[:, None]).float()
