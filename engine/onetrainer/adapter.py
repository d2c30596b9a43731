"""Rules for the adapter: its kind, size and layers."""

from __future__ import annotations

from typing import Any

from engine.kohya.receipt import Outcome
from engine.onetrainer.learning import optimizer_of
from engine.onetrainer.shared import Values, unless_default
from engine.rules.memory import STEPS_BY_SEGMENT

_ALGORITHMS = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr", "OFT_2": "oft"}
# Filter of layers → settings; rank and alpha of convolutions are the adapter's own
_LAYERS: dict[str, dict[str, Any]] = {
    "": {"adapter.blocks": "all", "adapter.outer_layers": True},
    "attentions": {"adapter.blocks": "all"},
    "attn": {"adapter.blocks": "attention"},
    "attn2": {"adapter.blocks": "cross_attention"},
}


def lora_precision(values: Values, key: str) -> Outcome:
    name, half = optimizer_of(values), values["train_dtype"] == "BFLOAT_16"
    fits = name in STEPS_BY_SEGMENT and half and not values["lora_decompose"]
    narrow = values[key] == "BFLOAT_16" and fits
    note = "" if narrow or values[key] != "BFLOAT_16" else "in fp32, more exact: bf16 does not go with the rest"
    return Outcome("converted", {"memory.adapter_precision": "bf16" if narrow else "fp32"}, note)


def algorithm_of(values: Values) -> str:
    found = _ALGORITHMS.get(str(values["peft_type"]), "lora")
    return "dora" if found == "lora" and values["lora_decompose"] else found


def peft(values: Values, key: str) -> Outcome:
    found = algorithm_of(values)
    if values[key] not in _ALGORITHMS:
        return Outcome("ignored_effect", {"adapter.algorithm": found}, f"Atelier does not have {values[key]}: a LoRA")
    if found == "oft":
        what = "OneTrainer's OFT v2 only approximates the turning; Atelier turns exactly"
        return Outcome("ignored_effect", {"adapter.algorithm": "oft"}, what)
    return Outcome("converted", {"adapter.algorithm": found})


def decompose(values: Values, key: str) -> Outcome:
    if algorithm_of(values) != "dora":
        return unless_default(values, key, "only a decomposed LoRA uses it")
    if key == "lora_decompose":
        return Outcome("converted", note="DoRA is an algorithm of its own here", setting="adapter.algorithm")
    return Outcome("converted", {"adapter.dora_norm": "output" if values[key] else "input"})


def rank(of: tuple[str, ...], setting: str, kind: type, values: Values, key: str) -> Outcome:
    """A number of one kind of adapter."""
    if algorithm_of(values) not in of:
        return unless_default(values, key, "another kind of adapter is chosen")
    return Outcome("honoured", {setting: kind(values[key])})


def layers(values: Values, key: str) -> Outcome:
    """Everything that OneTrainer's filter lets through; without one, convolutions and outer layers too."""
    text = str(values[key] or "").strip()
    settings = dict(_LAYERS.get(text, _LAYERS[""]))
    if "adapter.outer_layers" in settings and algorithm_of(values) in ("lora", "dora", "loha"):
        settings |= {"adapter.conv_rank": int(values["lora_rank"]), "adapter.conv_alpha": float(values["lora_alpha"])}
    if text not in _LAYERS:
        what = "such a filter is not read; adapter.include_layers takes names as they are in the file"
        return Outcome("ignored_effect", settings, what)
    return Outcome("converted", settings, "" if text else "all layers, convolutions and the outer ones too")
