"""What will be trained, how long and in how much memory, in one sentence. Pure; torch-free.

"UNet and both text encoders, rank 32, 24 images × 80 repeats ÷ batch 4 = 480 steps an epoch, 10 epochs, about 52 min,
9.8 of 12 GB."
"""

from __future__ import annotations

from pathlib import Path

from engine.adapter_shapes import RANKLESS
from engine.forecast import Forecast
from engine.plan import Plan
from engine.preset import Preset
from engine.rules.families import SHOWN

_MOST_SUBSETS = 3
GIB = 2**30  # what is called a GB on the box of a card


def sentence(preset: Preset, plan: Plan, forecast: Forecast) -> str:
    """The whole of a run in one line."""
    what = f"{trained(preset)}, {kind(preset)}, {showings(plan)} {batches(preset)} = {steps_an_epoch(plan)}"
    return f"{what[0].upper()}{what[1:]}, {length(plan)}, {duration_words(forecast)}, {memory_words(forecast)}."


def trained(preset: Preset) -> str:
    """What of the model is trained: "UNet and both text encoders"."""
    adapter = preset.adapter
    encoders = [f"text encoder {number}" for number in (1, 2) if getattr(adapter, f"text_encoder_{number}")]
    blocks = adapter.blocks.replace("b_lora", "B-LoRA").replace("_", " ")
    unet = "UNet" if adapter.blocks == "all" else f"UNet ({blocks} only)"
    names = [unet] if adapter.unet else []
    return " and ".join([*names, "both text encoders"] if len(encoders) == 2 else [*names, *encoders])


def kind(preset: Preset) -> str:
    """The adapter's kind and rank: "rank 32", "LoKr, rank 32, conv rank 8"."""
    adapter = preset.adapter
    shown = [] if adapter.algorithm == "lora" else [SHOWN[adapter.algorithm]]
    if adapter.rank_from_file:
        return ", ".join([*shown, f"ranks of {Path(adapter.start_from).name}"])
    if adapter.algorithm not in RANKLESS:
        shown.append(f"rank {adapter.rank}" + (f", conv rank {adapter.conv_rank}" if adapter.conv_rank else ""))
    return ", ".join(shown)


def showings(plan: Plan) -> str:
    """What an epoch shows: "24 images × 80 repeats", "24 × 80 + 10 × 20 images + 1,920 regularization images"."""
    trained_ones = [item for item in plan.subsets if not item.is_regularization and item.images]
    others = sum(image.repeats for image in plan.images if image.is_regularization)
    total = sum(bucket.images for bucket in plan.buckets) - others
    alike = {item.repeats for item in trained_ones}
    exact = sum(item.images * item.repeats for item in trained_ones) == total
    if exact and len(alike) == 1:
        count = sum(item.images for item in trained_ones)
        text = _count(count, "image") + " × " + _count(next(iter(alike)), "repeat")
        text += f" in {len(trained_ones)} folders" if len(trained_ones) > 1 else ""
    elif exact and len(trained_ones) <= _MOST_SUBSETS:
        text = " + ".join(f"{item.images:,} × {item.repeats:,}" for item in trained_ones) + " images"
    else:
        count = sum(item.images for item in trained_ones)
        text = f"{_count(count, 'image')} in {_count(len(trained_ones), 'folder')}, {total:,} with repeats"
    return text + (f" + {_count(others, 'regularization image')}" if others else "")


def batches(preset: Preset) -> str:
    """What a step takes: "÷ batch 4", "÷ batch 4 × 2 accumulated × 2 GPUs"."""
    run = preset.run
    text = f"÷ batch {run.batch_size}"
    text += f" × {run.accumulation} accumulated" if run.accumulation > 1 else ""
    return text + (f" × {run.gpus} GPUs" if run.gpus > 1 else "")


def steps_an_epoch(plan: Plan) -> str:
    """Steps of an epoch; in several buckets, whose last batches may be short, there are more than a division gives."""
    text = _count(plan.steps_per_epoch, "step") + " an epoch"
    return f"{text} in {len(plan.buckets)} buckets" if len(plan.buckets) > 1 else text


def length(plan: Plan) -> str:
    """How long the run is: "10 epochs", "1,600 steps (3.3 epochs)"."""
    if plan.decided_by == "epochs":
        return _count(plan.epochs, "epoch")
    return f"{_count(plan.steps, 'step')} ({plan.steps / plan.steps_per_epoch:.3g} epochs)"


def duration_words(forecast: Forecast) -> str:
    """How long it takes: "about 52 min", "about 2 h 5 min by a run like it", "time not measured yet"."""
    if forecast.time.seconds is None:
        return "time not measured yet"
    words = f"about {span(forecast.time.seconds)}"
    return words if forecast.time.certainty == "measured" else f"{words} by a run like it"


def memory_words(forecast: Forecast) -> str:
    """What it takes of the card: "9.8 of 12 GB", "about 9.8 GB of GPU memory", "on the processor"."""
    if not forecast.on_gpu:
        return "on the processor"
    if not forecast.memory_bytes:
        return "memory not known"
    needed = f"{forecast.memory_bytes / GIB:.1f}"
    if not forecast.card_bytes:
        return f"about {needed} GB of GPU memory"
    text = f"{needed} of {card_gb(forecast.card_bytes)} GB"
    return text if forecast.fits else f"{text}: too much for this card"


def card_gb(memory_bytes: float) -> str:
    """A card's memory as its maker writes it: drivers keep a little back of 12 GB."""
    return f"{memory_bytes / GIB + 0.2:.0f}"


def span(seconds: float) -> str:
    """A forecast time, no finer than it is sure: "40 s", "52 min", "2 h 5 min", "3 d 4 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s" if seconds < 10 else f"{round(seconds / 5) * 5} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h" + (f" {rest} min" if rest else "")
    days, rest = divmod(round(minutes / 60), 24)
    return f"{days} d" + (f" {rest} h" if rest else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
