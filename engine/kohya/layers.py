"""Rules for where and how strongly an adapter is applied: blocks, LyCORIS' presets of layers, LoRA+.

The names are keys of kohya_ss presets, and network arguments of sd-scripts; both go through `layer_settings_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from engine.kohya.plain import unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.sdxl.layers import BLOCKS

RATES = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")
NUMBERS = {
    "block_dims": "adapter.block_ranks",
    "block_alphas": "adapter.block_alphas",
    "conv_block_dims": "adapter.conv_block_ranks",
    "conv_block_alphas": "adapter.conv_block_alphas",
}
RATIOS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
NAMES = (*RATES, *NUMBERS, *RATIOS)
PRESETS = {
    "full": "all",
    "attn-only": "attention",
    "attn-mlp": "attention_and_feed_forward",
    "unet-convblock-only": "residual_blocks",
}
_SIDE, _MIDDLE = 9, 3
# sd-scripts' named curves over the blocks of one side: share of the way (0 to 1) → weight
CURVES: dict[str, Callable[[float], float]] = {
    "sine": lambda share: math.sin(math.pi / 2 * share),
    "cosine": lambda share: math.cos(math.pi / 2 * share),
    "linear": lambda share: share,
    "reverse_linear": lambda share: 1 - share,
    "zeros": lambda share: 0.0,
}


def layer_settings_of(given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Settings from texts by their names there, and the names whose text cannot be read."""
    settings: dict[str, Any] = {}
    lost: list[str] = []
    rates = {name: str(given[name]).strip() for name in RATES if str(given.get(name) or "").strip()}
    if rates.keys() - {"block_lr_zero_threshold"}:
        text = block_rates(rates)
        if text is None:
            lost += rates
        else:
            settings["adapter.block_rates"] = text
    for name, path in NUMBERS.items():
        numbers = _floats(str(given.get(name) or ""))
        if numbers is None or len(numbers) not in (0, 1, BLOCKS) or any(not 0 <= number < 1e6 for number in numbers):
            lost.append(name)
        elif numbers:
            settings[path] = _listed(numbers)
    both, unet, text = (_floats(str(given.get(name) or "0")) for name in RATIOS)
    for name, own, path in (
        (RATIOS[1], unet, "adapter.loraplus_unet_ratio"),
        (RATIOS[2], text, "adapter.loraplus_text_ratio"),
    ):
        ratio = (own or [0])[0] or (both or [0])[0]
        if own is None or both is None or not 0 <= ratio <= 1024:
            lost.append(name)
        elif ratio:
            settings[path] = ratio
    return settings, lost


def block_rates(given: Mapping[str, str]) -> str | None:
    """The 23 factors that the weights of down, middle and up make, as text; None where one cannot be read.

    One number counts for all blocks of its side (sd-scripts crashes there); weights that are not given are 1, and those
    up to the threshold 0, as there.
    """
    sides = (("down_lr_weight", _SIDE), ("mid_lr_weight", _MIDDLE), ("up_lr_weight", _SIDE))
    weights = [_side(given.get(name, ""), length) for name, length in sides]
    threshold = _floats(given.get("block_lr_zero_threshold", "") or "0")
    if threshold is None or len(threshold) != 1 or any(side is None for side in weights):
        return None
    inner = [weight if weight > threshold[0] else 0.0 for side in weights for weight in side or ()]
    return _listed([1.0, *inner, 1.0]) if all(0 <= weight < 1e6 for weight in inner) else None


def _side(text: str, length: int) -> list[float] | None:
    """The weights of one side: a list (filled up with 1, cut where too long), one number, or a curve like sine+0.25."""
    name, _, offset = text.strip().partition("+")
    if name in CURVES:
        base = _floats(offset or "0")
        steps = max(length - 1, 1)
        return None if base is None else [CURVES[name](place / steps) + base[0] for place in range(length)]
    numbers = _floats(text)
    if numbers is None:
        return None
    return numbers * length if len(numbers) == 1 else (numbers + [1.0] * length)[:length]


def _floats(text: str) -> list[float] | None:
    try:
        found = [float(word) for word in text.strip(" []()").replace(",", " ").split()]
    except ValueError:
        return None
    return found if all(math.isfinite(number) for number in found) else None


def _listed(numbers: list[float]) -> str:
    return ", ".join(f"{number:.9g}" for number in numbers)


def layer_key(values: Values, key: str) -> Outcome:
    """One of `NAMES` in a kohya_ss preset: all of them are read together."""
    given = {name: str(values[name]) for name in NAMES if values[name]}
    if key in (*RATES, *NUMBERS) and str(values["LoRA_type"]).lower() not in ("standard", "kohya locon"):
        return unused(values, key, {}, f"{values['LoRA_type']} has no block weights")
    if key in NUMBERS and key.startswith("conv") and not (values["conv_dim"] or values["conv_block_dims"]):
        return unused(values, key, {}, "no convolutions are trained")
    if key not in given:
        return Outcome("ignored_default")
    settings, lost = layer_settings_of(given)
    if key in lost:
        return Outcome("ignored_effect", note=f"cannot be read as numbers for blocks (one, or {BLOCKS})")
    if key == "block_lr_zero_threshold" and "adapter.block_rates" not in settings:
        return unused(values, key, {}, "no block weights are given")
    paths = [NUMBERS[key]] if key in NUMBERS else ["adapter.block_rates"] if key in RATES else _ratio_paths(key)
    return Outcome("converted", {path: settings[path] for path in paths if path in settings})


def _ratio_paths(key: str) -> list[str]:
    paths = {RATIOS[1]: ["adapter.loraplus_unet_ratio"], RATIOS[2]: ["adapter.loraplus_text_ratio"]}
    return paths.get(key, ["adapter.loraplus_unet_ratio", "adapter.loraplus_text_ratio"])


def base_weights(values: Values, key: str) -> Outcome:
    """Adapters that are merged first, and their strengths: 1 for those without one, as there."""
    paths = [str(path) for path in values["base_weights"] or ()]
    strengths = [float(number) for number in values["base_weights_multiplier"] or ()]
    if not values[key]:
        return Outcome("ignored_default")
    if not paths:
        return unused(values, key, {}, "no base_weights are given")
    strengths = (strengths + [1.0] * len(paths))[: len(paths)]
    lines = [f"{path}: {strength:g}" for path, strength in zip(paths, strengths, strict=True)]
    return Outcome("converted", {"model.merged_adapters": "\n".join(lines)})


def lycoris_preset(values: Values, key: str) -> Outcome:
    """LyCORIS' named choices of layers; a file of one's own is not read."""
    if str(values["LoRA_type"]).lower().startswith("lycoris/"):
        return preset_of(str(values[key]))
    return unused(values, key, {}, f"{values['LoRA_type']} does not know it")


def preset_of(name: str) -> Outcome:
    """What LyCORIS' preset of layers of this name becomes."""
    if name == "full":
        return Outcome("ignored_default", {"adapter.blocks": "all"})
    if name in PRESETS:
        return Outcome("converted", {"adapter.blocks": PRESETS[name]})
    what = f"Atelier has no choice of layers called {name}; adapter.include_layers can name them"
    return Outcome("ignored_effect", {"adapter.blocks": "all"}, what)
