"""engine/rules/families.py: each fault between a kind of adapter and its settings is one sentence, and only then."""

from __future__ import annotations

import re

import pytest

from engine.adapters import ADAPTERS
from engine.errors import PresetError
from engine.preset import Preset
from engine.rules import families

FAULTS = {
    "rank of (IA)³": ({"algorithm": "ia3", "rank": 8}, "rank", r"\(IA\)³ has no rank .got 8"),
    "conv rank of (IA)³": ({"algorithm": "ia3", "conv_rank": 4}, "conv_rank", "no rank for convolutions .got 4"),
    "conv rank of full": ({"algorithm": "full", "conv_rank": 4}, "conv_rank", "full training has no rank"),
    "alpha of (IA)³": ({"algorithm": "ia3", "alpha": 1.0}, "alpha", "has no alpha .got 1"),
    "alpha of OFT": ({"algorithm": "oft", "alpha": 8.0}, "alpha", "OFT has no alpha"),
    "stabilised BOFT": ({"algorithm": "boft", "rank_stabilised": True}, "rank_stabilised", "has no alpha to divide"),
    "constrained LoRA": ({"constraint": 0.1}, "constraint", "LoRA has no rotation to constrain"),
    "rescaled LoHa": ({"algorithm": "loha", "rescaled": True}, "rescaled", "LoHa has no rotation to rescale"),
    "LoRA+ of (IA)³": ({"algorithm": "ia3", "loraplus_unet_ratio": 16.0}, "loraplus_unet_ratio", "no second matrix"),
    "one output": ({"algorithm": "oft", "rank": 1}, "rank", "one alone cannot turn .got 1"),
    "DyLoRA's block": ({"algorithm": "dylora", "rank": 10, "block_size": 4}, "rank", "multiple of the block size 4"),
    "DyLoRA below its block": ({"algorithm": "dylora", "rank": 2, "block_size": 4}, "rank", "block size 4 .got 2"),
    "T-LoRA's ranks": ({"algorithm": "tlora", "rank": 8, "min_rank": 8}, "min_rank", "below the rank 8"),
    "T-LoRA of text": ({"algorithm": "tlora", "text_encoder_2": True}, "text_encoder_2", "knows no timestep"),
    "LoKr's factor": ({"algorithm": "lokr", "factor": 0}, "factor", "must be 1 or more"),
    "LoKr twice": (
        {"algorithm": "lokr", "full_matrix": True, "decompose_both": True}, "decompose_both", "cannot go with",
    ),
}  # fmt: skip


def adapter_problems(**changes: object) -> dict[str, str]:
    try:
        Preset().changed({f"adapter.{name}": value for name, value in changes.items()})
    except PresetError as error:
        return {problem.where: problem.message for problem in error.problems if problem.where.startswith("adapter.")}
    return {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_sentence(name: str) -> None:
    changes, where, sentence = FAULTS[name]
    found = adapter_problems(**changes)
    assert list(found) == [f"adapter.{where}"]
    assert re.search(sentence, found[f"adapter.{where}"])


@pytest.mark.parametrize("algorithm", ADAPTERS)
def test_every_algorithm_runs_with_the_defaults(algorithm: str) -> None:
    assert adapter_problems(algorithm=algorithm) == {}


def test_every_algorithm_has_a_name_for_people() -> None:
    assert set(families.SHOWN) == set(ADAPTERS)
