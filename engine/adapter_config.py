"""Ranks and alphas as peft and diffusers write them beside a LoRA's tensors, both directions. Torch-free.

peft: `adapter_config.json`; diffusers: the metadata entry `lora_adapter_metadata`, the same with "unet.", … before each
name. `alpha_pattern` gives the alpha of layers whose path fits one of its patterns; the scale is alpha / rank, or
alpha / √rank with `use_rslora`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.adapter_names import FOLDERS
from engine.errors import ModelError

METADATA_KEY = "lora_adapter_metadata"
Config = dict[str, Any]


@dataclass(frozen=True)
class LayerScale:
    """A layer of a part: its path in diffusers' module, rank, and alpha (the factor of ΔW is alpha / rank)."""

    path: str
    rank: int
    alpha: float


def read_configs(metadata: Mapping[str, str], where: str) -> dict[str, Config]:
    """{part: configuration} out of a diffusers file's metadata; {} without any. ModelError where it is none."""
    if METADATA_KEY not in metadata:
        return {}
    content = parse_config(metadata[METADATA_KEY], where)
    found: dict[str, Config] = {}
    for part, folder in FOLDERS.items():
        own = {name[len(folder) + 1 :]: value for name, value in content.items() if name.startswith(folder + ".")}
        if own:
            found[part] = own
    return found


def parse_config(text: str, where: str) -> Config:
    """A JSON object; ModelError where it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"has a LoRA configuration that cannot be read ({error}). Copy it again.", where) from error
    if not isinstance(content, dict):
        raise ModelError("has a LoRA configuration that is no JSON object. Copy it again.", where)
    return content


def alpha_in(config: Config, path: str, rank: int, where: str) -> float:
    """The alpha that readers divide by the rank. Without one it is the rank (peft and diffusers then scale by 1)."""
    alpha = _said(config, "alpha_pattern", path, config.get("lora_alpha", rank))
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise ModelError(f"gives the layer {path} an alpha that is no number (got {alpha!r}). Copy it again.", where)
    return float(alpha) * (math.sqrt(rank) if config.get("use_rslora") else 1)


def rank_in(config: Config, path: str) -> Any:
    """The rank that a configuration says of a layer, None where it says none."""
    return _said(config, "rank_pattern", path, config.get("r"))


def _said(config: Config, patterns: str, path: str, otherwise: Any) -> Any:
    """The value of the first pattern that fits."""
    found = config.get(patterns)
    fitting = (value for name, value in found.items() if _fits(name, path)) if isinstance(found, dict) else iter(())
    return next(fitting, otherwise)


def make_config(layers: Sequence[LayerScale], has_magnitudes: bool) -> Config:
    """A configuration that says ranks and alphas of these layers, the most frequent ones for all.

    Without the beginning "text_model.", which depends on the version of transformers: readers compare the ends.
    """
    layers = [replace(layer, path=layer.path.removeprefix("text_model.")) for layer in layers]
    rank = Counter(layer.rank for layer in layers).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in layers).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": _number(alpha),
        "rank_pattern": {layer.path: layer.rank for layer in layers if layer.rank != rank},
        "alpha_pattern": {layer.path: _number(layer.alpha) for layer in layers if layer.alpha != alpha},
        "target_modules": sorted({layer.path for layer in layers}),
        "use_dora": has_magnitudes,
    }


def write_configs(configs: Mapping[str, Config]) -> str:
    """The metadata entry of a diffusers file."""
    content = {f"{FOLDERS[part]}.{name}": value for part, config in configs.items() for name, value in config.items()}
    return json.dumps(content, indent=2, sort_keys=True)


def peft_config(config: Config) -> str:
    """The content of adapter_config.json."""
    about = {"peft_type": "LORA", "task_type": None, "bias": "none", "inference_mode": True, "lora_dropout": 0.0}
    return json.dumps({**about, **config}, indent=2, sort_keys=True)


def _fits(pattern: str, path: str) -> bool:
    """As peft matches: the whole path, or its end after a dot. A repeated group may take for ever."""
    if re.search(r"\)[*+{]", pattern):
        return pattern == path
    try:
        return re.fullmatch(rf"(.*\.)?({pattern})", path) is not None
    except re.error:
        return pattern == path


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
