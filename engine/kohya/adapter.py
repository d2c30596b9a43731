"""Rules for the adapter, its optimizer and the learning rates of its parts."""

from __future__ import annotations

from typing import Any

from engine.adapter_shapes import ALPHALESS
from engine.kohya.families import algorithm_of, conv_rank_left, rank_and_alpha_left
from engine.kohya.optimizer import is_relative
from engine.kohya.plain import plain, unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.preset import BY_PATH

WITHOUT_CONVOLUTIONS = ("standard", "lora-fa")
_OWN_RATE = "Adafactor finds its rate, as there; this number multiplies it"


def rank(values: Values, key: str) -> Outcome:
    left = rank_and_alpha_left(values, key)
    if left is not None:
        return left
    item = BY_PATH["adapter.rank"]
    full = values.is_kohya and str(values["LoRA_type"]).lower() != "standard"
    if full and item.high is not None and values[key] > item.high:
        what = (
            f"means the full size for {values['LoRA_type']}; a LoRA has at most {item.high:g}: {item.default} is used"
        )
        return Outcome("ignored_effect", note=what, setting=item.path)
    return plain(values, key, item)


def alpha(values: Values, key: str) -> Outcome:
    left = rank_and_alpha_left(values, key)
    if left is not None:
        return left
    if values[key] or values.is_kohya:
        return plain(values, key, BY_PATH["adapter.alpha"])
    return Outcome("converted", {"adapter.alpha": float(values["network_dim"])}, "0 means as large as the rank")


def conv_rank(values: Values, key: str) -> Outcome:
    left = conv_rank_left(values, key)
    if left is not None:
        return left
    if str(values["LoRA_type"]).lower() not in WITHOUT_CONVOLUTIONS:
        return plain(values, key, BY_PATH["adapter.conv_rank"])
    return unused(values, key, {"adapter.conv_rank": 0}, f"{values['LoRA_type']} leaves convolutions alone")


def conv_alpha(values: Values, key: str) -> Outcome:
    if algorithm_of(values) in ALPHALESS:
        return unused(values, key, {}, f"{values['LoRA_type']} has no alpha")
    if str(values["LoRA_type"]).lower() in WITHOUT_CONVOLUTIONS or not values["conv_dim"]:
        return unused(values, key, {}, "no convolutions are trained")
    if values[key]:
        return plain(values, key, BY_PATH["adapter.conv_alpha"])
    return Outcome("converted", {"adapter.conv_alpha": float(values["conv_dim"])}, "0 means as large as the rank")


def unet_rate_of(values: Values) -> float:
    """The rate in force. kohya_ss takes learning_rate where both parts have 0, else a 0 leaves a part out."""
    if values["network_train_text_encoder_only"]:
        return 0.0
    given = values["unet_lr"]
    if given is None or (values.is_kohya and not given and not values["text_encoder_lr"]):
        return float(values["learning_rate"])
    return float(given)


def text_encoder_rate_of(values: Values) -> float:
    """The rate of both text encoders: sd-scripts uses the first of a list for both."""
    if values["network_train_unet_only"]:
        return 0.0
    given = values["text_encoder_lr"]
    first = (given[0] if given else None) if isinstance(given, list) else given
    if first is None or (values.is_kohya and not first and not values["unet_lr"]):
        return float(values["learning_rate"])
    return float(first)


def unet_rate(values: Values, key: str) -> Outcome:
    rate = unet_rate_of(values)
    if rate and is_relative(values):
        return Outcome("converted", {"adapter.unet": True, "optimizer.unet_rate": 1.0}, _OWN_RATE)
    if rate == 0:
        return Outcome("converted", {"adapter.unet": False}, "the UNet is not trained")
    return _rate(values, key, rate, {"adapter.unet": True, "optimizer.unet_rate": rate})


def text_encoder_rate(values: Values, key: str) -> Outcome:
    rate = text_encoder_rate_of(values)
    parts = ("text_encoder_1", "text_encoder_2")
    if rate == 0:
        return Outcome("converted", {f"adapter.{part}": False for part in parts}, "the text encoders are not trained")
    settings: dict[str, Any] = {f"adapter.{part}": True for part in parts}
    if is_relative(values):
        return Outcome("converted", settings | {f"optimizer.{part}_rate": 1.0 for part in parts}, _OWN_RATE)
    return _rate(values, key, rate, {**settings, **{f"optimizer.{part}_rate": rate for part in parts}})


def _rate(values: Values, key: str, rate: float, settings: dict[str, Any]) -> Outcome:
    if values[key] == rate:
        return Outcome("honoured", settings)
    source = "the first of the list" if isinstance(values[key], list) and values[key] else "learning_rate"
    return Outcome("converted", settings, f"{rate:g}, {source}")


def learning_rate(values: Values, key: str) -> Outcome:
    """Used only for a part that has no rate of its own."""
    used = [
        path
        for path, rate, own in (
            ("optimizer.unet_rate", unet_rate_of(values), values["unet_lr"]),
            ("optimizer.text_encoder_1_rate", text_encoder_rate_of(values), values["text_encoder_lr"]),
        )
        if rate and not own
    ]
    if used:
        return Outcome("converted", note="for what has no rate of its own", setting=", ".join(used))
    return unused(values, key, {}, "each trained part has a rate of its own")


def one_part_only(values: Values, key: str) -> Outcome:
    if not values[key]:
        return Outcome("ignored_default")
    left_out = "adapter.text_encoder_1, adapter.text_encoder_2" if key.endswith("unet_only") else "adapter.unet"
    return Outcome("converted", note="switched off", setting=left_out)
