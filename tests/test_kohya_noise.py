"""Keys of noise, timesteps and loss: what goes over, and what did nothing there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine import kohya

HUBER = {"loss_type": "huber", "huber_schedule": "constant"}
MULTIRES = {"noise_offset_type": "Multires"}
# Key, value, what it needs to work there, the setting and its value
PAIRS = [
    ("multires_noise_iterations", 6, MULTIRES, "noise.pyramid_levels", 6),
    ("multires_noise_discount", 0.1, MULTIRES, "noise.pyramid_discount", 0.1),
    ("noise_offset_random_strength", True, {"noise_offset": 0.05}, "noise.offset_random", True),
    ("adaptive_noise_scale", -0.01, {"noise_offset": 0.05}, "noise.offset_adaptive", -0.01),
    ("ip_noise_gamma_random_strength", True, {"ip_noise_gamma": 0.1}, "noise.perturbation_random", True),
    ("huber_scale", 2, HUBER, "loss.huber_scale", 2.0),
    ("scale_v_pred_loss_like_noise_pred", True, {"v_parameterization": True}, "loss.scale_v_like_noise", True),
]


def read(folder: Path, content: dict, name: str = "theirs.json") -> kohya.Import:
    path = folder / name
    path.write_text(json.dumps(content) if name.endswith(".json") else toml(content), encoding="utf-8")
    return kohya.read(path)


def toml(content: dict) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in content.items())


def fate(found: kohya.Import, key: str) -> tuple[str, str]:
    [hit] = [(g, line.note) for g in kohya.GROUPS for line in getattr(found.receipt, g) if line.key == key]
    return hit


@pytest.mark.parametrize(("key", "value", "gate", "path", "ours"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_a_key_goes_over_with_the_one_it_needs_and_is_told_without(tmp_path, key, value, gate, path, ours):
    with_gate = read(tmp_path, {"sdxl": True, key: value, **gate})
    assert with_gate.settings[path] == ours
    assert fate(with_gate, key)[0] == "honoured"
    assert with_gate.preset is not None
    without = read(tmp_path, {"sdxl": True, key: value})
    assert without.settings[path] != ours
    group, note = fate(without, key)
    assert group == "ignored_effect" and "had no effect there either" in note
    assert without.preset is not None


def test_plain_keys_of_noise_and_loss_go_over_as_they_are(tmp_path):
    content = {"sdxl": True, "ip_noise_gamma": 0.1, "debiased_estimation_loss": True, "v_pred_like_loss": 0.5}
    found = read(tmp_path, content)
    assert found.settings["noise.perturbation"] == 0.1
    assert found.settings["loss.debiased"] is True
    assert found.settings["loss.v_like"] == 0.5


def test_options_reach_the_trainer_whatever_the_form_leaves_out(tmp_path):
    options = "--multires_noise_iterations=6 --multires_noise_discount 0.2"
    found = read(tmp_path, {"sdxl": True, "noise_offset": 0.05, "additional_parameters": options})
    assert found.settings["noise.offset"] == 0.05
    assert (found.settings["noise.pyramid_levels"], found.settings["noise.pyramid_discount"]) == (6, 0.2)


def test_sd_scripts_takes_noise_offset_and_pyramid_noise_together(tmp_path):
    found = read(tmp_path, {"noise_offset": 0.05, "multires_noise_iterations": 6}, "theirs.toml")
    assert (found.settings["noise.offset"], found.settings["noise.pyramid_levels"]) == (0.05, 6)


@pytest.mark.parametrize(
    ("content", "mask", "folder"),
    [
        ({"masked_loss": True}, "none", None),
        ({"masked_loss": True, "alpha_mask": True}, "alpha", None),
        ({"alpha_mask": True}, "alpha", None),
        ({"masked_loss": True, "conditioning_data_dir": "masks"}, "folder", "masks"),
        ({"masked_loss": True, "alpha_mask": True, "conditioning_data_dir": "masks"}, "folder", "masks"),
        ({"conditioning_data_dir": "masks"}, "none", None),
    ],
)
def test_masks_come_from_where_they_came_there(tmp_path, content, mask, folder):
    found = read(tmp_path, content, "theirs.toml")
    assert found.settings["loss.mask"] == mask
    assert found.settings.get("loss.mask_folder") == folder


def test_a_data_set_with_masks_brings_their_folder(tmp_path):
    text = '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "10_cat"\nconditioning_data_dir = "masks"\n'
    (tmp_path / "data.toml").write_text(text, encoding="utf-8")
    found = kohya.read(tmp_path / "data.toml")
    assert (found.settings["loss.mask"], found.settings["loss.mask_folder"]) == ("folder", "masks")
