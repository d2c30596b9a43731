"""engine/facts.py: `ss_network_module` and `ss_network_args` name each kind of adapter as its readers know it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.adapters import ADAPTERS
from engine.facts import network_args
from engine.preset import Preset

TOLD: dict[str, tuple[dict[str, Any], str, dict[str, str]]] = {
    "LoRA": ({}, "networks.lora", {}),
    "LoCon": ({"conv_rank": 4}, "networks.lora", {"conv_dim": "4", "conv_alpha": "1.0"}),
    "LoRA-FA": ({"algorithm": "lora_fa"}, "networks.lora_fa", {}),
    "DyLoRA": ({"algorithm": "dylora", "block_size": 4}, "networks.dylora", {"unit": "4"}),
    "T-LoRA": ({"algorithm": "tlora"}, "networks.lora", {}),
    "DoRA": ({"algorithm": "dora"}, "lycoris.kohya", {"algo": "locon", "dora_wd": "True", "wd_on_output": "False"}),
    "LoHa": ({"algorithm": "loha", "rank_stabilised": True}, "lycoris.kohya", {"algo": "loha", "rs_lora": "True"}),
    "LoKr": (
        {"algorithm": "lokr", "factor": 8},
        "lycoris.kohya",
        {"algo": "lokr", "factor": "8", "decompose_both": "False", "full_matrix": "False"},
    ),
    "OFT": (
        {"algorithm": "oft", "conv_rank": 4, "rescaled": True},
        "lycoris.kohya",
        {"algo": "diag-oft", "conv_dim": "4", "constraint": "0.0", "rescaled": "True"},
    ),
    "(IA)³": ({"algorithm": "ia3"}, "lycoris.kohya", {"algo": "ia3", "train_on_input": "False"}),
    "full": ({"algorithm": "full", "norms": True}, "lycoris.kohya", {"algo": "full", "train_norm": "True"}),
}


@pytest.mark.parametrize("name", TOLD)
def test_the_kind_is_told_in_the_words_of_its_readers(name: str) -> None:
    values, module, arguments = TOLD[name]
    adapter = Preset().changed({f"adapter.{key}": value for key, value in values.items()}).adapter
    assert module == ADAPTERS[adapter.algorithm].NETWORK_MODULE
    assert network_args(adapter) == arguments
