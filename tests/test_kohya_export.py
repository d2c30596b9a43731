"""Presets written as kohya_ss files: what was taken over goes back unchanged, and what is lost is told."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_kohya import CASES, ELSEWHERE, FACTS
from test_preset import value_of

from engine import kohya
from engine.__main__ import main
from engine.errors import PresetError
from engine.preset import BY_PATH, ROOT, SETTINGS, Preset, load
from tests.setting_rows import ROWS

# Texts and numbers that may come back in other words: held by tests of their own
IN_OTHER_WORDS = {
    "adapter.block_ranks", "adapter.block_alphas", "adapter.conv_block_ranks", "adapter.conv_block_alphas",
    "adapter.block_rates", "optimizer.points", "model.merged_adapters", "optimizer.weight_decay", "optimizer.beta1",
    "optimizer.beta2", "optimizer.epsilon", "optimizer.extra",
}  # fmt: skip
# Settings with a name there whose other value cannot go over, and why
NOT_THERE = {
    "adapter.text_encoder_stop": "steps; shares go over",
    "captions.clip_skip": "SDXL always uses 2 there",
}
# Values that go over, where the row for whole runs has one that does not
VALUES = {
    "adapter.blocks": "attention", "captions.lines": "random", "memory.unet_storage": "fp8",
    "memory.text_encoder_storage": "fp8", "adapter.block_rates": "1" + ", 0.5" * 21 + ", 1",
    "optimizer.points": "10:0.5, 20:0.1", "sample.sampler": "ddim", "loss.mask_folder": "masks",
    "model.base": "x/model.safetensors", "model.vae": "vae.safetensors", "model.merged_adapters": "a.safetensors: 0.5",
    "data.folder": "pictures", "data.regularization_folder": "others", "run.folder": "elsewhere",
    "adapter.start_from": "old.safetensors", "adapter.rank_from_file": True, "captions.cache_text": False,
    "data.cache_latents": False, "memory.precision": "fp16", "memory.gradient_checkpointing": True,
    "memory.adapter_precision": "bf16", "memory.vae_precision": "fp32", "memory.threads": 3, "run.keep_last": 3,
    "run.keep_states": 4, "logging.tracker": "wandb", "logging.folder": "logs", "logging.project": "cats",
    "logging.run_name": "first", "logging.settings": True, "sharing.title": "A cat", "sharing.author": "me",
    "sharing.description": "of a cat", "sharing.license": "CC0", "sharing.tags": "a, b", "sharing.comment": "c d",
    "sharing.trigger_phrase": "zkt", "sharing.usage_hint": "at 0.8", "sharing.merged_from": "x",
    "sharing.thumbnail": "cat.png", "sharing.training_facts": False, "sharing.hub_repo": "me/cat",
    "sharing.hub_folder": "loras", "sharing.hub_visibility": "public", "run.gpus": 2, "captions.wildcards": True,
    "adapter.algorithm": "loha", "optimizer.name": "prodigy", "optimizer.epsilon": 1e-6, "run.batch_size": 3,
    "run.save_every_epochs": 2, "sample.every_epochs": 2, "validation.every_epochs": 2, "validation.every_steps": 50,
    "data.width_px": 896, "data.height_px": 1152, "data.bucket_max_px": 1536, "optimizer.decay_share": 0.3,
}  # fmt: skip
NEEDS = {
    "captions.lines": {"captions.wildcards": True}, "captions.wildcards": {"captions.lines": "random"},
    "adapter.rank_from_file": {"adapter.start_from": "a.safetensors"},
    "adapter.text_encoder_1": {"adapter.text_encoder_2": True, "captions.cache_text": False},
    "adapter.text_encoder_2": {"adapter.text_encoder_1": True, "captions.cache_text": False},
    "optimizer.text_encoder_1_rate": {"optimizer.text_encoder_2_rate": 1e-2},
    "optimizer.text_encoder_2_rate": {"optimizer.text_encoder_1_rate": 1e-2},
    "memory.text_encoder_storage": {"captions.cache_text": False, "memory.unet_storage": "fp8"},
    "optimizer.name": {"optimizer.unet_rate": 1.0}, "logging.run_name": {"logging.tracker": "wandb"},
    "logging.folder": {"logging.tracker": "wandb"}, "logging.settings": {"logging.tracker": "wandb"},
    "logging.project": {"logging.tracker": "wandb"}, "sharing.hub_folder": {"sharing.hub_repo": "me/cat"},
    "sharing.hub_repo": {"sharing.hub_files": "checkpoints"}, "optimizer.beta2": {"optimizer.beta1": 0.5},
    "optimizer.beta1": {"optimizer.beta2": 0.9}, "adapter.norms": {"adapter.conv_rank": 2},
    "adapter.blocks": {"adapter.conv_rank": 2}, "run.epochs": {"run.length": "epochs"},
    "run.steps": {"run.length": "steps"}, "loss.mask_folder": {"loss.mask": "folder"},
    "validation.every_epochs": {"validation.share": 0.1}, "validation.every_steps": {"validation.share": 0.1},
    "optimizer.decay_share": {"optimizer.schedule": "warmup_stable_decay"},
}  # fmt: skip
NAMED = [item for item in SETTINGS if (item.kohya or item.sd_scripts) and item.path not in NOT_THERE]


def back(folder: Path, made: kohya.Export) -> kohya.Import:
    """The file as a user would import it."""
    path = folder / "theirs.json"
    path.write_text(json.dumps(made.content), encoding="utf-8")
    return kohya.read(path)


def alike(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_each_setting_comes_back_or_is_told(tmp_path_factory, data):
    chosen = data.draw(st.lists(st.sampled_from(SETTINGS), max_size=8, unique=True))
    try:
        preset = Preset().changed({item.path: data.draw(value_of(item)) for item in chosen})
    except PresetError:
        return
    made = kohya.export(preset)
    found = back(tmp_path_factory.mktemp("export"), made)
    there = Preset().values() | found.settings
    lost = {item.setting: item for item in made.lost}
    for path, value in preset.values().items():
        if path in lost:
            assert (lost[path].value, lost[path].there) == (value, there[path])
        else:
            assert path in IN_OTHER_WORDS or alike(value, there[path]), path


@pytest.mark.parametrize("item", NAMED, ids=lambda item: item.path)
def test_every_setting_that_kohya_ss_has_goes_over(tmp_path, item):
    row = ROWS[item.path]
    value = VALUES.get(item.path, row.value)
    more = row.needs | NEEDS.get(item.path, {}) if item.path not in VALUES else NEEDS.get(item.path, {})
    fixed = {"model.prediction": "epsilon", "model.zero_terminal_snr": "no", "logging.project": "atelier"}
    preset = Preset().changed({**fixed, **more, item.path: value})
    made = kohya.export(preset)
    assert item.path not in [lost.setting for lost in made.lost]
    assert item.path in IN_OTHER_WORDS or alike(back(tmp_path, made).settings.get(item.path, item.default), value)
    assert value != item.default or item.path in more


def assert_honoured_keys_return(folder: Path, content: dict) -> None:
    path = folder / "theirs.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found = kohya.read(path)
    if found.preset is None:
        return
    made = kohya.export(found.preset)
    for line in found.receipt.honoured:
        assert made.content[line.key] == line.value, line


@pytest.mark.parametrize("name", CASES)
def test_what_an_import_honoured_an_export_gives_back(tmp_path, name):
    key, value, others, _, _ = CASES[name]
    assert_honoured_keys_return(tmp_path, {"sdxl": True, key: value, **others})


@pytest.mark.slow
@settings(max_examples=40)
@given(
    content=st.dictionaries(
        st.sampled_from(sorted(set(FACTS) - ELSEWHERE - {"sdxl"})),
        st.one_of(
            st.booleans(), st.integers(0, 2000), st.floats(0, 1, width=32),
            st.sampled_from(["", "10.0", "Multires", "LyCORIS/LoKr", "Kohya LoCon", "cosine", "constant", "wandb"]),
        ),
        max_size=40,
    )
)  # fmt: skip
@example(content={"save_every_n_steps": 2, "save_last_n_steps": 2})
@example(content={"noise_offset_type": "Multires", "multires_noise_discount": 0.5})
def test_any_honoured_value_is_given_back(tmp_path_factory, content):
    assert_honoured_keys_return(tmp_path_factory.mktemp("honoured"), {"sdxl": True, **content})


@pytest.mark.parametrize("path", sorted((ROOT / "presets").glob("*.json")), ids=lambda path: path.stem)
def test_shipped_recipes_lose_little_and_tell_it(path):
    lost = {item.setting for item in kohya.export(load(path)).lost}
    small = {"about", "author", "model.prediction", "model.zero_terminal_snr", "adapter.dora_norm"}
    assert lost - small <= {item.path for item in SETTINGS if item.section == "sample"} | {"memory.unet_storage"}


def test_a_whole_file_is_written_so_that_the_form_there_keeps_nothing():
    content = kohya.export(Preset()).content
    assert set(content) == {name for name, fact in FACTS.items() if fact["family"] != "legacy"}


OTHER_WORDS = {
    "blocks": {"adapter.block_ranks": "4", "adapter.block_alphas": "2,  2" + ",2" * 21},
    "betas": {"optimizer.beta2": 0.95},
    "d-adaptation": {"optimizer.name": "dadapt_adam", "optimizer.unet_rate": 1.0, "optimizer.extra": "d0=1e-5"},
    "d-adaptation by SGD": {"optimizer.name": "dadapt_sgd", "optimizer.unet_rate": 1.0},
    "adafactor": {"optimizer.name": "adafactor"},
    "adafactor's own rate": {
        "optimizer.name": "adafactor", "optimizer.schedule": "adafactor", "optimizer.unet_rate": 1.0,
    },
    "points": {"optimizer.schedule": "piecewise_constant", "optimizer.points": "10:0.5,20:0.1"},
    "lowest rate": {"optimizer.schedule": "polynomial", "optimizer.min_ratio": 0.1, "optimizer.unet_rate": 3e-4},
    "schedule-free": {
        "optimizer.name": "adamw_schedule_free", "optimizer.schedule": "constant", "optimizer.warmup_steps": 9,
    },
    "both noises": {"noise.offset": 0.05, "noise.pyramid_levels": 6, "noise.pyramid_discount": 0.2},
    "two counts": {"run.save_every_steps": 100, "run.keep_last": 5},
    "text with blanks": {"captions.prefix": "a 'photo' of", "captions.suffix": "--in oil"},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_WORDS)
def test_what_is_said_in_other_words_is_not_lost(name):
    preset = Preset().changed(OTHER_WORDS[name])
    assert {item.setting for item in kohya.export(preset).lost} == {"model.prediction", "model.zero_terminal_snr"}


NOT_EXPRESSIBLE = {
    "optimizer.name": "soap", "optimizer.schedule": "rex", "adapter.algorithm": "tlora", "run.ema_decay": 0.999,
    "captions.trigger": "zkt", "adapter.include_layers": "*attn2*", "noise.timesteps": "logit_normal",
    "run.seed": 0, "memory.unet_storage": "nf4", "loss.soft_min_snr_gamma": 5.0,
}  # fmt: skip


@pytest.mark.parametrize("path", NOT_EXPRESSIBLE)
def test_what_kohya_ss_does_not_have_is_told_with_the_reason(path):
    preset = Preset().changed({path: NOT_EXPRESSIBLE[path], "captions.cache_text": False})
    (lost,) = [item for item in kohya.export(preset).lost if item.setting == path]
    assert lost.value == NOT_EXPRESSIBLE[path] and lost.there != lost.value and lost.note


def test_one_text_encoder_alone_becomes_both_and_is_told():
    preset = Preset().changed({"adapter.text_encoder_1": True, "captions.cache_text": False})
    (lost,) = [item for item in kohya.export(preset).lost if item.setting.startswith("adapter")]
    assert (lost.setting, lost.value, lost.there) == ("adapter.text_encoder_2", False, True)


def test_auto_becomes_what_the_model_s_file_says():
    demo = load(ROOT / "presets" / "demo.json")
    assert kohya.export(demo).content["v_parameterization"] is False
    assert kohya.export(demo.changed({"model.prediction": "v_prediction"})).content["v_parameterization"] is True


def test_the_command_writes_a_file_once_and_tells(tmp_path, capsys):
    out = tmp_path / "kohya.json"
    demo = str(ROOT / "presets" / "demo.json")
    assert main(["export", demo, "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"file", "written", "keys", "lost", "notes"}
    assert told["keys"] == len(json.loads(out.read_text(encoding="utf-8")))
    assert {"setting", "value", "there", "note"} == set(told["lost"][0])
    assert main(["import", str(out), "-o", str(tmp_path / "again.json")]) == 0
    assert load(tmp_path / "again.json").adapter == load(Path(demo)).adapter
    capsys.readouterr()
    assert main(["export", demo, "-o", str(out)]) == 2
    assert "not overwritten" in capsys.readouterr().err


def test_names_there_are_of_settings():
    assert set(NOT_THERE) | set(VALUES) | set(NEEDS) <= set(BY_PATH)
