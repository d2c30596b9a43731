"""Layers of LoRA files read one at a time, and new files written: whole or not at all, with metadata and new hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.adapter_config import METADATA_KEY, peft_config, write_configs
from engine.adapter_header import PEFT_CONFIG, PEFT_FILE
from engine.adapter_names import FOLDERS
from engine.adapters.files import PRECISIONS, verify_file
from engine.adapters.tensorfile import kohya_hashes, write_tensors
from engine.atomic import whole_file, write_text_whole
from engine.errors import ModelError, UserError
from engine.finite import is_finite
from engine.lora_tools.lora_file import LoraFile, LoraLayer
from engine.lora_tools.naming_note import NOTE
from engine.lora_tools.spelling import Spelling, Spelt, spelt
from engine.lora_tools.stream import HASHES, whole_folder

HISTORY = "atelier.history"
"""Metadata: a JSON list of what each tool did, the first first."""
KOHYA = Spelling()
_OUTDATED = (*HASHES, METADATA_KEY, NOTE)
"""Metadata of the old weights: hashes, the ranks and alphas of diffusers, which are written anew, and what would lead
back to another file."""


class LayerReader:
    """The tensors of a file's layers, read when they are asked for. Use it in a `with` block."""

    def __init__(self, file: LoraFile) -> None:
        self.file = file
        self._opened: dict[Path, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> LayerReader:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def tensors(self, layer: LoraLayer) -> dict[str, Tensor]:
        """{suffix: tensor} with the single numbers, as the file has them. ModelError where a number is not finite."""
        found = {suffix: self._file(info.path).get_tensor(layer.keys[suffix]) for suffix, info in layer.places.items()}
        for suffix, tensor in found.items():
            if not is_finite(tensor):
                what = f"holds numbers that are not finite (NaN or infinite) in {layer.keys[suffix]}"
                raise ModelError(f"{what}: the LoRA is broken. Choose an earlier checkpoint.", str(self.file.path))
        told = {suffix: torch.tensor(value) for suffix, value in layer.scalars.items() if suffix not in layer.places}
        return found | told

    def _file(self, path: Path) -> Any:
        if path not in self._opened:
            try:
                self._opened[path] = self._stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ModelError(f"cannot be read ({error}). Copy the file again.", str(path)) from error
        return self._opened[path]


def by_name(layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{our name: tensor} of a layer's tensors."""
    return {f"{layer.name}.{suffix}": tensor for suffix, tensor in tensors.items()}


def in_precision(tensors: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """The matrices in this number format, single numbers as they are; "same": all as they are."""
    if precision == "same":
        return dict(tensors)
    dtype = PRECISIONS[precision]  # pyright: ignore[reportArgumentType]
    return {key: tensor.to(dtype) if tensor.dim() else tensor for key, tensor in tensors.items()}


def seed_of(seed: int, name: str) -> int:
    """A seed for each layer: a function of the seed and the name alone, whatever was computed before."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "little")


def with_history(
    metadata: Mapping[str, str], tool: str, sources: Mapping[Path, Mapping[str, str]], **facts: Any
) -> dict[str, str]:
    """The metadata with what was done, without what told of the old weights. `sources`: {file: its metadata}."""
    found = {key: text for key, text in metadata.items() if key not in _OUTDATED}
    made_from = [{"file": path.name, "hash": own.get("sshs_model_hash", "")[:12]} for path, own in sources.items()]
    earlier = _history(metadata.get(HISTORY, ""))
    return found | {HISTORY: json.dumps([*earlier, {"tool": tool, "from": made_from, **facts}], ensure_ascii=False)}


def _history(text: str) -> list[Any]:
    try:
        found = json.loads(text or "[]")
    except ValueError:  # another program's entry of this name: it is kept as a text
        return [text]
    return found if isinstance(found, list) else [found]


def write_lora(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], spelling: Spelling = KOHYA
) -> int:
    """Write a LoRA, {our name: tensor}, with new hashes under a file's names; returns its size in bytes.

    `path`: a file, or for the names of peft a folder. Written beside its target, read back and compared, then renamed.
    UserError where a number is not finite in the chosen precision, where the file would be empty, where the disk
    refuses, or where a file of this name came up.
    """
    if not tensors:
        raise UserError("nothing is left to write, so no file was made.", str(path))
    stored = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    bad = [key for key, tensor in stored.items() if not is_finite(tensor)]
    if bad:
        kind = str(stored[bad[0]].dtype).removeprefix("torch.")
        what = f"{len(bad)} tensors ({bad[0]}, …) hold numbers that {kind} cannot hold, so nothing was written"
        raise UserError(f"{what}. Choose the precision bf16 or fp32.", str(path))
    found = spelt(stored, spelling)
    if spelling.naming == "peft":
        return _write_folder(path, found, metadata, spelling.is_flat and len(found.parts) == 1)
    about = {METADATA_KEY: write_configs(found.configs)} if found.configs else {}
    return _write_file(path, {key: t for own in found.parts.values() for key, t in own.items()}, {**metadata, **about})


def _write_file(path: Path, stored: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    hashes = kohya_hashes(stored, metadata)
    found = {**metadata, **hashes, "modelspec.hash_sha256": "0x" + hashes["sshs_model_hash"]}
    with whole_file(path) as part:
        write_tensors(part, stored, found)
        verify_file(part, stored, found, where=str(path))
        size_bytes = part.stat().st_size
        if path.exists():
            raise UserError("a file of this name came up meanwhile, so nothing was written. Start again.", str(path))
    return size_bytes


def _write_folder(path: Path, found: Spelt, metadata: Mapping[str, str], is_flat: bool) -> int:
    """As peft saves it: a folder for each part, with the ranks and alphas beside the tensors."""
    size_bytes = 0
    with whole_folder(path) as whole:
        for part, tensors in found.parts.items():
            folder = whole if is_flat else whole / FOLDERS[part]
            size_bytes += _write_file(folder / PEFT_FILE, tensors, metadata)
            write_text_whole(folder / PEFT_CONFIG, peft_config(found.configs.get(part, {})))
    return size_bytes
