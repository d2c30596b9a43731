"""Whole runs with masks: what they change, what stops them, and that a resume sees the same."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine import events
from engine.errors import PresetError
from tests.training import events_of, losses_of, small_preset, train_here

pytestmark = pytest.mark.slow


def masked_preset(folder, **changes):
    """A preset whose four images have masks that are white on their left half."""
    preset = small_preset(folder, run__steps=3, run__batch_size=2, loss__mask="folder",
                          loss__mask_folder=str(folder / "masks"), **changes)  # fmt: skip
    (folder / "masks").mkdir(exist_ok=True)
    for number, (width, height) in enumerate([(64, 64), (64, 64), (96, 64), (64, 96)]):
        halves = np.zeros((height, width), np.uint8)
        halves[:, : width // 2] = 255
        Image.fromarray(halves).save(folder / "masks" / f"{number}.png")
    return preset


def test_half_a_mask_gives_about_half_the_loss_cached_or_not(tmp_path):
    preset = masked_preset(tmp_path, optimizer__unet_rate=1e-9, run__save_precision="fp32", data__flip=True)
    masked = losses_of(train_here(preset))
    whole = losses_of(train_here(preset.changed({"loss.mask": "none"})))
    assert all(part and full and 0.3 < part / full < 0.7 for part, full in zip(masked, whole, strict=True))
    live = preset.changed({"data.cache_latents": False, "captions.cache_text": False})
    assert losses_of(train_here(live)) == pytest.approx(masked, rel=1e-5)


def test_a_broken_mask_stops_the_run_and_a_black_one_is_told(tmp_path):
    preset = masked_preset(tmp_path)
    Image.new("L", (64, 64)).save(tmp_path / "masks" / "0.png")
    made = train_here(preset.changed({"run.steps": 1}))
    warned = [event.message for event in events_of(made, events.Warned) if event.where == "loss.mask"]
    assert warned == [
        "1 mask is black all over, so only loss.mask_outside counts there: 0.png. White is what is trained."
    ]
    victim = tmp_path / "masks" / "1.png"
    victim.write_bytes(victim.read_bytes()[:-30])
    with pytest.raises(PresetError, match=r"1\.png"):
        train_here(preset)
