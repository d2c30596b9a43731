"""Make it fit: the cheapest changes of a preset with which a run fits into so much memory. Pure; torch-free.

Every remedy has a price: what it costs in exactness, by the order of REMEDIES, plus the logarithm of how much longer
the run takes. All combinations are gone through in the order of their price; the first that fits is the answer.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import PresetError
from engine.forecast import CUDA_BYTES
from engine.optimizer_kinds import OPTIMIZERS
from engine.pace import conditions_of, image_tflop, slowness
from engine.plan import Plan
from engine.plan_memory import forecast_memory
from engine.plan_sizes import adapter_parameters
from engine.preset import Preset

Values = Mapping[str, Any]
SMALLER_BATCH_SLOWER = 1.05  # an assumption: halving the batch leaves a GPU a little less busy
_LEAST_AREA_PX = 512 * 512
_MOST_TRIED = 20_000


@dataclass(frozen=True)
class Remedy:
    """A way to take less memory. `ways`: its alternatives for a preset, the mildest first, each with the price in
    exactness; none where it does not apply. costs: what is lost, in words; "" for time alone."""

    name: str
    costs: str
    ways: Callable[[Preset], Sequence[tuple[Values, float]]]
    slower: float = 1.0


@dataclass(frozen=True)
class Change:
    """A remedy that was chosen: new values of settings, bytes spared, how many times as long a run takes with it."""

    name: str
    values: Values
    saves_bytes: int
    slower: float
    costs: str


@dataclass(frozen=True)
class Fit:
    """What makes a preset fit; no changes where it fits as it is. `fits` is False where all of them do not suffice."""

    limit_bytes: int
    before_bytes: int
    after_bytes: int
    changes: tuple[Change, ...]
    fits: bool

    @property
    def slower(self) -> float:
        return math.prod(change.slower for change in self.changes)

    @property
    def values(self) -> dict[str, Any]:
        return {path: value for change in self.changes for path, value in change.values.items()}


def fit(preset: Preset, plan: Plan, limit_bytes: int, correction: float = 1.0) -> Fit:
    """The cheapest changes with which a run of this plan takes at most `limit_bytes` of GPU memory.

    correction: of the estimate, from runs that were measured (`Forecast.memory_correction`). A plan whose memory is
    not known (no model, no pictures) gives a Fit that does not fit, of 0 bytes.
    """
    memory = _Memory(preset, plan, correction)
    before = memory.of({})
    if not plan.memory.total_bytes or before <= limit_bytes:
        return Fit(limit_bytes, before, before, (), bool(plan.memory.total_bytes))
    choices = list(_choices(preset, plan))
    everything = [choice.ways[-1] for choice in choices]
    if memory.of(_merged(everything)) <= limit_bytes:
        for chosen in _by_price(choices):
            if memory.of(_merged(chosen)) <= limit_bytes and _is_sound(preset, _merged(chosen)):
                return _result(memory, plan, chosen, limit_bytes)
    return _result(memory, plan, _needed(memory, everything, limit_bytes), limit_bytes)


@dataclass(frozen=True)
class _Way:
    remedy: Remedy
    values: Values
    slower: float
    price: float


@dataclass(frozen=True)
class _Choice:
    ways: tuple[_Way, ...]


def _choices(preset: Preset, plan: Plan) -> Iterator[_Choice]:
    """The remedies that apply, each way with its price; what a rule forbids by itself is left out."""
    for remedy in REMEDIES:
        ways = []
        for values, price in remedy.ways(preset):
            if _is_sound(preset, values):
                slower = remedy.slower * _work(preset, plan, values) / _work(preset, plan, {})
                ways.append(_Way(remedy, values, slower, max(0.001, price + math.log(slower))))
        if ways:
            yield _Choice(tuple(sorted(ways, key=lambda way: way.price)))


def _by_price(choices: Sequence[_Choice]) -> Iterator[list[_Way]]:
    """All combinations of one way or none of each choice, the cheapest first."""
    steps = [[0.0, *(way.price for way in choice.ways)] for choice in choices]
    start = tuple(0 for _ in choices)
    waiting = [(0.0, start)]
    seen = {start}
    while waiting and len(seen) < _MOST_TRIED:
        price, places = heapq.heappop(waiting)
        yield [choice.ways[place - 1] for choice, place in zip(choices, places, strict=True) if place]
        for at, place in enumerate(places):
            if place + 1 < len(steps[at]):
                following = (*places[:at], place + 1, *places[at + 1 :])
                if following not in seen:
                    seen.add(following)
                    heapq.heappush(waiting, (price + steps[at][place + 1] - steps[at][place], following))


def _merged(chosen: Sequence[_Way]) -> dict[str, Any]:
    return {path: value for way in chosen for path, value in way.values.items()}


def _is_sound(preset: Preset, values: Values) -> bool:
    try:
        preset.changed(values)
    except PresetError:
        return False
    return True


def _needed(memory: _Memory, chosen: list[_Way], limit_bytes: int) -> list[_Way]:
    """Of everything at once, without the dearest that is not needed to fit, and without what rules forbid together."""
    for way in sorted(chosen, key=lambda way: -way.price):
        fewer = [other for other in chosen if other is not way]
        if memory.of(_merged(fewer)) <= limit_bytes or not _is_sound(memory.preset, _merged(chosen)):
            chosen = fewer
    return chosen


def _result(memory: _Memory, plan: Plan, chosen: Sequence[_Way], limit_bytes: int) -> Fit:
    before = present = memory.of({})
    values: dict[str, Any] = {}
    changes, work = [], _work(memory.preset, plan, {})
    for way in chosen:
        values |= way.values
        after, work_after = memory.of(values), _work(memory.preset, plan, values)
        slower = way.remedy.slower * work_after / work
        changes.append(Change(way.remedy.name, dict(way.values), present - after, slower, way.remedy.costs))
        present, work = after, work_after
    fits = present <= limit_bytes and _is_sound(memory.preset, values)
    return Fit(limit_bytes, before, present, tuple(changes), fits)


# What each part of the memory depends on, of what remedies change
_WEIGHTS = (
    "memory.precision", "memory.unet_storage", "memory.text_encoder_storage", "captions.cache_text",
    "data.cache_latents",
)  # fmt: skip
_ADAPTER = (
    "adapter.rank", "adapter.conv_rank", "adapter.text_encoder_1", "adapter.text_encoder_2", "memory.precision",
    "memory.adapter_precision", "optimizer.name", "run.ema_device",
)  # fmt: skip
_ACTIVATIONS = (
    "memory.precision", "memory.gradient_checkpointing", "run.batch_size", "adapter.rank", "adapter.conv_rank",
    "data.width_px", "data.height_px",
)  # fmt: skip


class _Memory:
    """Bytes of a run with other values. Each part is counted once for the same values of what it depends on."""

    def __init__(self, preset: Preset, plan: Plan, correction: float) -> None:
        self.preset, self.plan, self.correction = preset, plan, correction
        self._counted: dict[tuple[Any, ...], int] = {}

    def of(self, values: Values) -> int:
        """All that the GPU holds, with what CUDA itself takes."""
        total = sum(self._part(paths, values) for paths in (_WEIGHTS, _ADAPTER, _ACTIVATIONS))
        return round(total * self.correction) + CUDA_BYTES

    def _part(self, paths: tuple[str, ...], values: Values) -> int:
        key = (paths, *(values.get(path) for path in paths))
        if key not in self._counted:
            self._counted[key] = self._count(paths, _copied(self.preset, values))
        return self._counted[key]

    def _count(self, paths: tuple[str, ...], changed: Preset) -> int:
        model = self.plan.model
        assert model is not None
        parameters = adapter_parameters(model.config, changed) if paths is _ADAPTER else 0
        found = forecast_memory(changed, model, parameters, self.plan.images)
        if paths is _WEIGHTS:
            return found.weights_bytes
        if paths is _ADAPTER:
            return found.adapter_bytes
        return round(found.activations_bytes * _area_ratio(self.preset, changed))


def _copied(preset: Preset, values: Values) -> Preset:
    """The preset with other values, unchecked: what is tried by the hundred is checked when it is chosen."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        section, name = path.split(".")
        sections.setdefault(section, {})[name] = value
    changed = {section: getattr(preset, section).model_copy(update=these) for section, these in sections.items()}
    return preset.model_copy(update=changed)


