"""Runs from preset to LoRA on the demo model: what they leave behind, and what changes what."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
import torch.utils.checkpoint as checkpointing
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from engine import events
from engine.errors import PresetError, UserError
from engine.objective import Objective
from engine.plan import make_plan
from tests.training import events_of, losses_of, make_images, small_preset, steps_of, train_here


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    preset = small_preset(
        folder,
        run__steps=8,
        run__save_every_steps=4,
        sample__every_steps=4,
        sample__prompts="a sks thing, red --n blurry --d 5\na blue star --w 96 --s 3",
    )
    return preset, train_here(preset)


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return folder, outcome(train_here(small_preset(folder)))


def outcome(made):
    """Losses, rates and weights: what a setting of the mathematics must change at least one of."""
    weights = load_file(next(made.state.glob("*")))
    rates = [step.lr["unet"] for step in steps_of(made)]
    return losses_of(made), rates, {name: weights[name] for name in weights if name.startswith("adapter.")}


@pytest.mark.slow
def test_each_step_is_told_once_with_its_numbers(whole_run):
    preset, made = whole_run
    steps = steps_of(made)
    assert [step.step for step in steps] == list(range(1, 9))
    assert len(events_of(made, events.Step)) == 8
    assert all(step.loss is not None and math.isfinite(step.loss) for step in steps)
    assert all(step.gradient_norm is not None and step.gradient_norm > 0 for step in steps)
    assert [step.epoch for step in steps] == [1] * 8  # 4 images × 2 repeats ÷ batch 1
    assert steps[0].lr["unet"] == preset.optimizer.unet_rate
    last = steps[-1].lr["unet"]
    assert last is not None and last < preset.optimizer.unet_rate


def test_a_run_tells_where_it_is(whole_run):
    _, made = whole_run
    (started,) = events_of(made, events.Started)
    assert (started.steps, started.from_step) == (8, 0)
    assert [event.name for event in events_of(made, events.Stage)][-1] == "Training"
    (finished,) = events_of(made, events.Finished)
    assert finished.checkpoint == "checkpoints/tiny.safetensors"
    assert made.status() == "finished"


def test_the_plan_that_was_announced_is_the_one_that_ran(whole_run):
    preset, made = whole_run
    announced, ran = json.loads(make_plan(preset).to_json()), json.loads(made.plan.read_text())
    for plan in (announced, ran):
        for room in plan["rooms"]:
            del room["free_bytes"]  # others write to the disk meanwhile
    assert ran == announced


def test_checkpoints_are_named_by_step_and_the_last_by_the_run(whole_run):
    _, made = whole_run
    assert sorted(path.name for path in made.checkpoints.iterdir()) == ["tiny-000004.safetensors", "tiny.safetensors"]
    assert [path.name for path in sorted(made.state.iterdir())] == [
        "step-00000004.safetensors",
        "step-00000008.safetensors",
    ]


def test_a_checkpoint_tells_how_it_was_made(whole_run):
    _, made = whole_run
    with safe_open(made.checkpoints / "tiny-000004.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["ss_steps"] == "4"
    assert metadata["ss_network_dim"] == "2"
    assert metadata["ss_num_train_images"] == "8"
    assert json.loads(metadata["ss_dataset_dirs"]) == {"2_sks thing": {"n_repeats": 2, "img_count": 4}}
    assert json.loads(metadata["ss_tag_frequency"])["2_sks thing"]["a sks thing number 0"] == 1
    assert len(metadata["ss_new_sd_model_hash"]) == 64


def test_the_plan_counts_the_numbers_of_the_adapter(whole_run):
    preset, made = whole_run
    tensors = load_file(made.checkpoints / "tiny.safetensors")
    counted = sum(tensor.numel() for name, tensor in tensors.items() if not name.endswith(".alpha"))
    assert make_plan(preset).adapter_parameters == counted


@pytest.mark.parametrize("step", [0, 4, 8])
def test_samples_carry_their_settings(whole_run, step):
    _, made = whole_run
    with Image.open(made.samples / f"step-{step:06d}_00.png") as picture:
        assert picture.size == (64, 64)
        assert picture.info["parameters"].splitlines() == [
            "a sks thing, red",
            "Negative prompt: blurry",
            "Steps: 2, Sampler: Euler, Schedule type: Normal, CFG scale: 6, Seed: 5, Size: 64x64, "
            f'Model: "micro, step {step}", RNG: CPU, Version: Atelier',
        ]
    with Image.open(made.samples / f"step-{step:06d}_01.png") as picture:
        assert picture.size == (96, 64)


def test_samples_change_as_the_adapter_learns(whole_run):
    _, made = whole_run
    pictures = [(made.samples / f"step-{step:06d}_00.png").read_bytes() for step in (0, 4, 8)]
    assert len(set(pictures)) == 3


@pytest.mark.slow
def test_the_same_preset_gives_the_same_weights(whole_run, tmp_path):
    preset, made = whole_run
    again = train_here(preset, tmp_path / "again")
    assert losses_of(again) == losses_of(made)
    first, second = (load_file(each.checkpoints / "tiny.safetensors") for each in (made, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_cached_and_uncached_features_give_the_same_losses(plain_run):
    folder, (losses, _, _) = plain_run
    live = train_here(small_preset(folder, data__cache_latents=False, captions__cache_text=False))
    assert losses_of(live) == pytest.approx(losses, rel=1e-5)


@pytest.mark.slow
def test_gradient_checkpointing_changes_no_number(plain_run, monkeypatch):
    folder, (losses, _, _) = plain_run
    blocks = []
    checkpoint = checkpointing.checkpoint
    monkeypatch.setattr(
        checkpointing,
        "checkpoint",
        lambda call, *given, **how: blocks.append(1) or checkpoint(call, *given, **how),
    )
    checkpointed = train_here(small_preset(folder, memory__gradient_checkpointing=True))
    assert losses_of(checkpointed) == pytest.approx(losses, rel=1e-5)
    assert len(blocks) > 4 * 10  # steps × blocks: it was done at all


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_full_precision(plain_run, precision, monkeypatch):
    """On a processor that is fast in it: others compute in fp32 whatever is asked for."""
    monkeypatch.setattr("engine.memory.cpu_computes_fast_in", lambda dtype: True)
    folder, (losses, _, _) = plain_run
    half = train_here(small_preset(folder, memory__precision=precision))
    found = losses_of(half)
    assert found == pytest.approx(losses, rel=0.03) and found != losses
    with safe_open(next(half.state.glob("*")), framework="pt") as file:
        about = json.loads(file.metadata()["atelier_state"])["about"]
    assert (about["loss_scale"], about["good_steps"]) == ((2.0**16, 4) if precision == "fp16" else (1, 0))
    tensors = load_file(half.checkpoints / "tiny.safetensors")
    assert any(tensor.any() for name, tensor in tensors.items() if "lora_up" in name)


@pytest.mark.slow
def test_text_encoders_are_trained_at_their_own_rates(tmp_path):
    preset = small_preset(
        tmp_path,
        adapter__text_encoder_1=True,
        adapter__text_encoder_2=True,
        captions__cache_text=False,
        optimizer__text_encoder_1_rate=2e-3,
        optimizer__text_encoder_2_rate=3e-3,
        optimizer__schedule="constant",
    )
    made = train_here(preset)
    assert steps_of(made)[-1].lr == {"unet": 1e-3, "text_encoder_1": 2e-3, "text_encoder_2": 3e-3}
    tensors = load_file(made.checkpoints / "tiny.safetensors")
    for prefix in ("lora_unet_", "lora_te1_", "lora_te2_"):
        assert any(tensor.any() for name, tensor in tensors.items() if name.startswith(prefix) and "lora_up" in name)


@pytest.mark.slow
def test_prior_weight_scales_only_regularization_images(tmp_path):
    make_images(tmp_path / "images", ((64, 64), (96, 64)))
    preset = small_preset(tmp_path, run__length="epochs", run__epochs=1)
    general = shutil.copytree(tmp_path / "images", tmp_path / "general")
    changes = {"data.regularization_folder": str(general), "optimizer.unet_rate": 1e-9}
    with_prior = preset.changed({**changes, "run.save_precision": "fp32"})
    full = train_here(with_prior)
    none = train_here(with_prior.changed({"loss.prior_weight": 0.0}))
    pairs = list(zip(losses_of(full), losses_of(none), strict=True))
    assert len(pairs) == 8
    assert sum(weighted == 0 for _, weighted in pairs) == 4
    assert all(weighted in (0, pytest.approx(plain, rel=1e-6)) for plain, weighted in pairs)


@pytest.mark.slow
def test_a_truncated_image_is_left_out_with_a_warning_or_stops_the_run(tmp_path):
    preset = small_preset(tmp_path)
    victim = tmp_path / "images" / "2_sks thing" / "1.png"
    victim.write_bytes(victim.read_bytes()[:2000])
    made = train_here(preset)
    assert any(str(victim) == event.where for event in events_of(made, events.Warned))
    assert len(json.loads(made.plan.read_text())["images"]) == 3
    with pytest.raises(PresetError, match=r"1\.png"):
        train_here(preset.changed({"data.broken_images": "stop"}))


@pytest.mark.slow
def test_a_failed_sample_warns_and_training_goes_on(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no picture today")

    monkeypatch.setattr("engine.sample.draw", fail)
    made = train_here(small_preset(tmp_path, sample__prompts="a red circle"))
    assert made.status() == "finished"
    assert any("no picture today" in event.message for event in events_of(made, events.Warned))


@pytest.fixture
def spoil(monkeypatch):
    """Make the losses of chosen batches (counted from 1) not a number."""
    plain, count = Objective.loss, iter(range(1, 10**6))

    def set_up(spoiled):
        def loss(self, *words):
            value = plain(self, *words)
            return value * math.nan if next(count) in spoiled else value

        monkeypatch.setattr(Objective, "loss", loss)

    return set_up


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_a_step_that_is_not_finite_is_left_out_and_its_images_are_named(tmp_path, spoil, name):
    spoil({3})
    made = train_here(small_preset(tmp_path, optimizer__name=name))
    assert [step.loss is None for step in steps_of(made)] == [False, False, True, False]
    (warning,) = events_of(made, events.Warned)
    assert "step 3" in warning.message and ".png" in warning.message
    weights = load_file(next(made.state.glob("*")))
    assert all(torch.isfinite(tensor).all() for tensor in weights.values() if tensor.is_floating_point())


@pytest.mark.slow
def test_a_first_step_that_is_left_out_leaves_the_weights_as_they_were(tmp_path, spoil):
    spoil({1, 2, 3})
    made = train_here(small_preset(tmp_path, run__steps=4, run__save_every_steps=3))
    assert [step.loss is None for step in steps_of(made)] == [True, True, True, False]
    assert not (made.checkpoints / "tiny-000003.safetensors").exists()  # nothing was learned by then
    assert any("as it started" in event.message for event in events_of(made, events.Warned))


@pytest.mark.slow
def test_a_run_whose_loss_stays_not_finite_ends_with_a_sentence(tmp_path, spoil):
    spoil(set(range(2, 100)))
    with pytest.raises(UserError, match="not been finite for 25 steps"):
        train_here(small_preset(tmp_path, run__steps=40))
