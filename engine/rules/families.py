"""Faults between the kind of adapter and the settings that it has or lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.adapter_shapes import ALPHALESS, RANKLESS
from engine.errors import Problem

if TYPE_CHECKING:
    from engine.preset import Preset

SHOWN = {
    "lora": "LoRA", "lora_fa": "LoRA-FA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "oft": "OFT", "boft": "BOFT",
    "dylora": "DyLoRA", "tlora": "T-LoRA", "ia3": "(IA)³", "glora": "GLoRA", "full": "full training",
}  # fmt: skip
"""Names of the algorithms for people."""


def _idle(preset: Preset, name: str, what: str) -> Iterator[Problem]:
    """A setting that the algorithm does not have, where it is not at its default."""
    value, default = getattr(preset.adapter, name), type(preset.adapter).model_fields[name].default
    if value != default:
        shown = SHOWN[preset.adapter.algorithm]
        yield Problem(f"adapter.{name}", f"{shown} has no {what} (got {value}). Set it to {default}, its default.")


def ranks_belong_to_algorithms_with_ranks(preset: Preset) -> Iterator[Problem]:
    if preset.adapter.algorithm in RANKLESS:
        yield from _idle(preset, "rank", "rank")
        yield from _idle(preset, "conv_rank", "rank for convolutions")
        yield from _idle(preset, "block_ranks", "ranks")
        yield from _idle(preset, "conv_block_ranks", "ranks")


def alphas_belong_to_algorithms_with_alphas(preset: Preset) -> Iterator[Problem]:
    if preset.adapter.algorithm in ALPHALESS:
        yield from _idle(preset, "alpha", "alpha")
        yield from _idle(preset, "conv_alpha", "alpha")
        yield from _idle(preset, "block_alphas", "alphas")
        yield from _idle(preset, "conv_block_alphas", "alphas")
        yield from _idle(preset, "rank_stabilised", "alpha to divide by a rank")


def constraint_and_rescaling_are_for_rotations(preset: Preset) -> Iterator[Problem]:
    if preset.adapter.algorithm not in ("oft", "boft"):
        yield from _idle(preset, "constraint", "rotation to constrain, as OFT and BOFT have")
        yield from _idle(preset, "rescaled", "rotation to rescale, as OFT and BOFT have")


def lora_plus_needs_two_matrices(preset: Preset) -> Iterator[Problem]:
    if preset.adapter.algorithm in (*ALPHALESS, "lora_fa"):
        yield from _idle(preset, "loraplus_unet_ratio", "second matrix to learn faster than the first")
        yield from _idle(preset, "loraplus_text_ratio", "second matrix to learn faster than the first")


def a_block_turns_two_outputs_at_least(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.algorithm in ("oft", "boft"):
        for name in ("rank", "conv_rank"):
            if getattr(adapter, name) == 1:
                what = f"{SHOWN[adapter.algorithm]} turns blocks of as many outputs as the rank: one alone cannot turn"
                yield Problem(f"adapter.{name}", f"{what} (got 1). Use 2 or more.")


def dylora_ranks_are_whole_blocks(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.algorithm != "dylora":
        return
    for name in ("rank", "conv_rank"):
        rank = getattr(adapter, name)
        if rank % adapter.block_size:
            what = f"must be a multiple of the block size {adapter.block_size} (got {rank})."
            yield Problem(f"adapter.{name}", f"{what} Change one of the two.")


def tlora_s_least_rank_is_within_the_rank(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.algorithm == "tlora" and adapter.min_rank >= adapter.rank:
        what = f"must be below the rank {adapter.rank}, or nothing depends on the timestep (got {adapter.min_rank})."
        yield Problem("adapter.min_rank", f"{what} Half of the rank is usual.")


def tlora_is_for_the_unet(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.algorithm == "tlora":
        for name in ("text_encoder_1", "text_encoder_2"):
            if getattr(adapter, name):
                what = "a text encoder knows no timestep, on which T-LoRA's ranks depend."
                yield Problem(f"adapter.{name}", f"{what} Switch it off, or choose LoRA.")


def lokr_factor_is_a_size(preset: Preset) -> Iterator[Problem]:
    if preset.adapter.algorithm == "lokr" and preset.adapter.factor == 0:
        what = "must be 1 or more, or -1 for the smallest files (got 0)."
        yield Problem("adapter.factor", f"{what} 8 and 16 are usual.")


def lokr_matrices_are_whole_or_decomposed(preset: Preset) -> Iterator[Problem]:
    adapter = preset.adapter
    if adapter.algorithm == "lokr" and adapter.full_matrix and adapter.decompose_both:
        what = "cannot go with full_matrix: one asks for low ranks, the other for none."
        yield Problem("adapter.decompose_both", f"{what} Switch one of them off.")


RULES = (
    ranks_belong_to_algorithms_with_ranks,
    alphas_belong_to_algorithms_with_alphas,
    constraint_and_rescaling_are_for_rotations,
    lora_plus_needs_two_matrices,
    a_block_turns_two_outputs_at_least,
    dylora_ranks_are_whole_blocks,
    tlora_s_least_rank_is_within_the_rank,
    tlora_is_for_the_unet,
    lokr_factor_is_a_size,
    lokr_matrices_are_whole_or_decomposed,
)