def _area_ratio(preset: Preset, changed: Preset) -> float:
    """How the buckets shrink with the resolution."""
    area = changed.data.width_px * changed.data.height_px
    return area / (preset.data.width_px * preset.data.height_px)


def _work(preset: Preset, plan: Plan, values: Values) -> float:
    """How long a picture takes with these values, beside other values, by its work."""
    assert plan.model is not None
    size = max((image.bucket_px for image in plan.images), key=lambda px: px[0] * px[1])
    changed = _copied(preset, values)
    side = math.sqrt(_area_ratio(preset, changed))
    conditions = conditions_of(changed, plan.model, "", True)
    return image_tflop(conditions, (round(size[0] * side), round(size[1] * side))) * slowness(conditions)


_BF16 = 0.72  # the price of half precision, which is faster; more than the logarithm of that


def _narrow_adapter(preset: Preset) -> list[tuple[Values, float]]:
    if preset.memory.adapter_precision == "bf16":
        return []
    values = {"memory.adapter_precision": "bf16"}
    if preset.memory.precision == "fp32":
        return [({"memory.precision": "bf16", **values}, 0.6 + _BF16)]
    return [(values, 0.6)]


def _switch(path: str, value: Any, price: float, applies: Callable[[Preset], bool]):
    """The ways of a remedy that is one setting with one new value."""
    return lambda preset: [({path: value}, price)] if applies(preset) and preset.get(path) != value else []


