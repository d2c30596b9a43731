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

from engine.adapter_config import METADATA_KEY
from engine.adapter_names import UP
from engine.adapters.files import PRECISIONS, verify_file
from engine.adapters.tensorfile import kohya_hashes, write_tensors
from engine.atomic import whole_file
from engine.errors import ModelError, UserError
from engine.lora_tools.lora_file import LoraFile, LoraLayer

HISTORY = "atelier.history"
"""Metadata: a JSON list of what each tool did, the first first."""
_OUTDATED = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256", METADATA_KEY)
"""Metadata of the old weights: hashes, and the ranks and alphas of diffusers, which are folded into the matrices."""


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
            if not torch.isfinite(tensor.float()).all():
                what = f"holds numbers that are not finite (NaN or infinite) in {layer.keys[suffix]}"
                raise ModelError(f"{what}: the LoRA is broken. Choose an earlier checkpoint.", str(self.file.path))
        if layer.folded != 1:
            found[UP] = (layer.folded * found[UP].float()).to(found[UP].dtype)
        return found

    def _file(self, path: Path) -> Any:
        if path not in self._opened:
            try:
                self._opened[path] = self._stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ModelError(f"cannot be read ({error}). Copy the file again.", str(path)) from error
        return self._opened[path]


def key_of(file: LoraFile, layer: LoraLayer, suffix: str) -> str:
    """What a new file made of this one calls a tensor of a layer: as this one does.

    peft's names alone, without its configuration, are read by few programs: those become kohya's.
    """
    if file.naming == "peft":
        return f"{layer.name}.{suffix}"
    if suffix in layer.keys:
        return layer.keys[suffix]
    known, key = next(iter(layer.keys.items()))
    return key.removesuffix(known) + suffix if key.endswith(known) else f"{layer.name}.{suffix}"


def as_in_file(file: LoraFile, layer: LoraLayer, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{key in the new file: tensor} of a layer's tensors."""
    return {key_of(file, layer, suffix): tensor for suffix, tensor in tensors.items()}


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


def write_lora(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Write a LoRA file with new hashes; returns its size in bytes.

    Written beside its target, read back and compared, then renamed. UserError where a number is not finite in the
    chosen precision, where the file would be empty, where the disk refuses, or where a file of this name came up.
    """
    if not tensors:
        raise UserError("nothing is left to write, so no file was made.", str(path))
    stored = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    bad = [key for key, tensor in stored.items() if not torch.isfinite(tensor.float()).all()]
    if bad:
        kind = str(stored[bad[0]].dtype).removeprefix("torch.")
        what = f"{len(bad)} tensors ({bad[0]}, …) hold numbers that {kind} cannot hold, so nothing was written"
        raise UserError(f"{what}. Choose the precision bf16 or fp32.", str(path))
    hashes = kohya_hashes(stored, metadata)
    found = {**metadata, **hashes, "modelspec.hash_sha256": "0x" + hashes["sshs_model_hash"]}
    with whole_file(path) as part:
        write_tensors(part, stored, found)
        verify_file(part, stored, found, where=str(path))
        size_bytes = part.stat().st_size
        if path.exists():
            raise UserError("a file of this name came up meanwhile, so nothing was written. Start again.", str(path))
    return size_bytes
