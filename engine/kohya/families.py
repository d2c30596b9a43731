"""Rules for the kind of adapter: kohya_ss' `LoRA_type`, sd-scripts' `network_module`, LyCORIS' `algo` and what goes
with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.adapter_shapes import ALPHALESS, RANKLESS
from engine.kohya.plain import unused
from engine.kohya.receipt import Outcome
from engine.kohya.values import Values
from engine.preset import BY_PATH

# Types of adapter → our algorithm
ALGORITHMS = {
    "standard": "lora", "kohya locon": "lora", "locon": "lora", "lycoris/locon": "lora", "lycoris/lora": "lora",
    "lora-fa": "lora_fa", "kohya dylora": "dylora", "lycoris/dylora": "dylora",
    "kohya loha": "loha", "lycoris/loha": "loha", "kohya lokr": "lokr", "lycoris/lokr": "lokr", "lycoris/ia3": "ia3",
    "lycoris/boft": "boft", "lycoris/diag-oft": "oft", "lycoris/glora": "glora",
    "lycoris/native fine-tuning": "full", "lycoris/full": "full",
}  # fmt: skip
MODULES = {"networks.lora": "lora", "networks.lora_fa": "lora_fa", "networks.dylora": "dylora", "networks.oft": "oft",
           "networks.loha": "loha", "networks.lokr": "lokr"}  # fmt: skip
# Keys of kohya_ss and network arguments → the algorithms that they are for
OWNERS: dict[str, tuple[str, ...]] = {
    "factor": ("lokr",), "decompose_both": ("lokr",), "full_matrix": ("lokr",),
    "constrain": ("oft", "boft"), "constraint": ("oft", "boft"), "rescaled": ("oft", "boft"),
    "train_on_input": ("ia3",), "unit": ("dylora",), "block_size": ("dylora",),
}  # fmt: skip
NUMBERS: dict[str, tuple[str, ...]] = {
    "factor": ("adapter.factor",), "constraint": ("adapter.constraint",),
    "unit": ("adapter.block_size",), "block_size": ("adapter.block_size",),
}  # fmt: skip
FLAGS: dict[str, str] = {
    "decompose_both": "adapter.decompose_both", "full_matrix": "adapter.full_matrix", "rescaled": "adapter.rescaled",
    "train_on_input": "adapter.on_input", "train_norm": "adapter.norms", "rs_lora": "adapter.rank_stabilised",
}  # fmt: skip
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no", "none")


def owns(values: Values, key: str) -> bool:
    """Whether the kind of adapter in force uses this key."""
    return algorithm_of(values) in OWNERS[key]


def algorithm_of(values: Values) -> str:
    """Our algorithm of the kind of adapter in force; "" where there is none."""
    if values.is_kohya:
        name = str(values["LoRA_type"]).lower()
        return _with_dora(ALGORITHMS.get(name, ""), bool(values["dora_wd"]) and name.startswith("lycoris/"))
    module = str(values["network_module"] or "networks.lora")
    if module != "lycoris.kohya":
        return MODULES.get(module, "")
    given = arguments(values)
    algorithm = given.get("algo", "lora").lower()
    decomposed = given.get("dora_wd", "").lower() in _YES
    return _with_dora(ALGORITHMS.get(f"lycoris/{algorithm}", ALGORITHMS.get(algorithm, "")), decomposed)


def _with_dora(algorithm: str, decomposed: bool) -> str:
    return "dora" if algorithm == "lora" and decomposed else algorithm


def arguments(values: Values) -> dict[str, str]:
    """The network arguments, name → text."""
    texts = values["network_args"]
    pairs = (str(text).strip("\"' ").partition("=") for text in (texts if isinstance(texts, list) else ()))
    return {name.strip(): rest.strip() for name, _, rest in pairs}


def adapter_type(values: Values, key: str) -> Outcome:
    return _outcome(str(values[key]), algorithm_of(values), {})


def adapter_module(values: Values, key: str) -> Outcome:
    """sd-scripts' network module; for LyCORIS the algorithm is among the network arguments."""
    name = str(values[key] or "networks.lora")
    given = arguments(values)
    if name != "lycoris.kohya":
        return _outcome(name, algorithm_of(values), {})
    by_output = given.get("wd_on_output", "true").lower() in _YES
    more = {"adapter.dora_norm": "output" if by_output else "input"} if algorithm_of(values) == "dora" else {}
    return _outcome(f"LyCORIS {given.get('algo', 'lora')}", algorithm_of(values), more)