def _smaller_batches(preset: Preset) -> list[tuple[Values, float]]:
    """Half, a quarter … of the batch, added up: the same step."""
    run, ways, parts = preset.run, [], 2
    while run.batch_size % parts == 0:
        price = 0.02 + (math.log2(parts) - 1) * math.log(SMALLER_BATCH_SLOWER)
        ways.append(({"run.batch_size": run.batch_size // parts, "run.accumulation": run.accumulation * parts}, price))
        parts *= 2
    if run.batch_size > parts // 2:  # no power of two: one by one is the last way
        ways.append(({"run.batch_size": 1, "run.accumulation": run.accumulation * run.batch_size}, 0.3))
    return ways


def _narrow_optimizer(preset: Preset) -> list[tuple[Values, float]]:
    name = f"{preset.optimizer.name}_8bit"
    return [({"optimizer.name": name}, 0.2)] if name in OPTIMIZERS else []


def _packed_unet(preset: Preset) -> list[tuple[Values, float]]:
    """In 8 or 4 bits; computed with in half precision, as it must be then."""
    if preset.memory.precision == "fp32":
        narrow = {"memory.precision": "bf16"}
        return [
            ({**narrow, "memory.unet_storage": kind}, price + _BF16) for kind, price in (("int8", 0.3), ("nf4", 1.2))
        ]
    milder = [("int8", 0.3), ("nf4", 1.2)] if preset.memory.unet_storage == "same" else [("nf4", 0.9)]
    return [({"memory.unet_storage": kind}, price) for kind, price in milder if preset.memory.unet_storage != "nf4"]


def _without_encoders(preset: Preset) -> list[tuple[Values, float]]:
    adapter = preset.adapter
    if not adapter.unet or not (adapter.text_encoder_1 or adapter.text_encoder_2):
        return []
    values: dict[str, Any] = {"adapter.text_encoder_1": False, "adapter.text_encoder_2": False}
    values |= {"captions.cache_text": True, "memory.text_encoder_storage": "same"}
    return [({**values, "adapter.text_encoder_stop": type(adapter).model_fields["text_encoder_stop"].default}, 2.0)]


def _lower_ranks(preset: Preset) -> list[tuple[Values, float]]:
    """Half and a quarter of the rank, with alpha to match, so that the strength stays."""
    adapter = preset.adapter
    ways: list[tuple[Values, float]] = []
    for parts in (2, 4):
        if adapter.rank_from_file or adapter.rank // parts < 4:
            break
        values: dict[str, Any] = {"adapter.rank": adapter.rank // parts, "adapter.alpha": adapter.alpha / parts}
        if adapter.conv_rank:
            values["adapter.conv_rank"] = max(1, adapter.conv_rank // parts)
            values["adapter.conv_alpha"] = adapter.conv_alpha / parts
        ways.append((values, 1.5 * math.log2(parts)))
    return ways


def _smaller_pictures(preset: Preset) -> list[tuple[Values, float]]:
    data, ways = preset.data, []
    for share in (0.75, 0.5):
        width, height = (max(64, round(side * share / 64) * 64) for side in (data.width_px, data.height_px))
        if width * height >= _LEAST_AREA_PX and (width, height) != (data.width_px, data.height_px):
            ways.append(({"data.width_px": width, "data.height_px": height}, 4.0 if share == 0.75 else 8.0))
    return ways


# In the order in which they are told; the prices decide what is chosen
REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "text features cached", "",
        _switch("captions.cache_text", True, 0.001, lambda preset: not (
            preset.adapter.text_encoder_1 or preset.adapter.text_encoder_2
        )),
    ),
    Remedy("latents cached", "", _switch("data.cache_latents", True, 0.001, lambda preset: True)),
    Remedy(
        "bf16 instead of fp32", "results differ in the last digits",
        _switch("memory.precision", "bf16", _BF16, lambda preset: preset.memory.precision == "fp32"),
    ),
    Remedy(
        "average of the weights in main memory", "",
        _switch("run.ema_device", "cpu", 0.02, lambda preset: preset.run.ema_decay > 0), slower=1.02,
    ),
    Remedy("gradient checkpointing", "", _switch("memory.gradient_checkpointing", True, 0.0, lambda preset: True)),
    Remedy("smaller batches, added up to the same step", "", _smaller_batches, slower=SMALLER_BATCH_SLOWER),
    Remedy("8-bit optimizer", "its memory is a little coarser", _narrow_optimizer),
    Remedy("UNet stored in fewer bits", "weights are rounded: int8 by 0.8 %, nf4 by 9 %", _packed_unet),
    Remedy(
        "text encoders stored in int8", "their weights are rounded by 0.8 %",
        _switch("memory.text_encoder_storage", "int8", 0.3, lambda preset: (
            not preset.captions.cache_text and preset.memory.text_encoder_storage == "same"
        )),
    ),
    Remedy(
        "adapter in bf16", "updates are rounded by chance: right on average, noisier",
        _narrow_adapter,
    ),
    Remedy("lower rank", "the LoRA holds less", _lower_ranks),
    Remedy("UNet alone", "the text encoders are not trained", _without_encoders),
    Remedy("smaller pictures", "fewer details are learned", _smaller_pictures),
)  # fmt: skip
