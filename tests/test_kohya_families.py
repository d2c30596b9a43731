"""engine/kohya/families.py: kinds of adapters of kohya_ss, sd-scripts and LyCORIS, and what goes with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_kohya import imported

from engine import kohya
from engine.rules import rule_problems


def of_preset(folder: Path, **content: object) -> kohya.Import:
    return imported(folder, {"sdxl": True, **content})


def of_toml(folder: Path, text: str) -> kohya.Import:
    path = folder / "a.toml"
    path.write_text(text, encoding="utf-8")
    return kohya.read(path)


def adapter_settings(found: kohya.Import) -> dict[str, object]:
    return {path.removeprefix("adapter."): value for path, value in found.settings.items()}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"LoRA_type": "Standard"}, {"algorithm": "lora"}),
        ({"LoRA_type": "LoRA-FA"}, {"algorithm": "lora_fa"}),
        ({"LoRA_type": "Kohya DyLoRA", "unit": 4}, {"algorithm": "dylora", "block_size": 4}),
        ({"LoRA_type": "Kohya LoHa"}, {"algorithm": "loha"}),
        ({"LoRA_type": "LyCORIS/LoCon", "dora_wd": True}, {"algorithm": "dora", "dora_norm": "output"}),
        (
            {"LoRA_type": "LyCORIS/LoKr", "factor": 8, "decompose_both": True},
            {"algorithm": "lokr", "factor": 8, "decompose_both": True},
        ),
        (
            {"LoRA_type": "LyCORIS/Diag-OFT", "constrain": 0.5, "rescaled": True, "network_alpha": 4},
            {"algorithm": "oft", "constraint": 0.5, "rescaled": True, "alpha": 16.0},
        ),
        ({"LoRA_type": "LyCORIS/BOFT"}, {"algorithm": "boft"}),
        (
            {"LoRA_type": "LyCORIS/iA3", "network_dim": 4, "conv_dim": 4},
            {"algorithm": "ia3", "on_input": True, "rank": 16},
        ),
        ({"LoRA_type": "LyCORIS/GLoRA", "train_norm": True}, {"algorithm": "glora", "norms": True}),
        (
            {"LoRA_type": "LyCORIS/Native Fine-Tuning", "conv_dim": 8},
            {"algorithm": "full", "full_convolutions": True, "conv_rank": 0},
        ),
    ],
)
def test_types_of_kohya_ss(tmp_path: Path, theirs: dict[str, object], ours: dict[str, object]) -> None:
    found = of_preset(tmp_path, **theirs)
    assert adapter_settings(found).items() >= ours.items()
    assert found.preset is not None
    assert [problem for problem in rule_problems(found.preset) if problem.where.startswith("adapter.")] == []


@pytest.mark.parametrize(
    ("lines", "ours"),
    [
        ('network_module = "networks.lora_fa"', {"algorithm": "lora_fa"}),
        ('network_module = "networks.dylora"\nnetwork_args = ["unit=4"]', {"algorithm": "dylora", "block_size": 4}),
        (
            'network_module = "networks.oft"\nnetwork_alpha = 0.001',
            {"algorithm": "oft", "constraint": 0.001, "alpha": 16.0},
        ),
        (
            'network_module = "lycoris.kohya"\nnetwork_args = ["algo=lokr", "factor=8", "full_matrix=True"]',
            {"algorithm": "lokr", "factor": 8, "full_matrix": True},
        ),
        (
            'network_module = "lycoris.kohya"\nnetwork_args = ["algo=locon", "dora_wd=True", "wd_on_output=False"]',
            {"algorithm": "dora", "dora_norm": "input"},
        ),
        (
            'network_module = "lycoris.kohya"\nnetwork_args = ["algo=loha", "rs_lora=True", "train_norm=True"]',
            {"algorithm": "loha", "rank_stabilised": True, "norms": True},
        ),
        (
            'network_module = "lycoris.kohya"\nnetwork_args = ["algo=full"]',
            {"algorithm": "full", "full_convolutions": True, "conv_rank": 0},
        ),
    ],
)
def test_modules_of_sd_scripts(tmp_path: Path, lines: str, ours: dict[str, object]) -> None:
    found = of_toml(tmp_path, lines + "\nmax_train_steps = 10\n")
    assert adapter_settings(found).items() >= ours.items()
    assert found.preset is not None
    assert [problem for problem in rule_problems(found.preset) if problem.where.startswith("adapter.")] == []


def test_options_of_another_kind_did_nothing_there(tmp_path: Path) -> None:
    found = of_preset(tmp_path, LoRA_type="LyCORIS/LoHa", factor=8, train_on_input=False, dora_wd=True)
    settings = adapter_settings(found)
    assert (settings["factor"], settings["on_input"], settings["algorithm"]) == (-1, False, "loha")
    assert "decomposes LoRA only" in found.receipt.text()
