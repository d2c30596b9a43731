"""docs/coming-from-kohya.md, made from the import's own rules: `python -m engine.kohya_table`; a test compares it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.atomic import write_text_whole
from engine.kohya.dataset import DATASET_ARGUMENTS, DATASET_REFUSED, FOLDER_KEYS, FOLDERS
from engine.kohya.fates import COVERED, REFUSED
from engine.kohya.reading import LEGACY
from engine.kohya.rules import CONVERSIONS, PLAIN, outcome_of
from engine.kohya.values import ARGUMENTS, PRESET_KEYS, KeyFact, Values, Vocabulary, documented
from engine.onetrainer.keys import COVERED as COVERED_THERE
from engine.onetrainer.keys import DEFAULTS
from engine.onetrainer.rules import RULES
from engine.preset import ROOT

TARGET = ROOT / "docs" / "coming-from-kohya.md"
HEAD = """# Coming from kohya_ss, sd-scripts or OneTrainer

Bring your presets along:

```
python -m engine import my_kohya_preset.json -o presets/user/my_preset.json
```

It reads LoRA presets of kohya_ss and of OneTrainer (`.json`), sd-scripts configurations (`.toml`, with or without
sections) and sd-scripts data-set files, and prints a receipt in which every key of your file stands in exactly one
group. The page does the same on its tab Presets.

- **honoured**: the same meaning, the same value.
- **converted**: the same thing said in other words. The note says what became of what.
- **ignored_default**: it stood at its documented default, so nothing is lost.
- **ignored_effect**: it was set to something else and Atelier does not do that (yet). Read these before you train.

`--json` prints the receipt for programs. A file that exists is never overwritten. Tokens and API keys are neither
written nor shown.

The way back writes a kohya_ss preset:

```
python -m engine export presets/user/my_preset.json -o for_kohya.json
```

What an import honoured comes back with the same value. The file is read back at once, and every setting that kohya_ss
cannot express is listed with the value that it has there. All keys are in the file, so that kohya_ss's form keeps
nothing from before.

Good to know:

- A key that your file leaves out takes kohya_ss's documented default, not Atelier's: rank 8, alpha 1, 512 × 512.
- `max_train_steps` beats `epoch` there, and kohya_ss's form starts with 1600. The receipt says which of the two
  decides; `--set run.length=epochs` makes the epochs decide. A preset with `epoch` and no
  `max_train_steps` trains its epochs.
- Learning rates: 0 leaves a part out; empty, or 0 for both parts, means `learning_rate`.
- Warm-up and decay in percent stay shares of the run.
- Options in `additional_parameters` are read like sd-scripts arguments and beat the keys of the form, as there.
- Relative paths start at Atelier's folder.
- Both trainers ignore misspelt keys in silence. The receipt names them.
- Of OneTrainer's presets the keys whose meaning is known for sure are taken over, old names included; every other one
  that is not at its default is told. Its folders and prompts lie in files of their own: choose them here. Without a
  filter of layers it trains convolutions and outer layers too, and so does the imported preset.
