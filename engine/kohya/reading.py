"""The import itself: a foreign file becomes settings and a receipt. Missing keys mean their documented default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import PresetError, Problem
from engine.kohya.arguments import split_options
from engine.kohya.dataset import read_dataset
from engine.kohya.receipt import Outcome, Receipt, black_out, make_receipt, secrets_of
from engine.kohya.rules import outcome_of
from engine.kohya.sources import NAMES, Source, open_source
from engine.kohya.values import ARGUMENTS, PRESET_KEYS, KeyFact, Unreadable, Values, clean, documented, same
from engine.onetrainer.reading import read_onetrainer
from engine.preset import Preset

# Old names → the key of today (or of sd-scripts) that they mean
LEGACY: dict[str, str] = {
    "cache_latent": "cache_latents",
    "caption_extention": "caption_extension",
    "cache_text_encoder_outputs": "sdxl_cache_text_encoder_outputs",
    "no_half_vae": "sdxl_no_half_vae",
    "sdxl_min_timestep": "min_timestep",
    "sdxl_max_timestep": "max_timestep",
    "sdxl_checkbox": "sdxl",
    "lora_network_weights": "network_weights",
    "conv_dims": "conv_block_dims",
    "conv_alphas": "conv_block_alphas",
    "stop_text_encoder_training_pct": "stop_text_encoder_training",
    "use_wandb": "log_with",
    "use_wandb_checkbox": "log_with",
    "wandb_api_key_textbox": "wandb_api_key",
    "locon": "LoRA_type",
    "use_8bit_adam": "optimizer",
    "network_train": "",
    "disable_mmap_load_safetensors": "",
}
# What a legacy key's value is called under the new name, where the words differ
LEGACY_VALUES: dict[str, Mapping[Any, Any]] = {
    "use_wandb": {True: "wandb"},
    "use_wandb_checkbox": {True: "wandb"},
    "locon": {True: "LoCon"},
    "use_8bit_adam": {True: "AdamW8bit"},
}
NETWORK_TRAIN = {"unet": "network_train_unet_only", "text encoder": "network_train_text_encoder_only"}
# Arguments without a key in kohya_ss whose default is not Atelier's
ALWAYS = ("zero_terminal_snr", "sample_at_first")
# The data set decides over what stands beside it; the warm-up may be a share of the number of steps
LAST = ("dataset_config", "lr_warmup", "lr_warmup_steps")


@dataclass(frozen=True)
class Import:
    """The receipt, the settings found ("section.name" → value), and the preset unless `problems` stand in its way."""

    receipt: Receipt
    settings: dict[str, Any]
    preset: Preset | None
    problems: tuple[Problem, ...] = ()


def read(path: Path) -> Import:
    """Import a file. Raises UserError where it is none that can be read.

    Faults of the settings, and a model that is not SDXL, are in `problems`, beside the receipt.
    """
    return read_source(open_source(path))


def read_source(source: Source) -> Import:
    """Import what was read of a file."""
    about, other_model = f"Imported from {source.path.name}, {NAMES[source.kind]}.", source.other_model
    if source.kind == "onetrainer":
        settings, outcomes, warnings, other_model = read_onetrainer(source.content)
    elif source.kind == "data set":
        settings, outcomes, warnings = *read_dataset(source.content, source.path), ()
    else:
        settings, outcomes, warnings = _read_keys(source)
    receipt = make_receipt(NAMES[source.kind], outcomes, warnings)
    settings = black_out(settings, secrets_of(outcomes))
    if other_model:
        what = f"this preset is for {other_model}; Atelier trains LoRAs for SDXL only. Choose such a preset."
        return Import(receipt, settings, None, (Problem(str(source.path), what),))
    try:
        preset = Preset(about=about).changed(settings)
    except PresetError as error:
        return Import(receipt, settings, None, error.problems)
    return Import(receipt, settings, preset)


def _read_keys(source: Source) -> tuple[dict[str, Any], list[tuple[str, Any, Outcome]], list[str]]:
    facts = PRESET_KEYS if source.kind == "preset" else ARGUMENTS
    values = Values(
        "kohya" if source.kind == "preset" else "sd_scripts",
        {name: documented(fact) for name, fact in (*ARGUMENTS.items(), *facts.items())},
        frozenset(source.content),
        source.path.parent,
    )
    unreadable = _take_values(values, source.content, facts)
    _take_legacy(values, facts)
    options, unknown, fault = _options(str(source.content.get("additional_parameters") or ""))
    mine = values.is_kohya and "additional_parameters" in source.content
    overridden = _take_options(values, options) if mine else {}

    keys = [key for key in facts if key not in LEGACY or not values.is_kohya]
    extra = [name for name in (*ALWAYS, *options) if name not in overridden] if values.is_kohya else []
    outcomes = _run_rules(values, dict.fromkeys((*keys, *extra)))
    lines: list[tuple[str, Any, Outcome]] = []
    for key, raw in source.content.items():
        if key == "additional_parameters" and mine:
            outcome = _options_outcome(options, unknown, fault, {**outcomes}, overridden)
        elif key in unreadable:
            outcome = unreadable[key]
        elif key not in facts:
            outcome = _unknown_key(values, key, raw)
        elif key in LEGACY and values.is_kohya:
            outcome = _legacy_outcome(values, key, outcomes)
        elif key in overridden.values():
            outcome = _overridden_outcome(values, key, raw, outcomes[key])
        else:
            outcome = _as_written(values, key, raw, outcomes[key])
        lines.append((key, raw, outcome))
    return values.settings, lines, _warnings(values, outcomes)


def _take_values(values: Values, content: Mapping[str, Any], facts: Mapping[str, KeyFact]) -> dict[str, Outcome]:
    """Put the file's values in force, cleaned; returns what cannot be read."""
    unreadable: dict[str, Outcome] = {}
    for key, raw in content.items():
        if key not in facts:
            continue
        try:
            values.effective[key] = clean(raw, facts[key])
        except Unreadable as error:
            unreadable[key] = Outcome("ignored_effect", note=f"needs {error}; the default there is used")
    return unreadable


