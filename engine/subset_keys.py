"""What sd-scripts' keys of a data set say as settings: of a folder's own, or of the whole run. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from engine.kohya.inputs import RESAMPLINGS
from engine.kohya.values import ARGUMENTS, Unreadable, clean
from engine.preset import SETTINGS, Preset
from engine.subset_settings import OF_FOLDERS, OF_THE_RUN, SAME_IDEA

_BY_KEY = {item.sd_scripts: item for item in SETTINGS if item.sd_scripts in SAME_IDEA}
_WITHOUT_EFFECT = ("cache_info",)
_NOT_DONE = {"network_multiplier": 1, "face_crop_aug_range": None}  # and the value that changes nothing
KNOWN = (*OF_FOLDERS, *OF_THE_RUN, *_WITHOUT_EFFECT, *_NOT_DONE, "custom_attributes")
_WORK_ON_TAGS = ("captions.shuffle", "captions.tag_dropout", "captions.token_warmup")
NAMES = "\0"  # where the names of the folders go in a sentence


@dataclass
class Reading:
    """What is told of one folder: settings of its own, values that only a run has, and sentences about the rest."""

    values: dict[str, Any] = field(default_factory=dict)
    of_the_run: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def read(told: Mapping[str, Any], preset: Preset) -> Reading:
    """What one folder is told, against a preset. Sentences have NAMES where the folder is named."""
    reading = Reading()
    for key, raw in told.items():
        if key not in KNOWN:
            near = get_close_matches(key, KNOWN, 1)
            hint = f"Did you mean {near[0]}? Correct it" if near else "Correct its spelling"
            reading.faults.append(f"tells {key} for {NAMES}, and there is no such key. {hint}, or take it out.")
        elif key == "custom_attributes":
            if isinstance(raw, Mapping) and raw.get("diff_output_preservation"):
                what = f"keeps the general class by diff_output_preservation for {NAMES}, which Atelier does not do"
                reading.faults.append(f"{what}. Take it out, and use regularization folders.")
        elif key in _NOT_DONE:
            if raw not in (_NOT_DONE[key], None, [], ""):
                reading.faults.append(f"tells {key} = {raw} for {NAMES}, which Atelier does not do. Take it out.")
        elif key not in _WITHOUT_EFFECT:
            try:
                _take(reading, key, raw, preset)
            except Unreadable as error:
                reading.faults.append(f"tells {key} for {NAMES}, which needs {error} (got {raw!r}). Correct it.")
    reading.values.update(_idle(preset, reading.values))
    return reading


def _idle(preset: Preset, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that protect tags from what is not done in this folder: there they do nothing, and are no fault."""

    def is_on(path: str) -> bool:
        return bool(values.get(path, preset.get(path)))

    found: dict[str, Any] = {}
    if not any(map(is_on, _WORK_ON_TAGS)) and is_on("captions.keep_tokens"):
        found["captions.keep_tokens"] = 0
    if not is_on("captions.tag_dropout") and is_on("captions.never_dropped"):
        found["captions.never_dropped"] = ""
    return found


def _take(reading: Reading, key: str, raw: Any, preset: Preset) -> None:
    """One key's value, as settings of the folder or as what only a run has. Raises Unreadable."""
    if key == "resolution":
        reading.values.update(zip(("data.width_px", "data.height_px"), _sizes(raw), strict=True))
        return
    value = clean(raw, ARGUMENTS["train_batch_size" if key == "batch_size" else key])
    if key in OF_THE_RUN:
        reading.of_the_run[key] = value
    elif key == "bucket_no_upscale":
        reading.values["data.upscale_small_images"] = not value
    elif key == "enable_wildcard":
        reading.values["captions.wildcards"] = value
        if value or preset.captions.lines == "random":
            reading.values["captions.lines"] = "random" if value else "first"
    else:
        item = _BY_KEY[key]
        reading.values[item.path] = item.default if value is None else value


def _sizes(raw: Any) -> tuple[int, int]:
    """Width and height: 1024, "1024", "1024,768" or [1024, 768]. Raises Unreadable."""
    parts = raw if isinstance(raw, list) else re.split(r"[,xX×]", str(raw))
    try:
        sizes = [int(part) for part in parts]
    except (TypeError, ValueError):
        sizes = []
    if len(sizes) not in (1, 2):
        raise Unreadable("a size such as 1024 or [1024, 768]")
    return sizes[0], sizes[-1]


def differences(preset: Preset, readings: Sequence[tuple[str, Reading]]) -> list[str]:
    """A sentence for each key of which a run has one for all pictures, and another one than is told."""
    found = []
    for key, setting in OF_THE_RUN.items():
        told = [(name, reading.of_the_run[key]) for name, reading in readings if key in reading.of_the_run]
        wanted = [_wanted(key, value, preset) for _, value in told]
        differing = [pair for pair, value in zip(told, wanted, strict=True) if value != preset.get(setting)]
        if not differing:
            continue
        advice = f"Set {setting} to {shown(wanted[0])}, or take {key} out of the file."
        if len({*map(str, wanted)}) > 1 or len(told) < len(readings):
            advice = f"Take {key} out of the file."
        rows = [(f"tells {key} = {shown(value)} for {NAMES}", name) for name, value in differing]
        one = f"and a run has one for all pictures ({setting} is {shown(preset.get(setting))})"
        found += [f"{text}, {one}. {advice}" for text in together(rows)]
    return found


def _wanted(key: str, value: Any, preset: Preset) -> Any:
    """What the setting of a key should be; the setting's own value where the key asks for nothing."""
    now = preset.get(OF_THE_RUN[key])
    if key == "resize_interpolation":
        return RESAMPLINGS.get(value, value) or now
    if key == "validation_seed":
        return now if value is None or not preset.validation.share else value
    if key == "alpha_mask":
        return "alpha" if value else ("none" if now == "alpha" else now)
    if key == "conditioning_data_dir":
        return value or now
    return value


def together(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Texts with the names of the folders that they are about, in place of NAMES or behind."""
    names: dict[str, list[str]] = {}
    for text, name in rows:
        names.setdefault(text, []).append(name)
    return [
        text.replace(NAMES, _names(found)) if NAMES in text else f"{text} for {_names(found)}"
        for text, found in names.items()
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return repr(value) if isinstance(value, str) and not value.isalnum() else f"{value}"
