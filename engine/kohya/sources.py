"""What a file is: preset of kohya_ss or OneTrainer, arguments or data set of sd-scripts; all else is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import UserError
from engine.kohya.values import ARGUMENTS, PRESET_KEYS
from engine.preset import SECTIONS
from engine.toml_text import parse_toml

Kind = Literal["preset", "arguments", "data set", "onetrainer"]
NAMES: dict[Kind, str] = {
    "preset": "a kohya_ss LoRA preset",
    "arguments": "an sd-scripts configuration",
    "data set": "an sd-scripts data-set configuration",
    "onetrainer": "a OneTrainer preset",
}
_CAN_READ = "Atelier reads LoRA presets of kohya_ss and OneTrainer (.json) and sd-scripts configurations (.toml)."
_ONETRAINER = (
    "__version", "training_method", "model_type", "base_model_name", "concept_file_name", "learning_rate_scheduler",
    "lora_rank", "peft_type",
)  # fmt: skip
# Keys that only presets of another tab of kohya_ss have → the tab
_TABS = {
    "num_vectors_per_token": "textual inversion", "token_string": "textual inversion", "init_word": "textual inversion",
    "caption_metadata_filename": "fine-tuning", "latent_metadata_filename": "fine-tuning", "full_path": "fine-tuning",
    "image_folder": "fine-tuning",
}  # fmt: skip
# Keys of the DreamBooth tab; single ones strayed into LoRA presets
_DREAMBOOTH = ("learning_rate_te", "learning_rate_te1", "learning_rate_te2", "no_token_padding")
_LORA_KEYS = ("LoRA_type", "network_dim", "network_alpha", "unet_lr", "text_encoder_lr", "conv_dim")
_FAMILIES = {
    "v2": "Stable Diffusion 2",
    "flux1_checkbox": "Flux", "sd3_checkbox": "Stable Diffusion 3", "hunyuan_image_checkbox": "HunyuanImage",
    "anima_checkbox": "Anima", "lumina_checkbox": "Lumina",
}  # fmt: skip
_FAMILY_TYPES = ("flux1", "lumina", "anima", "hunyuanimage")


@dataclass(frozen=True)
class Source:
    """A foreign file: what it is, its keys and values (sections flattened), where it lies; `other_model`: not SDXL."""

    kind: Kind
    content: dict[str, Any]
    path: Path
    other_model: str = ""


def open_source(path: Path) -> Source:
    """Read a file and tell what it is. Raises UserError with the reason if it cannot be imported."""
    content, is_toml = _parsed(path)
    if not isinstance(content, dict):
        raise UserError(f"this is no preset: it holds no names with values. {_CAN_READ}", str(path))
    kind = _kind_of(content, is_toml, path)
    if kind == "arguments":
        content = _flat(content)
    return Source(kind, content, path, "" if kind in ("data set", "onetrainer") else _other_model(content))


def _parsed(path: Path) -> tuple[Any, bool]:
    """The file's content, and whether it is TOML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError("there is no such file. Check the name and the folder.", str(path)) from None
    except IsADirectoryError:
        raise UserError("this is a folder. Give the preset file itself.", str(path)) from None
    except UnicodeDecodeError:
        raise UserError(f"this file is not text, so it is no preset. {_CAN_READ}", str(path)) from None
    except OSError as error:
        raise UserError(f"the file cannot be read ({error.strerror}).", str(path)) from None
    if path.suffix.lower() == ".toml" or (path.suffix.lower() != ".json" and not text.lstrip().startswith("{")):
        try:
            return parse_toml(text), True
        except ValueError as error:
            raise UserError(f"this is not valid TOML: {error}. Correct that place.", str(path)) from None
    try:
        return json.loads(text), False
    except json.JSONDecodeError as error:
        what = f"this is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}. Correct that place."
        raise UserError(what, str(path)) from None
    except RecursionError:
        raise UserError(f"this is nested too deeply to be a preset. {_CAN_READ}", str(path)) from None


def _kind_of(content: dict[str, Any], is_toml: bool, path: Path) -> Kind:
    if isinstance(content.get("datasets"), list):
        return "data set"
    if sum(name in content for name in _ONETRAINER) >= 2:
        return "onetrainer"
    if sum(isinstance(content.get(name), dict) for name in SECTIONS) and not is_toml:
        raise UserError("this is a preset of Atelier itself. Train with it as it is.", str(path))
    if is_toml:
        flat = _flat(content)
        known = sum(name in ARGUMENTS for name in flat)
        if known and known * 2 >= len(flat):
            return "arguments"
    elif known := sum(name in PRESET_KEYS for name in content):
        tab = _tab(content)
        if tab and not any(name in content for name in _LORA_KEYS):
            raise UserError(f"this is a kohya_ss preset for {tab}, not for a LoRA. {_CAN_READ}", str(path))
        if known * 2 >= len(content):
            return "preset"
    raise UserError(f"this is neither a kohya_ss preset nor an sd-scripts configuration. {_CAN_READ}", str(path))


def _tab(content: Mapping[str, Any]) -> str:
    """The other tab of kohya_ss that a preset is from, if its keys tell."""
    named = [tab for name, tab in _TABS.items() if name in content]
    if sum(name in content for name in _DREAMBOOTH) >= 3:
        named.append("DreamBooth")
    return named[0] if named else ""


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without their sections, whose names sd-scripts ignores too; a later one wins."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat.update(_flat(value) if isinstance(value, Mapping) else {name: value})
    return flat


def _other_model(content: Mapping[str, Any]) -> str:
    """The model that the file was made for, if that is not SDXL."""
    for key, family in _FAMILIES.items():
        if _is_true(content.get(key)):
            return family
    if str(content.get("LoRA_type", "")).lower().startswith(_FAMILY_TYPES):
        return str(content["LoRA_type"])
    named = str(content.get("pretrained_model_name_or_path") or "").strip()
    if _is_false(content.get("sdxl", content.get("sdxl_checkbox"))) and named:
        return "Stable Diffusion 1.5"
    return ""


def _is_true(value: Any) -> bool:
    return value is True or str(value).strip().lower() == "true"


def _is_false(value: Any) -> bool:
    return value is False or str(value).strip().lower() == "false"