def _take_legacy(values: Values, facts: Mapping[str, KeyFact]) -> None:
    """Old names stand in for today's where the file does not hold those."""
    if not values.is_kohya:
        values.effective["caption_extension"] = values["caption_extention"] or values["caption_extension"]
        return
    if "optimizer" not in values.given:  # what kohya_ss itself takes then, whatever its form shows
        values.effective["optimizer"] = "AdamW"
    for old, new in LEGACY.items():
        if old not in values.given or (new and new in values.given):
            continue
        value = values[old]
        if old == "network_train" and str(value).lower() in NETWORK_TRAIN:
            values.effective[NETWORK_TRAIN[str(value).lower()]] = True
        elif new and value not in (facts[old].default, None, ""):
            renamed = LEGACY_VALUES.get(old, {})
            values.effective[new] = value if isinstance(value, (list, dict)) else renamed.get(value, value)


def _options(text: str) -> tuple[dict[str, Any], list[str], str]:
    try:
        return *split_options(text), ""
    except ValueError:
        return {}, [], "cannot be read: a quotation mark is missing"


def _take_options(values: Values, options: Mapping[str, Any]) -> dict[str, str]:
    """Options of the command line beat the file's keys; returns option → the key of kohya_ss that it replaces."""
    overridden: dict[str, str] = {}
    for name, value in options.items():
        key = _key_of(name)
        values.effective[key or name] = value
        values.options.add(key or name)
        if key:
            overridden[name] = key
    return overridden


def _key_of(argument: str) -> str:
    """The kohya_ss key that writes this argument, or ""."""
    same_name = PRESET_KEYS.get(argument)
    if same_name is not None and same_name.family != "legacy":
        return argument
    found = [key for key, fact in PRESET_KEYS.items() if fact.argument == argument and fact.family == "sdxl"]
    return found[0] if found else ""


