"""What a run needs no more leaves the device: the text encoders before the UNet comes, and the VAE waits on the CPU."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from engine.sdxl import checkpoint
from engine.updater import Updater
from tests.training import small_preset, train_here


@pytest.fixture
def watched(monkeypatch):
    """When the UNet is loaded and in the first step: how many encoders are alive; and where the VAE was moved to."""
    encoders: list[weakref.ref] = []
    moves: list[str] = []
    alive: list[int] = []
    load_text, load_vae, update = checkpoint.load_text_encoders, checkpoint.load_vae, Updater.update
    load_unet = checkpoint.load_unet

    def count_alive() -> None:
        gc.collect()
        alive.append(sum(found() is not None for found in encoders))

    def loading_unet(*given, **named):
        count_alive()
        return load_unet(*given, **named)

    def loading_text(*given, **named):
        loaded = load_text(*given, **named)
        encoders.extend([weakref.ref(loaded.one), weakref.ref(loaded.two)])
        return loaded

    def loading_vae(*given, **named):
        vae: Any = load_vae(*given, **named)
        move = vae.to

        def moving(device, *more):
            moves.append(str(device))
            return move(device, *more)

        vae.to = moving
        return vae

    def updating(self, *given):
        count_alive()
        return update(self, *given)

    monkeypatch.setattr(checkpoint, "load_text_encoders", loading_text)
    monkeypatch.setattr(checkpoint, "load_vae", loading_vae)
    monkeypatch.setattr(checkpoint, "load_unet", loading_unet)
    monkeypatch.setattr(Updater, "update", updating)
    return alive, moves


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "kept"), [
    ({}, 0),
    ({"captions__cache_text": False}, 2),
    ({"captions__cache_text": False, "adapter__text_encoder_2": True}, 2),
])  # fmt: skip
def test_text_encoders_are_alive_only_where_they_are_needed(tmp_path, watched, changes, kept):
    alive, _ = watched
    train_here(small_preset(tmp_path, run__steps=1, sample__prompts="a thing", sample__at_start=True, **changes))
    assert alive == [kept, kept]


@pytest.mark.slow
@pytest.mark.parametrize(("cached", "moves"), [(True, ["cpu"]), (False, [])])
def test_the_vae_leaves_the_device_once_latents_are_cached(tmp_path, watched, cached, moves):
    _, moved = watched
    train_here(small_preset(tmp_path, run__steps=1, data__cache_latents=cached))
    assert moved == moves
    assert torch.device(moved[0]).type == "cpu" if moved else not cached
