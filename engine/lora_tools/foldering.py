"""A checkpoint written as a diffusers folder, tensor by tensor, and a folder's tensors for one file."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.atomic import write_text_whole
from engine.errors import ModelError
from engine.lora_tools.folder_layout import (
    PARTS,
    REST,
    Piece,
    folder_pieces,
    rest_file,
    rest_of,
    used_tensors,
    weights_file,
)
from engine.lora_tools.precision import Precision, dtype_in
from engine.lora_tools.stream import HASHES, Entry, Tell, literal, total_bytes, whole_folder, write_stream
from engine.lora_tools.tensors import in_format, narrowed, read_tensor
from engine.sdxl import configs, keys
from engine.sdxl.detect import ModelFacts, file_prediction
from engine.sdxl.folder_files import folder_texts
from engine.sdxl.parts import part_config
from engine.sdxl.safefile import TensorInfo, read_header
from engine.sdxl.writer import LOGIT_SCALE

PREDICTION = {"epsilon": "epsilon", "v_prediction": "v"}
_MARKERS = ("v_pred", "ztsnr")
LOGIT_SCALE_KEY = keys.TEXT_2_PREFIX + "logit_scale"


def write_folder(facts: ModelFacts, target: Path, precision: Precision, tell: Tell) -> None:
    """Write a model as diffusers' own pipelines load it. ModelError where a number does not fit the precision."""
    parts = folder_pieces(facts)
    files: dict[str, tuple[dict[str, Entry], dict[str, str]]] = {}
    for part, pieces in parts.items():
        entries = {name: _entry(name, piece, precision) for name, piece in pieces.items()}
        files[weights_file(part)] = entries, {"format": "pt"}
    rest = {name: in_format(info, dtype_in(info, precision), name) for name, info in rest_of(facts, parts).items()}
    metadata = _rest_metadata(facts)
    if rest or metadata:
        files[REST] = rest, metadata
    total, done = sum(total_bytes(entries) for entries, _ in files.values()), 0
    with whole_folder(target) as part:
        for name, content in (_own_texts(facts) or folder_texts(facts)).items():
            write_text_whole(part / name, content)
        for name, (entries, about) in files.items():
            write_stream(part / name, entries, about, lambda own, _, before=done: tell(before + own, total))
            done += total_bytes(entries)


def _entry(name: str, piece: Piece, precision: Precision) -> Entry:
    dtype = dtype_in(piece.info, precision)
    if not piece.transposed:
        return replace(in_format(piece.info, dtype, name), shape=piece.shape)
    return Entry(dtype, piece.shape, lambda: narrowed(read_tensor(piece.info).t(), dtype, name, str(piece.info.path)))


def _own_texts(facts: ModelFacts) -> dict[str, str]:
    """A folder's own configurations, scheduler and tokenizers, which go along; {} of a single file."""
    if facts.layout != "folder":
        return {}
    found = [path for pattern in ("*.json", "*/*.json", "*/*.txt") for path in sorted(facts.path.glob(pattern))]
    texts = [path for path in found if ".safetensors.index" not in path.name and ".bin.index" not in path.name]
    return {path.relative_to(facts.path).as_posix(): path.read_text(encoding="utf-8") for path in texts}


def folder_entries(facts: ModelFacts, precision: Precision) -> dict[str, Entry]:
    """The tensors of a diffusers folder under single-file names; q, k and v of the second text encoder are stacked.

    What the folder brought along from a single file comes back. Else there is a logit_scale, CLIP's constant, which
    folders do not have and other programs look for.
    """
    found: dict[str, list[tuple[int, TensorInfo, bool]]] = {}
    for part in PARTS:
        if getattr(facts.config, part) is None:
            continue
        tensors = used_tensors(facts, part)
        for name, source in keys.part_sources(part, tensors, part_config(facts, part)).items():
            key = _renumbered(facts, source.key)
            found.setdefault(key, []).append((source.third or 0, tensors[name], source.transposed))
    entries = {key: _stacked(key, pieces, precision) for key, pieces in found.items()}
    rest = {name: info for name, info in rest_of(facts, {}).items() if _agrees(facts) or name not in _MARKERS}
    entries |= {name: in_format(info, dtype_in(info, precision), name) for name, info in rest.items()}
    if not rest_file(facts).is_file():
        entries[_renumbered(facts, LOGIT_SCALE_KEY)] = literal("F32", (), struct.pack("<f", LOGIT_SCALE))
    return entries


def _renumbered(facts: ModelFacts, key: str) -> str:
    """The refiner's one text encoder is the first."""
    if facts.kind == "refiner" and key.startswith(keys.TEXT_2_PREFIX):
        return keys.REFINER_TEXT_PREFIX + key.removeprefix(keys.TEXT_2_PREFIX)
    return key


def _stacked(key: str, pieces: list[tuple[int, TensorInfo, bool]], precision: Precision) -> Entry:
    ordered = sorted(pieces, key=lambda piece: piece[0])
    info, transposed = ordered[0][1], ordered[0][2]
    dtype = dtype_in(info, precision)
    shape = tuple(reversed(info.shape)) if transposed else info.shape
    shape = (sum(piece[1].shape[0] for piece in ordered), *shape[1:]) if len(ordered) > 1 else shape
    if ".mid.attn_1." in key and len(shape) == 2:
        shape = (*shape, 1, 1)  # the VAE's attention projections are 1×1 convolutions there

    def content() -> Iterable[Any]:
        for _, each, turned in ordered:
            tensor = read_tensor(each)
            yield from narrowed(tensor.t() if turned else tensor, dtype, key, str(each.path))

    return Entry(dtype, shape, content)


def _rest_metadata(facts: ModelFacts) -> dict[str, str]:
    file = facts.path if facts.layout == "single_file" else rest_file(facts)
    found = read_header(file).metadata if file.is_file() else {}
    return {key: text for key, text in found.items() if key not in HASHES}


def _agrees(facts: ModelFacts) -> bool:
    """Whether what came along from a single file says the same of the prediction as the folder does today."""
    if not rest_file(facts).is_file():
        return False
    header = read_header(rest_file(facts))
    prediction, zero_terminal_snr, _ = file_prediction(header.tensors, header.metadata, str(header.path))
    return (prediction, zero_terminal_snr) == (facts.prediction, facts.zero_terminal_snr)


def single_metadata(facts: ModelFacts) -> dict[str, str]:
    """The metadata of one file made of a folder: those of old, or what shapes do not tell: prediction, noise, heads."""
    if _agrees(facts):
        return _rest_metadata(facts)
    kind = "refiner" if facts.kind == "refiner" else "base"
    found = {"modelspec.architecture": f"stable-diffusion-xl-v1-{kind}", "format": "pt"}
    if facts.prediction != "epsilon":
        found["modelspec.prediction_type"] = PREDICTION[facts.prediction]
    found |= {"ss_zero_terminal_snr": "True"} if facts.zero_terminal_snr else {}
    config = facts.config
    plain = {"norm_num_groups": configs.NORM_GROUPS}
    texts = (SimpleNamespace(**text) if text else None for text in (config.text_1, config.text_2))
    try:
        overrides = configs.overrides_of(plain | config.unet, *texts, plain | (config.vae or {}))
    except ValueError as error:
        raise ModelError(f"cannot become one file: {error}.", str(facts.path)) from error
    return found | ({configs.OVERRIDES_KEY: json.dumps(overrides)} if overrides else {})