def _outcome(name: str, algorithm: str, more: Mapping[str, Any]) -> Outcome:
    settings = {"adapter.algorithm": algorithm, **more}
    if algorithm == "full":
        settings["adapter.full_convolutions"] = True
    if algorithm == "oft" and name == "networks.oft":
        what = "there the rank is the number of blocks, here the size of a block: choose it anew"
        return Outcome("ignored_effect", settings, what)
    if algorithm == "dylora":
        what = "each step trains the ranks below a drawn one, as the paper does; there one block of all ranks"
        return Outcome("converted", settings, what)
    if algorithm:
        return Outcome("converted", settings)
    what = f"Atelier does not have {name}; the preset makes a LoRA of the same rank"
    return Outcome("ignored_effect", {"adapter.algorithm": "lora"}, what)


def decomposed(values: Values, key: str) -> Outcome:
    """kohya_ss' DoRA switch of the LyCORIS types; it has magnitudes for outputs there."""
    if algorithm_of(values) == "dora":
        return Outcome("converted", {"adapter.dora_norm": "output"}, "DoRA is an algorithm of its own here")
    name = str(values["LoRA_type"])
    if values[key] and name.lower() in ("lycoris/loha", "lycoris/lokr"):
        return Outcome("ignored_effect", note=f"Atelier decomposes LoRA only, not {name}")
    return unused(values, key, {}, "the setting that it goes with is off")


def rank_and_alpha_left(values: Values, key: str) -> Outcome | None:
    """What becomes of a rank or alpha that the kind of adapter does not have; None where it has it."""
    algorithm, path = algorithm_of(values), {"network_dim": "adapter.rank", "network_alpha": "adapter.alpha"}[key]
    item = BY_PATH[path]
    is_constraint = key == "network_alpha" and not values.is_kohya and values["network_module"] == "networks.oft"
    if is_constraint and values[key]:
        settings = {"adapter.alpha": item.default, "adapter.constraint": float(values[key])}
        return Outcome("converted", settings, "there it is the constraint")
    if algorithm in (RANKLESS if key == "network_dim" else ALPHALESS):
        return unused(values, key, {path: item.default}, f"{algorithm} has none")
    if key == "network_dim" and algorithm == "lokr" and item.high is not None and values[key] > item.high:
        settings = {"adapter.rank": item.default, "adapter.full_matrix": True}
        return Outcome("converted", settings, "so large a rank means whole matrices")
    return None


def conv_rank_left(values: Values, key: str) -> Outcome | None:
    """What becomes of a rank for convolutions that the kind of adapter cannot have; None where it can."""
    algorithm, name = algorithm_of(values), values["LoRA_type"]
    if algorithm in RANKLESS:
        return unused(values, key, {"adapter.conv_rank": 0}, f"{name} has no ranks")
    if algorithm in ("oft", "boft") and values[key] == 1:
        return unused(values, key, {"adapter.conv_rank": 0}, "blocks of one output turn nothing")
    if algorithm == "dylora" and values[key] and values[key] != values["network_dim"]:
        return Outcome("converted", {"adapter.conv_rank": int(values["network_dim"])}, "there it must equal the rank")
    return None


def flag(text: str) -> bool | None:
    """True or false of a text; None where it is neither."""
    return True if text.lower() in _YES else False if text.lower() in _NO else None