"""
_SECRET = "a secret: neither written nor shown"
# Keys that name no single setting
TOLD = {
    "sdxl": "must be on, where the file names a model",
    "dataset_config": "that file is read as well",
    "save_model_as": "always `.safetensors`",
    "learning_rate": "the rate of each part that has none of its own",
    "lr_scheduler_num_cycles": "`optimizer.cycles`, with cosine_with_restarts",
    "lr_scheduler_power": "`optimizer.power`, with polynomial",
    "lr_scheduler_timescale": "`optimizer.timescale_steps`, with inverse_sqrt",
    "lr_scheduler_min_lr_ratio": "`optimizer.min_ratio`, with the schedules that use it",
    "lr_decay_steps": "`optimizer.decay_steps` or `optimizer.decay_share`, with warmup_stable_decay",
    "lr_scheduler_args": "`optimizer.points` (step_rules), `optimizer.min_ratio` (lr_end, min_lr); others are told",
    "optimizer_args": "`optimizer.weight_decay`, betas, `optimizer.epsilon`, the rest in `optimizer.extra`",
    "conv_alpha": "`adapter.conv_alpha`, with types that adapt convolutions",
    "LyCORIS_preset": "`adapter.blocks`; files of one's own are told",
    "block_lr_zero_threshold": "`adapter.block_rates`: weights up to it are 0",
    "additional_parameters": "each option is read like the argument of that name",
    "wandb_api_key": _SECRET,
    "huggingface_token": _SECRET,
}
SUBSETS = """
`general`, `datasets` and `subsets` are tables of such keys. Where subsets differ in captions, resolution, buckets or
mirroring, the file itself becomes the training folder and each folder is trained by what it says
([data sets](data-sets.md)). The rest a run has once: the first trained subset decides, and the receipt names each line
that says otherwise.
"""
TITLES = {
    "sdxl": "Keys of kohya_ss presets",
    "legacy": "Older keys of kohya_ss presets",
    "arguments": "Arguments of sd-scripts",
    "data": "Keys of sd-scripts data-set files",
    "onetrainer": "Keys of OneTrainer presets",
}


def page() -> str:
    """The whole page as Markdown."""
    families = ("sdxl", "legacy")
    parts = [HEAD]
    for family in families:
        facts = [fact for fact in PRESET_KEYS.values() if fact.family == family]
        parts.append(_table(TITLES[family], ((fact, _fate(fact, "kohya")) for fact in facts)))
    others = [f"`{name}`" for name, fact in PRESET_KEYS.items() if fact.family not in families]
    parts.append(f"\nKeys of other model families, without effect for SDXL: {', '.join(others)}.\n")
    arguments = (KeyFact("help", "flag", False), *ARGUMENTS.values())
    parts.append(_table(TITLES["arguments"], ((fact, _fate(fact, "sd_scripts")) for fact in arguments)))
    parts.append(_table(TITLES["data"], _dataset_rows()))
    parts.append(SUBSETS)
    parts.append(_table(TITLES["onetrainer"], _onetrainer_rows()))
    return "".join(parts)


def _fate(fact: KeyFact, vocabulary: Vocabulary) -> str:
    """What the import makes of a key, in a few words."""
    name = fact.name
    if vocabulary == "kohya" and name in LEGACY:
        return f"read as `{LEGACY[name]}`" if LEGACY[name] else "read"
    if name in TOLD:
        return TOLD[name]
    if name in CONVERSIONS:
        return f"converted: {_targets(fact, vocabulary)}"
    if name in PLAIN[vocabulary]:
        return f"`{PLAIN[vocabulary][name].path}`"
    if name in COVERED:
        return f"covered: {COVERED[name]}"
    return f"refused: {REFUSED[name]}"


def _dataset_rows() -> Iterable[tuple[KeyFact, str]]:
    """The keys of data-set files: most are the arguments of that name."""
    for key, name in DATASET_ARGUMENTS.items():
        yield replace(ARGUMENTS[name], name=key), _fate(ARGUMENTS[name], "sd_scripts")
    for key in FOLDER_KEYS:
        yield KeyFact(key, "str", None), FOLDERS
    for key, why in DATASET_REFUSED.items():
        yield KeyFact(key, "str", None), f"refused: {why}"


def _onetrainer_rows() -> Iterable[tuple[KeyFact, str]]:
    """The keys of OneTrainer that are taken over; all others are told where they are not at their default."""
    for key, rule in RULES.items():
        named: dict[str, None] = {}
        for value in (DEFAULTS[key], True, 1):
            if isinstance(value, type(DEFAULTS[key])):
                named |= dict.fromkeys(filter(None, rule({**DEFAULTS, key: value}, key).shown_setting.split(", ")))
        note = rule(DEFAULTS, key).note or "read with its like"
        yield KeyFact(key, "str", DEFAULTS[key]), ", ".join(f"`{path}`" for path in named) or note
    for key, why in COVERED_THERE.items():
        yield KeyFact(key, "str", None), f"covered: {why}"


def _targets(fact: KeyFact, vocabulary: Vocabulary) -> str:
    """The settings that a rule sets or names, found by running it on its default and on other values."""
    found: dict[str, None] = {}
    for value in (documented(fact), True, 1, "1"):
        defaults = {name: documented(other) for name, other in (*ARGUMENTS.items(), *PRESET_KEYS.items())}
        if type(value) is not type(documented(fact)) and documented(fact) is not None:
            continue
        values = Values(vocabulary, {**defaults, fact.name: value}, frozenset((fact.name,)), Path())
        try:
            outcome = outcome_of(values, fact.name)
        except (TypeError, ValueError):  # a value of another type than the key's
            continue
        found |= dict.fromkeys(filter(None, outcome.shown_setting.split(", ")))
    return ", ".join(f"`{path}`" for path in found)


def _table(title: str, rows: Iterable[tuple[KeyFact, str]]) -> str:
    lines = [f"| `{fact.name}` | {_shown(documented(fact))} | {fate} |" for fact, fate in rows]
    return f"\n## {title}\n\n| key | default there | here |\n|---|---|---|\n" + "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value) or "empty"


if __name__ == "__main__":
    write_text_whole(TARGET, page())
