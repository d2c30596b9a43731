"""LoRA-FA: LoRA whose down matrix stays as it started; only up is trained.

Zhang et al. 2023, "LoRA-FA: Memory-efficient Low-rank Adaptation", equation 3. The input of a layer need not be kept
for the backward pass, and half of the optimizer's moments are gone. The file is that of a LoRA: down is saved.
"""

from __future__ import annotations

from engine.adapters import lora

SUFFIXES: tuple[str, ...] = lora.SUFFIXES
STARTS_ZERO: tuple[str, ...] = lora.STARTS_ZERO
NETWORK_MODULE: str = "networks.lora_fa"
NETWORK_ALGORITHM: str = ""

shapes, recognises, shapes_of, rank_of, options_of, scalars = (
    lora.shapes, lora.recognises, lora.shapes_of, lora.rank_of, lora.options_of, lora.scalars,
)  # fmt: skip
init, constants, forward = lora.init, lora.constants, lora.forward
delta_weight, delta_bias, gate, for_file = lora.delta_weight, lora.delta_bias, lora.gate, lora.for_file
