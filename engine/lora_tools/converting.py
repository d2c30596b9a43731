"""LoRAs and checkpoints written under other names and in other number formats, tensor by tensor."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from engine.adapter_header import PEFT_CONFIG, PEFT_FILE, AdapterHeader
from engine.atomic import write_text_whole
from engine.errors import ModelError
from engine.lora_tools.checkpoint_checks import is_odd
from engine.lora_tools.foldering import folder_entries, single_metadata, write_folder
from engine.lora_tools.precision import DTYPES, FLOATING, Precision, dtype_in
from engine.lora_tools.renaming import Renamed, rename
from engine.lora_tools.stream import HASHES, Entry, Tell, kohya_hashes, whole_folder, write_stream
from engine.lora_tools.tensors import in_format, narrowed
from engine.sdxl.detect import ModelFacts
from engine.sdxl.safefile import read_header
from engine.sdxl.weights import TORCH_DTYPES


def convert_adapter(header: AdapterHeader, target: Path, naming: str, precision: Precision, tell: Tell) -> None:
    """Write a LoRA under other names. ModelError for what is broken, has no name there, or does not fit its format."""
    _refuse_odd(header)
    wanted: Any = header.naming if naming == "same" else naming
    files = {folder: _narrow(file, precision, str(header.path)) for folder, file in rename(header, wanted).items()}
    if "" in files:
        write_stream(target, files[""].entries, files[""].metadata, tell)
        return
    with whole_folder(target) as part:
        for folder, file in files.items():
            write_stream(part / folder / PEFT_FILE, file.entries, file.metadata, tell)
            if file.config:
                write_text_whole(part / folder / PEFT_CONFIG, file.config)


def convert_checkpoint(facts: ModelFacts, target: Path, layout: str, precision: Precision, tell: Tell) -> None:
    """Write a model as one file or as a folder. ModelError where a number does not fit the precision."""
    if layout == "folder":
        write_folder(facts, target, precision, tell)
    elif facts.layout == "folder":
        write_stream(target, folder_entries(facts, precision), single_metadata(facts), tell)
    else:
        header = read_header(facts.path)
        entries = {name: in_format(info, dtype_in(info, precision), name) for name, info in header.tensors.items()}
        metadata = {key: text for key, text in header.metadata.items() if key not in HASHES}
        write_stream(target, entries, metadata, tell)


def _refuse_odd(header: AdapterHeader) -> None:
    for layer, held in header.layers.items():
        if any(is_odd(info) for info in held.values()):
            what = f"holds numbers that are not finite (NaN or infinite), in {layer}. Choose an earlier checkpoint."
            raise ModelError(what, str(header.path))


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
