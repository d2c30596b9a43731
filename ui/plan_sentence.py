"""What will be trained, in one sentence, in the language of the page. The English one is the engine's own."""

from __future__ import annotations

from engine import sentence as english
from engine.adapter_shapes import RANKLESS
from engine.forecast import Forecast
from engine.plan import Plan
from engine.preset import Preset
from engine.rules.families import SHOWN
from engine.sentence import GIB, card_gb
from ui.language import say, spoken
from ui.words import duration

# Finer than this a forecast is not sure
_SECONDS, _MINUTE, _HOUR, _DAY = 5, 60, 3600, 86400


def sentence(preset: Preset, plan: Plan, forecast: Forecast) -> str:
    """The whole of a run in one line."""
    if spoken() == "en":
        return english.sentence(preset, plan, forecast)
    return say(
        "{trained}, {kind}, {shown} ÷ {batch} = {steps} an epoch, {length}, {time}, {memory}.",
        trained=_trained(preset),
        kind=_kind(preset),
        shown=_shown(plan),
        batch=_batch(preset),
        steps=f"{plan.steps_per_epoch:,}",
        length=_length(plan),
        time=_time(forecast),
        memory=_memory(forecast),
    )


def _trained(preset: Preset) -> str:
    adapter = preset.adapter
    encoders = [number for number in (1, 2) if getattr(adapter, f"text_encoder_{number}")]
    parts = ["UNet"] if adapter.unet else []
    parts += [say("both text encoders")] if len(encoders) == 2 else [say(f"text encoder {at}") for at in encoders]
    blocks = "" if adapter.blocks == "all" or not adapter.unet else say(" ({blocks} only)", blocks=say(adapter.blocks))
    return say(" and ").join(parts) + blocks


def _kind(preset: Preset) -> str:
    adapter = preset.adapter
    parts = [] if adapter.algorithm == "lora" else [SHOWN[adapter.algorithm]]
    if adapter.rank_from_file:
        parts.append(say("ranks of the file"))
    elif adapter.algorithm not in RANKLESS:
        parts.append(say("rank {rank}", rank=adapter.rank))
        parts += [say("conv rank {rank}", rank=adapter.conv_rank)] if adapter.conv_rank else []
    return say(", ").join(parts)


def _shown(plan: Plan) -> str:
    """What an epoch shows: images with their repeats, and regularization images."""
    others = sum(image.repeats for image in plan.images if image.is_regularization)
    total = sum(bucket.images for bucket in plan.buckets) - others
    own = [item for item in plan.subsets if not item.is_regularization and item.images]
    images = sum(item.images for item in own)
    repeats = {item.repeats for item in own}
    if len(repeats) == 1 and images * next(iter(repeats)) == total:
        text = say("{images} images × {repeats} repeats", images=f"{images:,}", repeats=f"{next(iter(repeats)):,}")
    else:
        text = say("{images} images, {total} with repeats", images=f"{images:,}", total=f"{total:,}")
    return text + (say(" + {count} regularization images", count=f"{others:,}") if others else "")


def _batch(preset: Preset) -> str:
    run = preset.run
    text = say("batch {size}", size=run.batch_size)
    text += say(" × {count} accumulated", count=run.accumulation) if run.accumulation > 1 else ""
    return text + (say(" × {count} GPUs", count=run.gpus) if run.gpus > 1 else "")


def _length(plan: Plan) -> str:
    if plan.decided_by == "epochs":
        return say("{epochs} epochs", epochs=f"{plan.epochs:,}")
    epochs = f"{plan.steps / plan.steps_per_epoch:.3g}"
    return say("{steps} steps ({epochs} epochs)", steps=f"{plan.steps:,}", epochs=epochs)


def takes(forecast: Forecast) -> str:
    """Time and memory alone: "about 52 min, 9.8 of 12 GB"."""
    return say("{time}, {memory}", time=_time(forecast), memory=_memory(forecast))


def _time(forecast: Forecast) -> str:
    seconds = forecast.time.seconds
    if seconds is None:
        return say("time not measured yet")
    unit = _SECONDS if seconds < 90 else _MINUTE if seconds < _DAY else _HOUR
    time = duration(max(1, round(seconds / unit) * unit))
    if forecast.time.certainty == "measured":
        return say("about {time}", time=time)
    return say("about {time} by a run like it", time=time)


def _memory(forecast: Forecast) -> str:
    if not forecast.on_gpu:
        return say("on the processor")
    if not forecast.memory_bytes:
        return say("memory not known")
    needed = f"{forecast.memory_bytes / GIB:.1f}"
    if not forecast.card_bytes:
        return say("about {size} GB of GPU memory", size=needed)
    text = say("{size} of {card} GB", size=needed, card=card_gb(forecast.card_bytes))
    return text if forecast.fits else text + say(": too much for this card")
