"""A preset as a kohya_ss file. What that program cannot express is found by reading the file back, never guessed.

So nothing can be dropped in silence: each setting either comes back with its value, or is in `lost` with the value
that it has there.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.kohya import export_optimizer, export_rules
from engine.kohya.export_rules import WRITTEN, Sheet
from engine.kohya.reading import read_source
from engine.kohya.sources import Source
from engine.kohya.values import ARGUMENTS, PRESET_KEYS, documented
from engine.optimizer_arguments import ARGUMENTS as ARGUMENTS_OF
from engine.optimizer_arguments import arguments_of
from engine.preset import BY_PATH, SETTINGS, Preset
from engine.schedules import read_points
from engine.settings import Setting

RULES = (*export_rules.RULES, export_optimizer.optimizer, export_optimizer.schedule)
_OF_OPTIMIZER = ("optimizer.weight_decay", "optimizer.beta1", "optimizer.beta2", "optimizer.epsilon", "optimizer.extra")
# Lists of numbers: how they are written does not matter
_NUMBERS = ("block_ranks", "block_alphas", "conv_block_ranks", "conv_block_alphas", "block_rates")
_PATHS = ("model.base", "model.vae", "data.folder", "data.regularization_folder", "run.folder")
_KIND = "it does not look into the model; this is what the file says, or the usual kind where there is none"
_NOTES = {
    "captions.trigger": "write it into the captions, or into the folder's name",
    "adapter.text_encoder_stop": "kohya_ss counts in percent of the run",
    "adapter.text_encoder_1": "both text encoders are trained there, or none",
    "adapter.text_encoder_2": "both text encoders are trained there, or none",
    "optimizer.text_encoder_2_rate": "one rate for both text encoders there",
    "optimizer.name": "its form does not offer it: choose the learning rates anew",
    "optimizer.schedule": "its form does not offer it",
    "model.prediction": _KIND,
    "model.zero_terminal_snr": _KIND,
    "memory.unet_storage": "fp8_base is all that it has",
    "memory.text_encoder_storage": "fp8_base is all that it has",
    "adapter.dora_norm": "DoRA has magnitudes for outputs there",
    "adapter.algorithm": "its form does not offer it",
    "run.seed": "0 means a new seed each time there",
}
_STOP = "The end of the text encoders' training is written, but kohya_ss's LoRA trainer passes it over."
_SAMPLES = "Sample prompts without switches of their own are drawn in kohya_ss's sizes: 512 px, 30 steps, CFG 7.5."
_RELATIVE = "Relative paths start at Atelier's folder here and at kohya_ss's folder there: {}."


@dataclass(frozen=True)
class Lost:
    """A setting that does not come back: its value here, the one that it has there, and why."""

    setting: str
    value: Any
    there: Any
    note: str


@dataclass(frozen=True)
class Export:
    """The file's content, what it cannot express, and what to know besides."""

    content: dict[str, Any]
    lost: tuple[Lost, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the content."""
        return {"keys": len(self.content), "lost": [asdict(item) for item in self.lost], "notes": list(self.notes)}

    def text(self) -> str:
        """What to know, to read."""
        parts = [f"{len(self.content)} keys of a kohya_ss LoRA preset."]
        if self.lost:
            parts.append(f"\nNot expressible there: {len(self.lost)}")
        for item in self.lost:
            why = f" ({item.note})" if item.note else ""
            parts.append(f"  {item.setting} = {item.value} → {item.there}{why}")
        return "\n".join([*parts, *(f"\nNote: {note}" for note in self.notes)])


def export(preset: Preset) -> Export:
    """The preset as kohya_ss saves one: every key is in it, so that its form keeps nothing from before."""
    sheet = Sheet({name: fact.default for name, fact in PRESET_KEYS.items() if fact.family != "legacy"})
    sheet.keys["sdxl"] = True
    for item in SETTINGS:
        if item.path not in WRITTEN and _is_on(item, preset):
            _by_name(item, preset.get(item.path), sheet)
    for rule in RULES:
        rule(preset, sheet)
    content = {**sheet.keys, "additional_parameters": _command_line(sheet.options)}
    return Export(content, tuple(_lost(preset, content)), tuple(_notes(preset)))


def _is_on(item: Setting, preset: Preset) -> bool:
    return all(preset.get(path) == wanted for path, wanted in item.when)


def _by_name(item: Setting, value: Any, sheet: Sheet) -> None:
    """Under its name in the form, else as an option where it is not at its default."""
    if item.kohya in PRESET_KEYS:
        sheet.keys[item.kohya] = value
    elif item.sd_scripts in ARGUMENTS and value not in (item.default, documented(ARGUMENTS[item.sd_scripts])):
        sheet.options[item.sd_scripts] = value


def _command_line(options: dict[str, Any]) -> str:
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, list):
            words += [f"--{name}", *(shlex.quote(str(part)) for part in value)]
        else:
            words.append(f"--{name}" if value is True else shlex.quote(f"--{name}={value}"))
    return " ".join(words)


def _lost(preset: Preset, content: dict[str, Any]) -> Iterator[Lost]:
    """The settings whose value does not come back when the file is read."""
    found = read_source(Source("preset", content, Path("export.json")))
    there = {item.path: item.default for item in SETTINGS} | found.settings
    same_optimizer = found.preset is not None and _same_optimizer(preset, found.preset)
    for item in SETTINGS:
        here, value = preset.get(item.path), there[item.path]
        if same_optimizer and item.path in _OF_OPTIMIZER:
            continue
        if not _same(item, here, value):
            note = _NOTES.get(item.path, "" if item.kohya or item.sd_scripts else "kohya_ss has nothing like it")
            if not _is_on(item, preset):
                note = f"without effect here: {' and '.join(BY_PATH[path].label for path, _ in item.when)} rules it out"
            yield Lost(item.path, here, value, note)
    for name in ("about", "author"):
        if text := getattr(preset, name):
            yield Lost(name, text, "", "a kohya_ss preset holds no note about itself")


def _same(item: Setting, one: Any, other: Any) -> bool:
    """Whether two values mean the same: numbers but for rounding, lists of numbers however they are written."""
    if item.type is float:
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if one == other or item.type is not str:
        return one == other
    if item.name in _NUMBERS:
        return _floats(one) == _floats(other)
    if item.path == "optimizer.points":
        return _points(one) == _points(other)
    if item.path == "model.merged_adapters":
        return _merges(one) == _merges(other)
    return False


def _same_optimizer(preset: Preset, other: Preset) -> bool:
    """Whether both optimizers get the same arguments, wherever they are written."""
    if preset.optimizer.name != other.optimizer.name:
        return False
    try:
        own = {name: default for name, (_, default) in ARGUMENTS_OF[preset.optimizer.name].items()}
        one, two = ({**own, **arguments_of(one.optimizer)} for one in (preset, other))
        return all(_plain(one.get(name)) == _plain(two.get(name)) for name in {*one, *two})
    except UserError:
        return False


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _floats(text: str) -> list[float] | str:
    try:
        return [round(float(word), 9) for word in text.replace(",", " ").split()]
    except ValueError:
        return text


def _points(text: str) -> tuple[tuple[int, float], ...] | str:
    try:
        found = read_points(text, 100)
    except UserError:
        return text
    return found[1:] if found[:1] == ((0, 1.0),) else found


def _merges(text: str) -> list[tuple[str, float]] | str:
    pairs = [line.strip().rpartition(":") for line in text.splitlines() if line.strip()]
    try:
        return [(path.strip(), float(strength)) if path else (strength, 1.0) for path, _, strength in pairs]
    except ValueError:
        return text


def _notes(preset: Preset) -> Iterator[str]:
    relative = [path for path in _PATHS if (text := preset.get(path)) and not Path(text).expanduser().is_absolute()]
    if relative:
        yield _RELATIVE.format(", ".join(BY_PATH[path].label for path in relative))
    if preset.adapter.text_encoder_stop:
        yield _STOP
    if preset.sample.prompts.strip():
        yield _SAMPLES
