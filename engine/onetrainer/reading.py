"""A OneTrainer preset as settings and lines of a receipt: every key of the file in exactly one group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.kohya.receipt import Outcome
from engine.kohya.values import KeyFact, Unreadable, clean, same
from engine.onetrainer.keys import (
    COVERED,
    DEFAULTS,
    NO_SUCH,
    OLDER,
    REASONS,
    WITHOUT_EFFECT,
    flat,
    is_default,
    older_value,
)
from engine.onetrainer.learning import optimizer_of
from engine.onetrainer.rules import RULES
from engine.optimizer_arguments import ARGUMENTS, argument_problems
from engine.sections.optimizer import Optimizer

Lines = list[tuple[str, Any, Outcome]]
SDXL = "STABLE_DIFFUSION_XL_10_BASE"
# Arguments of optimizers under our names, where those differ
_RENAMED = {"decouple": "weight_decouple", "use_bias_correction": "bias_correction"}
_SET_ELSEWHERE = ("optimizer", "weight_decay", "beta1", "beta2", "eps", "is_paged", "relative_step")


def read_onetrainer(content: Mapping[str, Any]) -> tuple[dict[str, Any], Lines, list[str], str]:
    """Settings, lines, warnings, and what the file is for where that is no SDXL LoRA."""
    keys = flat(content)
    values, unreadable = _values(keys)
    settings: dict[str, Any] = {"run.length": "epochs"}
    outcomes = {key: rule(values, key) for key, rule in RULES.items()}
    for outcome in outcomes.values():
        settings.update(outcome.settings)
    extra, extra_outcomes = _extra(values, keys)
    if extra:
        settings["optimizer.extra"] = extra
    known = {**extra_outcomes, **unreadable}
    lines = [(key, raw, known.get(key) or _outcome(key, raw, values, outcomes)) for key, raw in keys.items()]
    return settings, lines, _warnings(values, keys), _for_what(values)


def _values(keys: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Outcome]]:
    """The values in force, cleaned, by today's names; and what cannot be read, by the file's."""
    values, unreadable = dict(DEFAULTS), {}
    for key, raw in keys.items():
        for name in OLDER.get(key, (key,)):
            if name not in DEFAULTS or (key in OLDER and name in keys):
                continue
            try:
                values[name] = _clean(name, older_value(key, raw))
            except Unreadable as error:
                unreadable[key] = Outcome("ignored_effect", note=f"needs {error}; the default there is used")
    if "train_unet_epochs" in keys:
        values["unet.stop_training_after_unit"] = "EPOCH"
    return values, unreadable


def _clean(name: str, raw: Any) -> Any:
    """The value in the type of its default; lists and what has no type are kept as they are."""
    default = DEFAULTS[name]
    if name in ("concepts", "samples"):
        if raw is not None and not isinstance(raw, list):
            raise Unreadable("a list")
        return raw
    kind = "bool" if isinstance(default, bool) else "string" if isinstance(default, str) else "number"
    if kind == "string" and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        raw = f"{raw:g}" if math.isfinite(raw) else raw
    if kind == "string" and not isinstance(raw, (str, type(None))):
        raise Unreadable("text")
    found = clean(raw, KeyFact(name, kind, default))
    if name in ("epochs", "gradient_accumulation_steps", "batch_size") and found < 1:
        raise Unreadable("a number of at least 1")
    return found


def _extra(values: Mapping[str, Any], keys: Mapping[str, Any]) -> tuple[str, dict[str, Outcome]]:
    """Arguments of the optimizer that have no setting of their own, as text for optimizer.extra."""
    name = optimizer_of(values)
    taken: dict[str, str] = {}
    outcomes: dict[str, Outcome] = {}
    for key, raw in keys.items():
        argument = key.removeprefix("optimizer.")
        ours = _RENAMED.get(argument, argument)
        if argument == key or argument in _SET_ELSEWHERE or raw in (None, "") or ours not in ARGUMENTS[name]:
            continue
        text = f"{ours}={raw}"
        if str(ARGUMENTS[name][ours][1]) == str(raw):
            outcomes[key] = Outcome("ignored_default", setting="optimizer.extra")
        elif not any(argument_problems(Optimizer.model_validate({"name": name, "extra": text}))):
            taken[ours] = text
            outcomes[key] = Outcome("converted", note=f"as {text}", setting="optimizer.extra")
    return ", ".join(taken.values()), outcomes


def _outcome(key: str, raw: Any, values: Mapping[str, Any], outcomes: Mapping[str, Outcome]) -> Outcome:
    names = [name for name in OLDER.get(key, (key,)) if name in outcomes]
    if names:
        outcome = outcomes[names[0]]
        note = f"called {names[0]} today" if key in OLDER else ""
        if outcome.group == "honoured" and (key in OLDER or not same(raw, values[key])):
            note = note or f"read as {values[key]}"
            return Outcome("converted", outcome.settings, note, outcome.setting)
        told = "; ".join(filter(None, (note, outcome.note))) if outcome.group != "ignored_default" else outcome.note
        return Outcome(outcome.group, outcome.settings, told, outcome.setting)
    if key.startswith(WITHOUT_EFFECT):
        return Outcome("ignored_default", note="decides nothing for an SDXL LoRA")
    if is_default(OLDER.get(key, (key,))[0], raw):
        return Outcome("ignored_default")
    if key in COVERED:
        return Outcome("converted", note=COVERED[key])
    return Outcome("ignored_effect", note=REASONS.get(key, REASONS.get(key.rpartition(".")[2], NO_SUCH)))


def _warnings(values: Mapping[str, Any], keys: Mapping[str, Any]) -> list[str]:
    """What the file leaves to a default that surprises people."""
    given = {name for key in keys for name in OLDER.get(key, (key,))}
    if "text_encoder_2.train" in given or values["text_encoder.train"]:
        return []
    return ["text_encoder_2.train is not in the file; its default there is on: the second text encoder is trained."]


def _for_what(values: Mapping[str, Any]) -> str:
    """What the file trains, where that is no LoRA for SDXL."""
    if values["model_type"] != SDXL:
        return str(values["model_type"])
    return "" if values["training_method"] == "LORA" else f"{values['training_method']} instead of a LoRA"
