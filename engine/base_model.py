"""The base model as a run computes with it: parts in their precision and storage, merged adapters included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from engine.adapters.merging import changes_before_packing, merge_into
from engine.adapters.targets import TEXT_1, TEXT_2, UNET
from engine.data.cache import Store
from engine.data.digests import FileDigests
from engine.latent_source import LatentSource
from engine.memory import Computation
from engine.merges import TEXT_PARTS, merge_mark, read_merges
from engine.preset import Preset, resolve
from engine.sdxl import checkpoint
from engine.sdxl.detect import ModelFacts
from engine.text_source import TextSource, text_reading

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from engine.sections.adapter import Adapter


def open_latents(
    preset: Preset, facts: ModelFacts, computation: Computation, device: torch.device, warn: Callable[[str], None]
) -> LatentSource:
    """The VAE on the device, and the cache of what it makes of images where there is to be one."""
    vae_path = resolve(preset.model.vae) if preset.model.vae else None
    cache = resolve(preset.data.cache_folder)
    dtype = torch.float32 if preset.memory.vae_precision == "fp32" else computation.dtype
    return LatentSource(
        checkpoint.load_vae(facts, dtype, device, vae_path),
        checkpoint.part_digest(facts, "vae", vae_path),
        FileDigests(cache),
        Store.open(cache, "latents") if preset.data.cache_latents else None,
        (preset.data.background, preset.data.resampling),
        warn,
    )


def open_text(preset: Preset, facts: ModelFacts, computation: Computation, device: torch.device) -> TextSource:
    """The text encoders on the device, which nothing else holds, and the cache of their features."""
    stored, merges = preset.memory.text_encoder_storage, read_merges(preset)
    changes = changes_before_packing(merges)
    encoders = checkpoint.load_text_encoders(facts, computation.dtype, device, computation.keep_narrow, stored, changes)
    merge_into({TEXT_1: encoders.one, TEXT_2: encoders.two}, merges)
    digest = checkpoint.part_digest(facts, "text") + ("" if stored == "same" else stored)
    store = Store.open(resolve(preset.data.cache_folder), "text") if preset.captions.cache_text else None
    return TextSource(encoders, digest + merge_mark(merges, TEXT_PARTS), store, text_reading(preset))


def load_unet(
    preset: Preset, facts: ModelFacts, computation: Computation, device: torch.device
) -> UNet2DConditionModel:
    """The UNet on the device."""
    memory, merges = preset.memory, read_merges(preset)
    changes = changes_before_packing(merges)
    unet = checkpoint.load_unet(facts, computation.dtype, device, computation.keep_narrow, memory.unet_storage, changes)
    merge_into({UNET: unet}, merges)
    if memory.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return unet


def trained_parts(adapter: Adapter, unet: UNet2DConditionModel, text: TextSource) -> dict[str, nn.Module]:
    """{part: model} of the parts that are to have an adapter."""
    parts: dict[str, nn.Module] = {UNET: unet} if adapter.unet else {}
    if text.encoders is not None:
        parts |= {TEXT_1: text.encoders.one} if adapter.text_encoder_1 else {}
        parts |= {TEXT_2: text.encoders.two} if adapter.text_encoder_2 else {}
    return parts
