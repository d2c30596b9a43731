"""Diffusers folders (model_index.json, one sub-folder a part), read from configurations and headers alone; no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.sdxl.configs import BOS_ID, EOS_ID, Config
from engine.sdxl.safefile import PICKLE_SUFFIXES, TensorInfo, pickle_sentence, read_header

PART_FOLDERS = {"unet": "unet", "text_1": "text_encoder", "text_2": "text_encoder_2", "vae": "vae"}
WEIGHTS_STEMS = ("diffusion_pytorch_model", "model")
LARGEST_JSON_BYTES = 50_000_000
_TEXT_SETTINGS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "projection_dim", "hidden_act", "layer_norm_eps",
)  # fmt: skip
_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}


@dataclass(frozen=True)
class Folder:
    """A diffusers folder of SDXL: the configuration of each part that is there, and of the scheduler."""

    path: Path
    configs: dict[str, Config]
    scheduler: dict[str, Any]
    size_bytes: int


def read_folder(path: Path) -> Folder:
    """Read a diffusers folder's configurations and check its headers. ModelError for any folder that is no SDXL."""
    if not (path / "model_index.json").is_file():
        raise ModelError(_no_index(path), str(path))
    index = read_json(path / "model_index.json")
    configs: dict[str, Config] = {}
    for part, name in PART_FOLDERS.items():
        if (path / name).is_dir() and _listed(index, name):
            configs[part] = _part_config(part, path / name)
    if "unet" not in configs:
        raise ModelError(
            f"is a diffusers model without UNet ({index.get('_class_name')}). Choose an SDXL folder.", str(path)
        )
    _refuse_other_family(configs["unet"], index, str(path))
    if "text_1" not in configs and _listed(index, "text_encoder"):
        raise ModelError("lacks the first text encoder (text_encoder). Download the folder again, whole.", str(path))
    scheduler_path = path / "scheduler" / "scheduler_config.json"
    scheduler = read_json(scheduler_path) if scheduler_path.is_file() else {}
    files = {info.path for part in configs for info in part_tensors(path / PART_FOLDERS[part]).values()}
    return Folder(path, configs, scheduler, sum(file.stat().st_size for file in files))


def _listed(index: dict[str, Any], name: str) -> bool:
    """A part that the folder does not have is listed as [null, null]."""
    entry = index.get(name)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def _no_index(path: Path) -> str:
    what = "is a folder, but not a diffusers model (it has no model_index.json). "
    files = sorted(file.name for file in path.glob("*.safetensors"))
    if (path.parent / "model_index.json").is_file():
        return what + f"Choose the folder above it: {path.parent}."
    if files:
        return what + f"Choose a file in it, such as {files[0]}."
    return what + "Choose a .safetensors checkpoint or the folder that holds model_index.json."


def _refuse_other_family(unet: Config, index: dict[str, Any], where: str) -> None:
    if unet.get("addition_embed_type") == "text_time" and _listed(index, "text_encoder_2"):
        return
    name = index.get("_class_name")
    width = unet.get("cross_attention_dim")
    family = _FAMILIES.get(width, "") if isinstance(width, int) else ""
    raise ModelError(
        f"is a {family or 'diffusers'} model ({name}), not SDXL. Choose an SDXL checkpoint or folder.", where
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ModelError where it is none."""
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ModelError("is far too large for a configuration. Download the folder again.", str(path))
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot be read ({error}). Download the folder again, whole.", str(path)) from error
    if not isinstance(found, dict):
        raise ModelError("is not a configuration (no JSON object). Download the folder again, whole.", str(path))
    return found


def _part_config(part: str, folder: Path) -> Config:
    if not (folder / "config.json").is_file():
        raise ModelError("lacks its config.json. Download the folder again, whole.", str(folder))
    raw = read_json(folder / "config.json")
    if part in ("text_1", "text_2"):
        missing = [name for name in ("vocab_size", "hidden_size", "num_hidden_layers") if name not in raw]
        if missing:
            raise ModelError(f"lacks {missing[0]!r}. Download the folder again, whole.", str(folder / "config.json"))
        config = {name: raw[name] for name in _TEXT_SETTINGS if name in raw}
        # old files name other ids here than the tokenizers give; ours are the tokenizers'
        return {
            **config,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": 0 if part == "text_2" else EOS_ID,
        }
    return {name: value for name, value in raw.items() if not name.startswith("_")}


def part_tensors(folder: Path) -> dict[str, TensorInfo]:
    """All tensors of one part: a single file, an fp16 variant or shards. ModelError if there is none."""
    for stem in WEIGHTS_STEMS:
        for file in _candidates(folder, stem):
            if file.suffix == ".safetensors":
                return read_header(file).tensors
            return _sharded(file)
    pickles = sorted(file for file in folder.glob("*") if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise pickle_sentence(pickles[0])
    raise ModelError("holds no weights (.safetensors). Download the folder again, whole.", str(folder))


def _candidates(folder: Path, stem: str) -> list[Path]:
    """Full precision before variants (fp16, bf16), a single file before shards."""
    plain = [folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"]
    variants = sorted(folder.glob(f"{stem}.*.safetensors")) + sorted(folder.glob(f"{stem}.*.index*.json"))
    return [file for file in [*plain, *variants] if file.is_file()]


def _sharded(index: Path) -> dict[str, TensorInfo]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise ModelError("lists no shards. Download the folder again, whole.", str(index))
    tensors: dict[str, TensorInfo] = {}
    for name in sorted(set(weight_map.values())):
        if Path(name).name != name:
            raise ModelError(f"names a shard outside of its folder (got {name!r}).", str(index))
        tensors.update(read_header(index.parent / name).tensors)
    missing = sorted(set(weight_map) - set(tensors))
    if missing:
        raise ModelError(
            f"lists the tensor {missing[0]!r}, which no shard holds. Download the folder again.", str(index)
        )
    return tensors
