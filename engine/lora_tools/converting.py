"""LoRAs and checkpoints written under other names and in other number formats, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.adapter_header import PEFT_CONFIG, PEFT_FILE, AdapterHeader
from engine.atomic import write_text_whole
from engine.errors import ModelError
from engine.lora_tools.precision import DTYPES, FLOATING, Precision, dtype_in
from engine.lora_tools.renaming import Renamed, rename
from engine.lora_tools.stream import HASHES, Entry, Tell, kohya_hashes, whole_folder, write_stream
from engine.lora_tools.tensors import in_format, narrowed, read_tensor
from engine.sdxl import keys
from engine.sdxl.detect import ModelFacts
from engine.sdxl.parts import Part, left_alone, local_tensors, part_config
from engine.sdxl.safefile import TensorInfo, read_header
from engine.sdxl.weights import TORCH_DTYPES

PREDICTION = {"epsilon": "epsilon", "v_prediction": "v"}


def convert_adapter(header: AdapterHeader, target: Path, naming: str, precision: Precision, tell: Tell) -> None:
    """Write a LoRA under other names. ModelError for what has no name there, or does not fit the precision."""
    wanted: Any = header.naming if naming == "same" else naming
    files = {folder: _narrow(file, precision, str(header.path)) for folder, file in rename(header, wanted).items()}
    if "" in files:
        write_stream(target, files[""].entries, files[""].metadata, tell)
        return
    if target.is_dir():
        target.rmdir()  # an empty one, or it would have been refused
    with whole_folder(target) as part:
        for folder, file in files.items():
            write_stream(part / folder / PEFT_FILE, file.entries, file.metadata, tell)
            if file.config:
                write_text_whole(part / folder / PEFT_CONFIG, file.config)


def convert_checkpoint(facts: ModelFacts, target: Path, precision: Precision, tell: Tell) -> None:
    """Write a model as one file. ModelError where a number does not fit the precision."""
    if facts.layout == "single_file":
        header = read_header(facts.path)
        entries = {name: in_format(info, dtype_in(info, precision), name) for name, info in header.tensors.items()}
        metadata = {key: text for key, text in header.metadata.items() if key not in HASHES}
        write_stream(target, entries, metadata, tell)
        return
    write_stream(target, folder_entries(facts, precision), _said(facts), tell)


def folder_entries(facts: ModelFacts, precision: Precision) -> dict[str, Entry]:
    """The tensors of a diffusers folder under single-file names; q, k and v of the second text encoder are stacked."""
    found: dict[str, list[tuple[int, TensorInfo, bool]]] = {}
    parts: tuple[Part, ...] = ("unet", "text_1", "text_2", "vae")
    for part in parts:
        if getattr(facts.config, part) is None:
            continue
        tensors = {name: info for name, info in local_tensors(facts, part).items() if not left_alone(part, name)}
        for name, source in keys.part_sources(part, tensors, part_config(facts, part)).items():
            found.setdefault(source.key, []).append((source.third or 0, tensors[name], source.transposed))
    return {key: _stacked(key, pieces, precision) for key, pieces in found.items()}


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


def _said(facts: ModelFacts) -> dict[str, str]:
    """What shapes do not tell: prediction and noise schedule."""
    found = {"modelspec.architecture": "stable-diffusion-xl-v1-base", "format": "pt"}
    if facts.prediction != "epsilon":
        found["modelspec.prediction_type"] = PREDICTION[facts.prediction]
    return found | ({"ss_zero_terminal_snr": "True"} if facts.zero_terminal_snr else {})


def _narrow(file: Renamed, precision: Precision, where: str) -> Renamed:
    """The matrices in the precision; single numbers stay as they are."""
    if precision == "same":
        return file
    dtype = DTYPES[precision]
    entries = {
        name: Entry(dtype, entry.shape, partial(_converted, name, entry, dtype, where))
        if entry.dtype in FLOATING and entry.dtype != dtype and not name.endswith(".alpha")
        else entry
        for name, entry in file.entries.items()
    }
    held = [key for key in HASHES if key in file.metadata]
    metadata = {key: text for key, text in file.metadata.items() if key not in HASHES}
    made = kohya_hashes(entries, metadata) if held else {}
    return Renamed(entries, metadata | {key: made[key] for key in held}, file.config)


def _converted(name: str, entry: Entry, dtype: str, where: str) -> list[Any]:
    content = bytearray(b"".join(bytes(piece) for piece in entry.content()))
    if not content:
        return []
    if entry.dtype not in TORCH_DTYPES:
        raise ModelError(f"holds numbers in the format {entry.dtype}, which cannot be converted.", where)
    return narrowed(torch.frombuffer(content, dtype=TORCH_DTYPES[entry.dtype]), dtype, name, where)
