"""engine/lora_tools/caches.py: what is made ahead is what a run looks for; it is measured and thrown away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from micro_loras import carry_out, propose
from micro_model import micro_model
from training import small_preset

from engine.errors import UserError
from engine.latent_source import LatentSource
from engine.lora_tools.caches import STORES, measure
from engine.text_source import TextSource


def test_caches_made_ahead_are_found_again_and_can_be_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = small_preset(tmp_path)
    preset.save(tmp_path / "preset.json")
    values = {"preset": tmp_path / "preset.json"}
    assert carry_out(tmp_path / "job", "caches", action="make", **values)[0] == 0
    latents, text = (measure(tmp_path / "cache", kind) for kind in ("latents", "text"))
    assert latents.records == len(propose("caches", action="make", **values).content.plan.images)
    assert text.records > 0 and latents.disk_bytes > 0
    for source, name in ((LatentSource, "_encode"), (TextSource, "encode")):
        monkeypatch.setattr(source, name, lambda *_: pytest.fail("it was encoded again"))
    assert carry_out(tmp_path / "again", "caches", action="make", **values)[0] == 0
    found = propose("caches", **values)
    assert found.rows == () and f"latents: {latents.records}" in found.summary
    assert carry_out(tmp_path / "clear", "caches", action="clear", **values)[0] == 0
    assert measure(tmp_path / "cache", "latents").disk_bytes == measure(tmp_path / "cache", "text").disk_bytes == 0


@pytest.mark.slow
def test_caches_of_another_machine_are_found_where_all_lies_elsewhere(tmp_path: Path) -> None:
    """Folders of other names, files of other times: what a cache holds is known by content."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    small_preset(here).save(here / "preset.json")
    assert carry_out(tmp_path / "job", "caches", action="make", preset=here / "preset.json")[0] == 0
    shutil.copytree(here / "images", there / "images")  # with the times of now
    shutil.copytree(here / "cache", there / "cache")
    (there / "model.safetensors").write_bytes(micro_model().read_bytes())
    small_preset(there, model__base=str(there / "model.safetensors")).save(there / "preset.json")
    before = [measure(there / "cache", kind) for kind in STORES]
    assert carry_out(tmp_path / "again", "caches", action="make", preset=there / "preset.json")[0] == 0
    assert [measure(there / "cache", kind) for kind in STORES] == before
    assert all(cache.records for cache in before)


def test_a_preset_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Choose a preset"):
        propose("caches")
    with pytest.raises(UserError, match="no such preset"):
        propose("caches", preset=tmp_path / "none.json")
