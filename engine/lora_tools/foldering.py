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
    LOGIT_SCALE_KEY,
    REST,
    Piece,
    Stack,
    folder_pieces,
    rest_agrees,
    rest_file,
    rest_of,
    single_key,
    single_stacks,
    weights_file,
)
from engine.lora_tools.precision import Precision, dtype_in
from engine.lora_tools.stream import HASHES, Entry, Tell, copied, literal, total_bytes, whole_folder, write_stream
from engine.lora_tools.tensors import in_format, narrowed, read_tensor
from engine.sdxl import configs
from engine.sdxl.detect import PREDICTION_KEYS, ModelFacts
from engine.sdxl.folder_files import folder_texts
from engine.sdxl.safefile import read_header
from engine.sdxl.writer import LOGIT_SCALE

PREDICTION = {"epsilon": "epsilon", "v_prediction": "v"}
_OWN_TEXTS = ("*.json", "*.md", "LICENSE*", "*/*.json", "*/*.txt")


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
    """A folder's own configurations, scheduler, tokenizers, card and licence, which go along; {} of a single file."""
    if facts.layout != "folder":
        return {}
    found = [path for pattern in _OWN_TEXTS for path in sorted(facts.path.glob(pattern))]
    texts = [path for path in found if ".safetensors.index" not in path.name and ".bin.index" not in path.name]
    return {path.relative_to(facts.path).as_posix(): _text(path) for path in texts}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read ({error}). Check the disk and the file.", str(path)) from error


def folder_entries(facts: ModelFacts, precision: Precision) -> dict[str, Entry]:
    """The tensors of a diffusers folder under single-file names; q, k and v of the second text encoder are stacked.

    What the folder brought along from a single file comes back. Else there is a logit_scale, CLIP's constant, which
    folders do not have and other programs look for.
    """
    entries = {
        key: stack_entry(key, stack, dtype_in(stack.infos[0], precision)) for key, stack in single_stacks(facts).items()
    }
    rest = rest_of(facts, {})
    entries |= {name: in_format(info, dtype_in(info, precision), name) for name, info in rest.items()}
    if not rest_file(facts).is_file():
        entries[single_key(facts, LOGIT_SCALE_KEY)] = literal("F32", (), struct.pack("<f", LOGIT_SCALE))
    return entries


def stack_entry(key: str, stack: Stack, dtype: str) -> Entry:
    """A tensor of one file to write out of a folder's parameters, in a format."""

    def content() -> Iterable[Any]:
        for info in stack.infos:
            if info.dtype == dtype and not stack.transposed:
                yield from copied(info).content()
                continue
            tensor = read_tensor(info)
            yield from narrowed(tensor.t() if stack.transposed else tensor, dtype, key, str(info.path))

    return Entry(dtype, stack.shape, content)


def _rest_metadata(facts: ModelFacts) -> dict[str, str]:
    file = facts.path if facts.layout == "single_file" else rest_file(facts)
    found = read_header(file).metadata if file.is_file() else {}
    return {key: text for key, text in found.items() if key not in HASHES}


def single_metadata(facts: ModelFacts) -> dict[str, str]:
    """The metadata of one file made of a folder: what came along, and what shapes do not tell.

    What came along about the prediction counts only where the folder still says the same.
    """
    kept = _rest_metadata(facts)
    if rest_agrees(facts):
        return kept
    kind = "refiner" if facts.kind == "refiner" else "base"
    found = {key: text for key, text in kept.items() if key not in (*PREDICTION_KEYS, configs.OVERRIDES_KEY)}
    found |= {"modelspec.architecture": f"stable-diffusion-xl-v1-{kind}", "format": "pt"}
    if facts.prediction != "epsilon":
        found["modelspec.prediction_type"] = PREDICTION[facts.prediction]
    found |= {"ss_zero_terminal_snr": "True"} if facts.zero_terminal_snr else {}
    config = facts.config
    plain = {"norm_num_groups": configs.NORM_GROUPS}
    text_1, text_2 = (SimpleNamespace(**text) if text else None for text in (config.text_1, config.text_2))
    try:
        overrides = configs.overrides_of(plain | config.unet, text_1, text_2, plain | (config.vae or {}))
    except ValueError as error:
        raise ModelError(f"cannot become one file: {error}.", str(facts.path)) from error
    return found | ({configs.OVERRIDES_KEY: json.dumps(overrides)} if overrides else {})
