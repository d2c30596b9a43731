"""Arguments in free text: `additional_parameters`, `network_args`."""

from __future__ import annotations

import ast
import shlex
from typing import Any

from engine.kohya import families, layers
from engine.kohya.layers import layer_settings_of
from engine.kohya.receipt import Outcome
from engine.kohya.values import ARGUMENTS, Unreadable, Values, clean

NETWORK_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "conv_dim": ("adapter.conv_rank",),
    "conv_alpha": ("adapter.conv_alpha",),
    "rank_dropout": ("adapter.rank_dropout",),
    "module_dropout": ("adapter.module_dropout",),
    **families.NUMBERS,
}
# Network arguments that another key's rule reads, with the values that change nothing
READ_ELSEWHERE = {"algo": None, "dora_wd": None, "wd_on_output": None, "preset": tuple(layers.PRESETS)}


def split_options(text: str) -> tuple[dict[str, Any], list[str]]:
    """Options of a command line by argument name, cleaned, and the texts that are none. Raises ValueError (quotes)."""
    options: dict[str, Any] = {}
    unknown: list[str] = []
    words = shlex.split(text)
    while words:
        word = words.pop(0)
        name, mark, value = word.removeprefix("--").partition("=")
        fact = ARGUMENTS.get(name.replace("-", "_")) if word.startswith("--") else None
        following = [value] if mark else _take(words)
        if fact is None:
            unknown.append(" ".join([word, *(following if not mark else ())]))
            continue
        try:
            options[fact.name] = True if fact.type == "flag" and not following else _value(following, fact)
        except Unreadable as error:
            unknown.append(f"{word} (needs {error})")
    return options, unknown


def _take(words: list[str]) -> list[str]:
    """The words up to the next option."""
    taken: list[str] = []
    while words and not words[0].startswith("--"):
        taken.append(words.pop(0))
    return taken


def _value(texts: list[str], fact: Any) -> Any:
    return clean(texts if fact.list else " ".join(texts), fact)


def network_args(values: Values, key: str) -> Outcome:
    """The adapter's extra arguments; LyCORIS takes the main rank for convolutions unless told otherwise."""
    outcome, of_layers = _layer_arguments(values[key])
    settings = {**outcome.settings, **of_layers}
    if families.algorithm_of(values) in families.RANKLESS:
        settings.update({"adapter.conv_rank": 0})
    elif values["network_module"] == "lycoris.kohya":
        settings.setdefault("adapter.conv_rank", int(values["network_dim"]))
        settings.setdefault("adapter.conv_alpha", float(values["network_alpha"] or values["network_dim"]))
    elif settings.get("adapter.conv_rank") and settings.get("adapter.conv_alpha") == 0:
        settings["adapter.conv_alpha"] = float(settings["adapter.conv_rank"])
    settings.setdefault("adapter.conv_rank", 0)
    if not settings["adapter.conv_rank"] or families.algorithm_of(values) in families.ALPHALESS:
        settings.pop("adapter.conv_alpha", None)
    return Outcome(outcome.group, settings, outcome.note)


def _layer_arguments(value: Any) -> tuple[Outcome, dict[str, Any]]:
    """The numbers among the arguments, and the settings of those that choose layers."""
    texts = [str(text).strip("\"' ") for text in value] if isinstance(value, list) else value
    if not isinstance(texts, list):
        return _pairs(value, NETWORK_ARGUMENTS), {}
    pairs = {name.strip(): rest.strip() for name, _, rest in (text.partition("=") for text in texts)}
    settings, lost = layer_settings_of({name: pairs[name] for name in layers.NAMES if name in pairs})
    if pairs.get("preset", "full") in layers.PRESETS:
        settings["adapter.blocks"] = layers.PRESETS[pairs.get("preset", "full")]
    known = {name for name in layers.NAMES if name in pairs and name not in lost}
    rest = [text for text in texts if text.partition("=")[0].strip() not in known]
    outcome = _pairs(rest, NETWORK_ARGUMENTS)
    if texts and not rest:
        outcome = Outcome("converted")
    return outcome, settings


def _pairs(value: Any, known: dict[str, tuple[str, ...]]) -> Outcome:
    """name=value texts: the known ones into settings, the others into the note."""
    try:
        texts = [str(text) for text in value] if isinstance(value, list) else shlex.split(str(value or ""))
    except ValueError:
        return Outcome("ignored_effect", note="cannot be read: a quotation mark is missing")
    if not texts:
        return Outcome("ignored_default")
    settings: dict[str, Any] = {}
    lost: list[str] = []
    for text in texts:
        name, _, amount = text.strip("\"' ").partition("=")
        name, amount = name.strip(), amount.strip()
        numbers = _numbers(amount)
        if known is NETWORK_ARGUMENTS and name in families.FLAGS and families.flag(amount) is not None:
            settings[families.FLAGS[name]] = families.flag(amount)
        elif name in known and len(numbers) == len(known[name]):
            settings.update(zip(known[name], numbers, strict=True))
        elif name not in READ_ELSEWHERE or amount not in (READ_ELSEWHERE[name] or (amount,)):
            lost.append(text)
    if lost:
        return Outcome("ignored_effect", settings, "not taken over: " + ", ".join(lost))
    return Outcome("converted", settings)


def _numbers(text: str) -> list[Any]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    parts = list(found) if isinstance(found, (list, tuple)) else [found]
    return parts if all(isinstance(part, (int, float)) and not isinstance(part, bool) for part in parts) else []