def _run_rules(values: Values, keys: Iterable[str]) -> dict[str, Outcome]:
    """The outcome of every key, in force or by default; their settings are collected in `values.settings`."""
    ordered = sorted(keys, key=lambda key: LAST.index(key) if key in LAST else -1)
    outcomes: dict[str, Outcome] = {}
    for key in ordered:
        outcomes[key] = outcome_of(values, key)
        values.settings.update(outcomes[key].settings)
    return outcomes


def _as_written(values: Values, key: str, raw: Any, outcome: Outcome) -> Outcome:
    """ "Honoured" is for a value that is taken over letter by letter."""
    if outcome.group != "honoured" or same(raw, values[key]):
        return outcome
    note = "; ".join(part for part in (f"{_quoted(raw)} is read as {values[key]}", outcome.note) if part)
    return Outcome("converted", outcome.settings, note, outcome.setting)


def _overridden_outcome(values: Values, key: str, raw: Any, outcome: Outcome) -> Outcome:
    if same(raw, values[key]):
        return outcome
    note = f"additional_parameters gives {values[key]} instead, and decides there too"
    group = "converted" if outcome.group == "honoured" else outcome.group
    return Outcome(group, outcome.settings, note, outcome.setting)


def _legacy_outcome(values: Values, key: str, outcomes: Mapping[str, Outcome]) -> Outcome:
    value, default = values[key], PRESET_KEYS[key].default
    if value in (default, None, ""):
        return Outcome("ignored_default")
    if key == "disable_mmap_load_safetensors":
        return Outcome("converted", note="the model is memory-mapped; only speed and memory differ")
    if key == "network_train":
        return Outcome("converted", note="which parts are trained", setting="adapter.unet, adapter.text_encoder_1")
    new = LEGACY[key]
    if new in values.given:
        return Outcome("ignored_effect", note=f"had no effect there either: {new}, its name today, is given too")
    outcome = outcomes[new]
    group = "converted" if outcome.group in ("honoured", "converted") else "ignored_effect"
    note = "; ".join(part for part in (f"called {new} today", outcome.note) if part)
    return Outcome(group, note=note, setting=outcome.shown_setting)


def _unknown_key(values: Values, key: str, raw: Any) -> Outcome:
    whose = "kohya_ss's LoRA presets" if values.is_kohya else "sd-scripts"
    if raw in ("", None, False, [], {}):
        return Outcome("ignored_default", note="an unknown key, and empty")
    return Outcome("ignored_effect", note=f"unknown to Atelier; {whose} also ignore such a key")


def _options_outcome(
    options: Mapping[str, Any],
    unknown: list[str],
    fault: str,
    outcomes: Mapping[str, Outcome],
    overridden: Mapping[str, str],
) -> Outcome:
    """One line for all options in additional_parameters: which were taken over, and which were not."""
    if fault:
        return Outcome("ignored_effect", note=fault)
    if not options and not unknown:
        return Outcome("ignored_default")
    taken: list[str] = []
    lost: list[str] = [*unknown]
    targets: list[str] = []
    for name in options:
        outcome = outcomes[overridden.get(name, name)]
        reason = f" ({outcome.note})" if outcome.note else ""
        if outcome.group == "ignored_effect":
            lost.append(f"--{name}{reason}")
        else:
            taken.append(f"--{name}{reason}")
            targets += [target for target in [outcome.shown_setting] if target]
    parts = [f"taken over: {', '.join(taken)}"] if taken else []
    parts += [f"not taken over: {', '.join(lost)}"] if lost else []
    return Outcome("ignored_effect" if lost else "converted", note="; ".join(parts), setting=", ".join(targets))


def _warnings(values: Values, outcomes: Mapping[str, Outcome]) -> list[str]:
    """What the file does not say, and what its documented default would have done there."""
    found = [
        f"{key} is not in the file; its default there, {values[key]}: {outcome.note}."
        for key, outcome in outcomes.items()
        if values.is_kohya and key not in values.given and key in PRESET_KEYS
        if outcome.group == "ignored_effect" and values[key] == values.default(key)
    ]
    if values.is_kohya and not values["sdxl"]:
        found.append("the file is not marked as being for SDXL; its settings are taken as a recipe for SDXL.")
    return found


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
