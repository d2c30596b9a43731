"""How long a step takes, from steps that were measured under other conditions. A simple model, and no more. Torch-free.

Work is counted in TFLOP of full-size SDXL (figures of torch's FLOP counter: 6.76 forward at 1024 × 1024, 1.59 at
512 × 512; forward and backward 14.6, with gradient checkpointing 20.8; the VAE's encoder 4.88). For a model of another
size the ratios hold, and only ratios between runs of one model on one device are ever used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path

from engine.cards import Card, computes_on_processor, processor
from engine.preset import Preset
from engine.sdxl.detect import ModelFacts
from engine.sdxl.parts import local_tensors

FORWARD = (6.22, 0.54)  # of a picture of 1024 × 1024: what grows with the area, and with its square (attention)
BACKWARD = 1.16  # of the forward pass; frozen weights need no gradients of their own
AGAIN = 0.92  # of the forward pass, made again by gradient checkpointing
TEXT_TFLOP = 0.11  # both encoders, 77 tokens, forward
VAE_TFLOP = 4.88
# How much longer a step takes than with half precision and plain weights. On a GPU these are assumptions; on a CPU the
# storages are measured (docs/performance.md), and half precision is widened there anyway
PRECISION_ON_GPU = {"bf16": 1.0, "fp16": 1.0, "fp32": 2.0}
STORAGE_ON_GPU = {"same": 1.0, "int8": 1.1, "fp8": 1.1, "nf4": 1.2}
STORAGE_ON_CPU = {"same": 1.0, "int8": 1.1, "fp8": 1.6, "nf4": 1.4}


@dataclass(frozen=True)
class Conditions:
    """What a step's time and memory depend on, beside its pictures' size. `device`: the card's or processor's name.

    parts: what is trained; ema: where an average lies, "" for none; model: kind and numbers of its UNet.
    """

    device: str
    on_gpu: bool
    model: str
    precision: str
    unet_storage: str
    text_storage: str
    parts: tuple[str, ...]
    algorithm: str
    rank: int
    conv_rank: int
    blocks: str
    batch_size: int
    accumulation: int
    gpus: int
    checkpointing: bool
    optimizer: str
    adapter_precision: str
    ema: str
    cached_text: bool
    cached_latents: bool
    tokens: int
    threads: int


# How unlike two conditions are that differ in this; what is not named counts 1
UNLIKE = {"parts": 4.0, "algorithm": 2.0, "precision": 2.0, "tokens": 0.5, "optimizer": 0.5, "ema": 0.5}
_BY_RATIO = {"batch_size": 0.5, "accumulation": 0.25, "gpus": 1.0, "rank": 0.1, "conv_rank": 0.1}
_unet_numbers: dict[tuple[Path, int], int] = {}  # model file and its size → numbers of its UNet
_NEVER = ("device", "on_gpu", "model")  # no measurement tells anything about another one of these


def conditions_of(preset: Preset, model: ModelFacts, device: str, on_gpu: bool) -> Conditions:
    """The conditions of a run of this preset on this device."""
    adapter, run, memory = preset.adapter, preset.run, preset.memory
    parts = ("unet", "text_encoder_1", "text_encoder_2")
    cached_text = preset.captions.cache_text
    return Conditions(
        device=device,
        on_gpu=on_gpu,
        model=model_key(model),
        precision=memory.precision,
        unet_storage=memory.unet_storage,
        text_storage="same" if cached_text else memory.text_encoder_storage,
        parts=tuple(part for part in parts if getattr(adapter, part)),
        algorithm=adapter.algorithm,
        rank=adapter.rank,
        conv_rank=adapter.conv_rank,
        blocks=adapter.blocks,
        batch_size=run.batch_size,
        accumulation=run.accumulation,
        gpus=run.gpus,
        checkpointing=memory.gradient_checkpointing,
        optimizer=preset.optimizer.name,
        adapter_precision=memory.adapter_precision,
        ema=run.ema_device if run.ema_decay else "",
        cached_text=cached_text,
        cached_latents=preset.data.cache_latents,
        tokens=preset.captions.max_tokens,
        threads=0 if on_gpu else memory.threads,
    )


def device_of(preset: Preset, card: Card | None) -> tuple[str, bool]:
    """The name of the device that a run would compute on, and whether that is a GPU."""
    if computes_on_processor(preset, card):
        return processor(), False
    return card.name if card else "", True


def model_key(model: ModelFacts) -> str:
    """Models of one key have steps of one length: the kind and how many numbers the UNet has."""
    known = model.path, model.size_bytes
    if known not in _unet_numbers:
        _unet_numbers[known] = sum(prod(info.shape) for info in local_tensors(model, "unet").values())
    return f"{model.kind} {_unet_numbers[known]}"


def unlikeness(one: Conditions, other: Conditions) -> float:
    """0 for equal conditions, more the less one tells about the other; infinite for another device or model."""
    total = 0.0
    for field in fields(Conditions):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        if mine == its:
            continue
        if field.name in _NEVER:
            return math.inf
        if field.name in _BY_RATIO:
            total += _BY_RATIO[field.name] * abs(math.log2((mine or 0.5) / (its or 0.5)))
        else:
            total += UNLIKE.get(field.name, 1.0)
    return total


def image_tflop(conditions: Conditions, size_px: tuple[int, int]) -> float:
    """The work for one picture of a bucket in one step, forward and backward."""
    area = size_px[0] * size_px[1] / 2**20
    forward = FORWARD[0] * area + FORWARD[1] * area**2
    again = AGAIN if conditions.checkpointing else 0.0
    work = forward * (1 + BACKWARD + again)
    if not conditions.cached_text:
        trained = "text_encoder_1" in conditions.parts or "text_encoder_2" in conditions.parts
        work += TEXT_TFLOP * conditions.tokens / 75 * (1 + (BACKWARD + again if trained else 0.0))
    return work + (0.0 if conditions.cached_latents else VAE_TFLOP * area)


def slowness(conditions: Conditions) -> float:
    """How much longer one TFLOP takes than with half precision and plain weights on one card."""
    if not conditions.on_gpu:
        return STORAGE_ON_CPU[conditions.unet_storage] / conditions.gpus
    return PRECISION_ON_GPU[conditions.precision] * STORAGE_ON_GPU[conditions.unet_storage] / conditions.gpus
