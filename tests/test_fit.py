"""Make it fit: what is proposed fits, nothing of it is in vain, no rule is broken, and pictures shrink last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from model_headers import write_sparse
from test_sdxl_checkpoint import full_size_shapes

from engine.fit import Fit, fit
from engine.forecast import CUDA_BYTES
from engine.forecast_words import fit_lines
from engine.plan import Plan
from engine.plan_sizes import adapter_parameters
from engine.preset import Preset
from tests.forecasts import plan_with, preset_with
from tests.training import DEMO, engine, small_preset

GIB = 2**30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Full-size SDXL, as far as headers tell."""
    return write_sparse(tmp_path_factory.mktemp("full") / "sdxl.safetensors", full_size_shapes())


def fitted(model: Path, gb: float, **changes: Any) -> tuple[Preset, Plan, Fit]:
    preset = preset_with(model__base=str(model), **changes)
    plan = plan_with(preset, [(24, 80, False)])
    return preset, plan, fit(preset, plan, round(gb * GIB))


ENCODERS = {"adapter__text_encoder_1": True, "adapter__text_encoder_2": True, "captions__cache_text": False}
LARGE = {**ENCODERS, "adapter__rank": 128, "adapter__alpha": 64.0, "run__batch_size": 4}
CASES = [
    (24.0, {}, []),
    (11.5, {}, ["memory.gradient_checkpointing"]),
    (22.0, {"run__batch_size": 4}, ["run.batch_size"]),
    (5.7, {}, ["memory.gradient_checkpointing", "memory.unet_storage"]),
    (7.7, LARGE, ["optimizer.name", "memory.adapter_precision", "memory.unet_storage"]),
    (5.7, {"memory__precision": "fp32", "run__batch_size": 6, "run__ema_decay": 0.9}, ["memory.precision"]),
    (13.0, {"data__cache_latents": False, "captions__cache_text": False}, ["captions.cache_text"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("gb", "changes", "among"), CASES)
def test_what_is_proposed_fits_and_none_of_it_is_in_vain(model, gb, changes, among):
    preset, plan, found = fitted(model, gb, **changes)
    assert found.fits and set(among) <= set(found.values)
    changed = preset.changed(found.values)
    again = plan_with(changed, [(24, 80, False)], [(changed.data.width_px, changed.data.height_px)])
    assert again.problems == () and again.memory.total_bytes + CUDA_BYTES == found.after_bytes <= gb * GIB
    for change in found.changes:
        rest = {path: value for other in found.changes if other is not change for path, value in other.values.items()}
        trained = adapter_parameters(plan.model.config, preset.changed(rest))  # type: ignore[union-attr]
        less = fit(preset.changed(rest), plan_with(preset.changed(rest), [(24, 80, False)]), 1)
        assert less.before_bytes > gb * GIB, (change.name, trained)


@pytest.mark.slow
def test_a_step_keeps_its_pictures_and_a_lora_its_strength(model):
    preset, _, found = fitted(model, 3.9, **LARGE)
    changed = preset.changed(found.values)
    assert changed.run.batch_size * changed.run.accumulation == preset.run.batch_size
    assert changed.adapter.alpha / changed.adapter.rank == preset.adapter.alpha / preset.adapter.rank
    assert not any("px" in path for path in found.values)
    assert found.slower > 1.4 and sum(change.saves_bytes for change in found.changes) == (
        found.before_bytes - found.after_bytes
    )


def test_what_rules_forbid_is_not_proposed(model):
    """DoRA's magnitudes need more than bf16, random crops more than cached latents."""
    never = {"memory.adapter_precision", "data.cache_latents"}
    _, _, found = fitted(
        model, 3.6, adapter__algorithm="dora", data__random_crop=True, data__cache_latents=False, adapter__rank=64
    )
    assert found.changes and not never & set(found.values)


def test_what_cannot_fit_is_told_with_all_that_helps(model):
    _, _, found = fitted(model, 1.0, **LARGE)
    assert not found.fits and found.after_bytes > GIB and "data.width_px" in found.values
    assert fit_lines(found)[-1].startswith("Even then it takes about ")


def test_a_measured_run_s_correction_counts(model):
    preset, plan, _ = fitted(model, 24)
    assert fit(preset, plan, 14 * GIB).changes == () and fit(preset, plan, 14 * GIB, correction=1.3).changes


@pytest.mark.slow
def test_the_command_tells_the_changes_and_writes_the_changed_preset(tmp_path):
    preset = small_preset(tmp_path, model__base=DEMO, run__batch_size=4, memory__precision="bf16")
    preset.save(tmp_path / "preset.json")
    done = engine("fit", tmp_path / "preset.json", "--gb", 0.688, "--json", "-o", tmp_path / "fits.json")
    content = json.loads(done.stdout)
    assert done.returncode == 0 and content["fits"] and content["changes"] and content["slower"] > 1
    assert (tmp_path / "fits.json").exists()
    assert engine("fit", tmp_path / "preset.json", "--gb", 0).returncode == 2
