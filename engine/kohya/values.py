"""What a foreign file says, cleaned: the documented type and default of every key, and the values in force.

`PRESET_KEYS` are the keys of kohya_ss LoRA presets, `ARGUMENTS` those of sd-scripts' SDXL LoRA trainer.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.settings import Setting

Vocabulary = Literal["kohya", "sd_scripts"]
_HERE = Path(__file__).parent
_NUMBERS = ("number", "int", "float")
_FLAGS = ("bool", "flag", "bool|string")


@dataclass(frozen=True)
class KeyFact:
    """A key of another trainer: type ("number", "bool", "flag", "int" …), documented default and the rest."""

    name: str
    type: str
    default: Any
    argument: str = ""
    family: str = "sdxl"
    label: str = ""
    list: bool = False


def _facts(file: str) -> dict[str, KeyFact]:
    content = json.loads((_HERE / file).read_text(encoding="utf-8"))
    return {name: KeyFact(name, **about) for name, about in content.items()}


PRESET_KEYS: dict[str, KeyFact] = _facts("preset_keys.json")
ARGUMENTS: dict[str, KeyFact] = _facts("arguments.json")
# What sd-scripts does where an argument that has no default value is left out
UNSET: dict[str, Any] = {
    "adaptive_noise_scale": 0,
    "caption_dropout_every_n_epochs": 0,
    "ip_noise_gamma": 0,
    "max_timestep": 1000,
    "max_token_length": 75,
    "min_snr_gamma": 0,
    "min_timestep": 0,
    "multires_noise_iterations": 0,
    "network_dim": 4,
    "noise_offset": 0,
    "output_name": "last",
    "sample_every_n_epochs": 0,
    "sample_every_n_steps": 0,
    "save_every_n_epochs": 0,
    "save_every_n_steps": 0,
    "save_precision": "float",
    "v_pred_like_loss": 0,
    "vae": "",
}
# Empty text in these means "as learning_rate", not the form's default
RATES = ("unet_lr", "text_encoder_lr")
SECRETS = re.compile(r"(^|_)(api_key|token|password|secret)(_textbox)?$")
HIDDEN = "(not shown)"


class Unreadable(ValueError):  # noqa: N818 - says what the value is
    """A value is not of the key's type; the text says what was expected."""


@dataclass
class Values:
    """The values in force while a file is read, by key.

    `given` are the keys that the file itself holds, `options` those that its additional_parameters set: they reach
    sd-scripts whatever the form of kohya_ss leaves out.
    """

    vocabulary: Vocabulary
    effective: dict[str, Any]
    given: frozenset[str]
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    options: set[str] = field(default_factory=set)

    def __getitem__(self, key: str) -> Any:
        return self.effective.get(key)

    def default(self, key: str) -> Any:
        """The documented default of a key."""
        facts = PRESET_KEYS if self.vocabulary == "kohya" and key in PRESET_KEYS else ARGUMENTS
        return documented(facts[key]) if key in facts else None

    @property
    def is_kohya(self) -> bool:
        return self.vocabulary == "kohya"


def documented(fact: KeyFact) -> Any:
    """The default of a key, with what the trainer does where there is none."""
    return UNSET.get(fact.name) if fact.default is None else fact.default


def clean(value: Any, fact: KeyFact) -> Any:
    """The value in the key's own type: "10.0" is 10, "True" is true, empty text is the default. Raises Unreadable."""
    if fact.list:
        return None if value is None else _listed(value, fact)
    if value is None or (isinstance(value, str) and not value.strip() and fact.type != "string"):
        return None if fact.name in RATES else documented(fact)
    if fact.type in _FLAGS:
        return _flag(value)
    if fact.type in _NUMBERS:
        return _number(value)
    if fact.type == "int_or_float":
        return value.strip() if isinstance(value, str) and value.strip().endswith("%") else _number(value)
    if fact.name == "xformers" and isinstance(value, bool):
        return "xformers" if value else "none"
    if isinstance(value, str):
        return value if value.strip() else documented(fact)
    if isinstance(value, dict):
        raise Unreadable("text")
    return value if isinstance(value, list) else str(value)


def _listed(value: Any, fact: KeyFact) -> list[Any]:
    parts = value if isinstance(value, list) else [value]
    return [_number(part) for part in parts] if fact.type in _NUMBERS else [str(part) for part in parts]


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise Unreadable("true or false")


def _number(value: Any) -> int | float:
    if value is True or isinstance(value, (list, dict)):
        raise Unreadable("a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise Unreadable("a number") from None
    if not math.isfinite(number):
        raise Unreadable("a finite number")
    return int(number) if number.is_integer() else number


def same(raw: Any, value: Any) -> bool:
    """Whether the file's value is the cleaned one, type included (1 and 1.0 are the same number)."""
    if isinstance(raw, bool) or isinstance(value, bool):
        return raw is value
    return raw == value and (type(raw) is type(value) or _both_numbers(raw, value))


def _both_numbers(one: Any, other: Any) -> bool:
    return isinstance(one, (int, float)) and isinstance(other, (int, float))


def allows(item: Setting, value: float) -> bool:
    """Whether a number lies above the setting's lower limit."""
    if item.low is None:
        return True
    return value > item.low if item.exclusive_low else value >= item.low
