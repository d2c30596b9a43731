"""A forecast in words, for the terminal and the page. Pure; torch-free."""

from __future__ import annotations

from datetime import datetime

from engine.fit import Change, Fit
from engine.forecast import USABLE, Forecast, TimeForecast
from engine.measured import Measured
from engine.pace import Conditions
from engine.plan import Plan
from engine.plan_sizes import count_text, size_text
from engine.preset import Preset
from engine.sentence import GIB, batches, card_gb, memory_words, showings, span

# What differs between two runs, as people call it
CALLED = {
    "precision": "precision", "unet_storage": "UNet stored in", "text_storage": "text encoders stored in",
    "parts": "trained parts", "algorithm": "kind of adapter", "rank": "rank", "conv_rank": "conv rank",
    "blocks": "trained blocks", "batch_size": "batch size", "accumulation": "accumulation", "gpus": "GPUs",
    "checkpointing": "gradient checkpointing", "optimizer": "optimizer", "adapter_precision": "adapter precision",
    "ema": "average of the weights", "cached_text": "cached text", "cached_latents": "cached latents",
    "tokens": "caption length", "threads": "threads",
}  # fmt: skip


def beside(plan: Plan, forecast: Forecast) -> str:
    """What the sentence leaves out, in one line: parameters, files to come, disk, and how sure the time is."""
    disk = size_text(sum(room.needed_bytes for room in forecast.disk))
    files = f"{_count(plan.checkpoints, 'checkpoint')} and {_count(plan.samples, 'sample')} to come"
    how = f" Time: {how_sure(forecast.time)}." if plan.steps else ""
    return f"{count_text(plan.adapter_parameters)} parameters; {files}; about {disk} of disk.{how}"


def rows(preset: Preset, plan: Plan, forecast: Forecast) -> list[tuple[str, str]]:
    """The whole forecast as (what, words)."""
    width, height = forecast.largest_bucket_px
    found = [
        ("Images", showings(plan) + (f", {len(plan.validation):,} more to validate on" if plan.validation else "")),
        ("Buckets", f"{forecast.buckets:,}, the largest {width} × {height}"),
        ("Steps", f"{batches(preset)[2:]}: {forecast.steps_per_epoch:,} an epoch, {forecast.steps:,} in all"),
        ("To come", f"{_count(plan.checkpoints, 'checkpoint')} and {_count(plan.samples, 'sample picture')}"),
        ("Disk", _disk(plan, forecast)),
        ("Time", _time(forecast.time)),
        ("Memory", _memory(plan, forecast)),
    ]
    return [*found, ("Note", forecast.fault)] if forecast.fault else found


def how_sure(time: TimeForecast) -> str:
    """Where a forecast of time comes from."""
    if time.basis is None:
        return "no run like it measured on this machine yet"
    if time.certainty == "measured":
        return f"measured here on {_day(time.basis)}"
    return f"scaled from a run of {_day(time.basis)}"


def fit_lines(fit: Fit) -> list[str]:
    """What makes a run fit, a line each."""
    limit = f"{card_gb(fit.limit_bytes / USABLE)} GB"
    if not fit.changes:
        before = f"about {_gb(fit.before_bytes)} of {limit}"
        return [f"It fits as it is: {before}." if fit.fits else f"It does not fit ({before}), and nothing here helps."]
    lines = [f"It takes about {_gb(fit.before_bytes)}, and {limit} are there. The cheapest changes:"]
    lines += [f"- {change_words(change)}" for change in fit.changes]
    after = f"{_gb(fit.after_bytes)}, {slower_words(fit.slower)}"
    return [*lines, f"Then it takes about {after}." if fit.fits else f"Even then it takes about {after}: too much."]


def change_words(change: Change) -> str:
    """A change with its price: "gradient checkpointing (… = True): saves 5.5 GB; about 42 % slower"."""
    values = ", ".join(f"{path} = {_value(value)}" for path, value in change.values.items())
    price = slower_words(change.slower) + (f"; {change.costs}" if change.costs else "")
    saves = _gb(change.saves_bytes) if change.saves_bytes > 0.05 * GIB else f"{change.saves_bytes / 2**20:.0f} MB"
    return f"{change.name} ({values}): saves {saves}; {price}"


def slower_words(slower: float) -> str:
    """A factor of time in words: "about 42 % slower", "no slower", "about 40 % faster"."""
    if abs(slower - 1) < 0.015:
        return "no slower"
    share = f"{100 * abs(slower - 1):.0f} %"
    return f"about {share} slower" if slower > 1 else f"about {share} less time"


def _value(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else f"{value}"


def measured_words(row: Measured) -> str:
    """What a measurement found."""
    width, height, seconds = row.sizes[0] if row.sizes else (0, 0, 0.0)
    memory = f", and {_gb(row.memory_bytes)} of memory were taken"
    return f"A step takes {seconds:.3g} s at {width} × {height}{memory}. Forecasts use it from now on."


def unlike(basis: Conditions, present: Conditions) -> list[str]:
    """In what two conditions differ, in words."""
    return [words for name, words in CALLED.items() if getattr(basis, name) != getattr(present, name)]


def _time(time: TimeForecast) -> str:
    if time.seconds is None or time.step_seconds is None:
        return f"{how_sure(time)[0].upper()}{how_sure(time)[1:]}"
    pace = f"{time.step_seconds:.2g} s" if time.step_seconds < 10 else f"{time.step_seconds:.0f} s"
    samples = f", {span(time.sample_seconds)} of it for samples" if time.sample_seconds >= 1 else ""
    return f"about {span(time.seconds)} at {pace} a step{samples}, without loading and caching; {how_sure(time)}"


def _memory(plan: Plan, forecast: Forecast) -> str:
    if not forecast.on_gpu:
        return f"on the processor ({forecast.device})"
    if not forecast.memory_bytes:
        return "not known"
    parts = plan.memory
    taken = (
        f"model {_gb(parts.weights_bytes)}, adapter and optimizer {_gb(parts.adapter_bytes)}, "
        f"pictures {_gb(parts.activations_bytes)}, the rest CUDA's own"
    )
    sure = {"measured": "as measured here", "scaled": "corrected by a run here", "unknown": "by estimate"}
    card = f" on {forecast.device}" if forecast.device else ""
    free = ""
    if forecast.fits and forecast.card_free_bytes < forecast.memory_bytes:
        free = f". Only {_gb(forecast.card_free_bytes)} of {card_gb(forecast.card_bytes)} GB are free now"
    return f"{memory_words(forecast)}{card} ({taken}; {sure[forecast.memory_certainty]}){free}"


def _disk(plan: Plan, forecast: Forecast) -> str:
    disk = plan.disk
    named = (
        (disk.checkpoints_bytes, "checkpoints"), (disk.states_bytes, "states"),
        (disk.latents_bytes, "cached latents"), (disk.text_bytes, "cached text"),
    )  # fmt: skip
    what = ", ".join(f"{name} {size_text(size)}" for size, name in named if size)
    rooms = "; ".join(
        f"{size_text(room.needed_bytes)} of {size_text(room.free_bytes)} free in {room.folder}"
        for room in forecast.disk
    )
    return f"{rooms} ({what})" if what else rooms


def _day(row: Measured) -> str:
    try:
        return datetime.fromisoformat(row.time).astimezone().strftime("%d %b %Y").lstrip("0")
    except ValueError:
        return "an unknown day"


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / GIB:.1f} GB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
