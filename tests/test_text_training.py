"""Text encoders that stop learning: from that step on nothing about them changes, also after a resume."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from engine import run
from engine.adapters.attach import Recipe, attach
from engine.adapters.flat import FlatParameters
from engine.adapters.site import Group
from engine.data.caption_draws import Caption
from engine.optimizers import pack_state, unpack_state
from engine.preset import Preset
from engine.report import Reporter
from engine.stopping import Stopping
from engine.text_source import TextReading, TextSource
from engine.text_training import freeze_text, text_stop_step
from engine.train import train
from engine.updater import Updater
from tests.test_optimizers import ON_CPU, gradient_of, make, stored, vectors
from tests.tiny_text import tiny_encoders
from tests.training import losses_of, small_preset, steps_of, train_here

TRAINED = {"adapter__text_encoder_1": True, "adapter__text_encoder_2": True, "captions__cache_text": False}


@pytest.mark.parametrize(("amount", "step"), [(0.0, None), (0.25, 25), (0.001, 1), (1.0, 1), (40.0, 40)])
def test_the_stop_is_a_step_or_a_share(amount, step):
    values = {name.replace("__", "."): value for name, value in TRAINED.items()}
    assert text_stop_step(Preset().changed({**values, "adapter.text_encoder_stop": amount}), 100) == step


def run_steps(parts: dict[str, FlatParameters], updater: Updater, steps: range) -> None:
    """Text encoders stop at step 3; every part that is still trained gets a gradient."""
    groups = [Group(part, part, 1.0, flat) for part, flat in parts.items()]
    for step in steps:
        frozen = freeze_text(groups, step, 3)
        before = vectors(parts)
        updater.begin_step(1.0, frozen)
        assert not frozen or torch.equal(vectors(parts)[1], before[1])  # also where the step has weights of its own
        for part, flat in parts.items():
            if flat.vector.requires_grad:
                flat.vector.grad = torch.zeros_like(flat.vector)
                for name, slot in flat.slots.items():
                    slot.of(flat.vector.grad).copy_(gradient_of(step, part, name, slot.shape))
        updater.update(step)


@pytest.mark.parametrize("name", ON_CPU)
def test_whatever_the_optimizer_a_frozen_part_stays_bit_for_bit_and_the_others_go_on(name, tmp_path):
    whole, updater = make(name)
    run_steps(whole, updater, range(3))
    assert len(updater.parameters) == 2
    at_stop = vectors(whole)
    run_steps(whole, updater, range(3, 5))
    assert len(updater.parameters) == 1
    state = stored(pack_state(updater.optimizer), tmp_path)
    resumed, again = make(name)
    for fresh, old in zip(resumed.values(), whole.values(), strict=True):
        fresh.vector.data.copy_(old.vector.data)
    unpack_state(again.optimizer, *state)
    run_steps(whole, updater, range(5, 9))
    run_steps(resumed, again, range(5, 9))
    unet, text = vectors(whole)
    assert torch.equal(text, at_stop[1]) and not torch.equal(unet, at_stop[0])
    assert all(torch.equal(one, other) for one, other in zip(vectors(whole), vectors(resumed), strict=True))


def test_checkpointing_in_the_text_encoders_changes_no_gradient_of_the_adapter():
    encoders = tiny_encoders()
    for model in (encoders.one, encoders.two):
        model.requires_grad_(False)
    adapter = attach({"text_encoder_1": encoders.one, "text_encoder_2": encoders.two}, Recipe(rank=2))
    for vector in adapter.vectors.values():
        vector.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    found = []
    for checkpointing in (False, True):
        source = TextSource(encoders, "", None, TextReading(checkpointing=checkpointing))
        features = source.features([Caption.of("a cat"), Caption("a dog", "two")])
        (features.rows.square().mean() + features.pooled.square().mean()).backward()
        found.append({name: vector.grad for name, vector in adapter.vectors.items()})
        for vector in adapter.vectors.values():
            vector.grad = None
    assert all(torch.equal(found[0][name], found[1][name]) and found[0][name].any() for name in adapter.vectors)


@pytest.mark.slow
def test_a_run_stops_them_and_resumes_to_the_same_weights(tmp_path):
    preset = small_preset(
        tmp_path, **TRAINED, adapter__text_encoder_stop=0.5, run__save_every_steps=2, optimizer__weight_decay=1.0
    )
    made = train_here(preset, tmp_path / "made")
    assert [bool(step.lr["text_encoder_1"]) for step in steps_of(made)] == [True, True, False, False]
    half, whole = (load_file(made.state / f"step-{step:08d}.safetensors") for step in (2, 4))
    same = {name: torch.equal(half[name], whole[name]) for name in whole if name.startswith("adapter.")}
    assert all(same[name] for name in same if "lora_te" in name)
    assert not all(same[name] for name in same if "lora_unet" in name)

    losses = losses_of(made)
    (made.state / "step-00000004.safetensors").unlink()
    (made.checkpoints / "tiny.safetensors").unlink()
    folder, again = run.open_run(made.path)
    with run.held(folder):
        train(again, Reporter(folder), Stopping())
    resumed = load_file(made.state / "step-00000004.safetensors")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert losses_of(made) == losses


@pytest.mark.slow
def test_the_wishes_of_captions_give_the_same_losses_cached_and_live(tmp_path):
    """With as many variants as showings; the batches carry the drawn captions in either case."""
    wishes = {
        "captions__shuffle": True, "captions__separator": " ", "captions__tag_dropout": 0.3, "captions__dropout": 0.2,
        "captions__token_warmup": 2, "captions__weighted": True, "captions__trigger": "(zkt:1.2)",
    }  # fmt: skip
    cached = train_here(small_preset(tmp_path, run__name="cached", **wishes))
    live = train_here(small_preset(tmp_path, run__name="live", captions__cache_text=False, **wishes))
    assert losses_of(cached) == pytest.approx(losses_of(live), rel=1e-5)
