"""A LoRA file under the names of another program, bit by bit, so that the way back gives the same file. Torch-free.

What the new naming cannot hold (number formats of the alphas, odd spellings, that there were hashes) is noted in the
metadata (naming_note.py); the way back reads the note and drops it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.adapter_config import METADATA_KEY, LayerScale, make_config, peft_config, write_configs
from engine.adapter_header import AdapterHeader, packed_number
from engine.adapter_names import (
    ALPHA,
    DOTTED,
    DOWN,
    FOLDERS,
    MAGNITUDE,
    UP,
    Key,
    Naming,
    kohya_layer,
    part_of,
    path_of,
    spell,
)  # fmt: skip
from engine.errors import ModelError
from engine.lora_tools.naming_note import NOTE, Note, make_note, read_note
from engine.lora_tools.stream import HASHES, Entry, copied, kohya_hashes, literal
from engine.sdxl.layers import UNET
from engine.sdxl.safefile import TensorInfo

WORDS = {"kohya": "kohya", "lycoris": "LyCORIS", "diffusers": "diffusers", "diffusers_old": "diffusers", "peft": "peft"}


@dataclass(frozen=True)
class Renamed:
    """A file to write; `config`: what stands beside it in adapter_config.json, "" for nothing."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    config: str = ""


@dataclass
class _Way:
    """From a file to a naming: what is known on the way."""

    header: AdapterHeader
    target: Naming
    note: Note

    @property
    def is_back(self) -> bool:
        return self.note.naming == self.target

    @property
    def layers_per_block(self) -> int:
        return self.note.layers_per_block if self.note.naming else self.header.layers_per_block

    def name(self, key: Key) -> str:
        spelt = spell(key, self.target, self.layers_per_block)
        if spelt is None:
            raise _unnameable(self, key)
        return self.note.name(key, spelt) if self.is_back else spelt


def rename(header: AdapterHeader, target: Naming) -> dict[str, Renamed]:
    """{folder: file} under the names of `target`: "" for a single file, the parts' folders for peft.

    ModelError, in a sentence, for what the target has no name for.
    """
    way = _Way(header, target, read_note(header))
    if target == header.naming and not way.is_back:  # on the way back all names may be the same in both
        return _as_it_is(header)
    parts = _entries(way)
    metadata = {key: text for key, text in header.metadata.items() if key not in (*HASHES, NOTE, METADATA_KEY)}
    if not way.is_back:
        metadata[NOTE] = (way.note if way.note.naming else make_note(header)).text()
    if target in DOTTED:
        configs = _configs(way)
        if target == "peft":
            held = [part for part in FOLDERS if parts.get(part)]
            return {
                FOLDERS[part]: Renamed(parts[part], metadata if part == held[0] else {}, configs.get(part, ""))
                for part in held
            }
        if any(configs.values()):
            metadata[METADATA_KEY] = configs["*"] if "*" in configs else write_configs(_made_configs(way))
    elif METADATA_KEY in header.metadata and not (way.is_back or header.naming in DOTTED):
        metadata[METADATA_KEY] = header.metadata[METADATA_KEY]
    entries = {name: entry for own in parts.values() for name, entry in own.items()}
    return {"": Renamed(entries, _with_hashes(way, entries, metadata))}


def _as_it_is(header: AdapterHeader) -> dict[str, Renamed]:
    parts: dict[str, dict[str, Entry]] = {}
    for key, name in header.names.items():
        folder = FOLDERS[part_of(key.layer) or UNET] if header.naming == "peft" else ""
        parts.setdefault(folder, {})[name] = copied(header.layers[key.layer][key.suffix])
    configs = {FOLDERS[part]: peft_config(config) for part, config in header.configs.items()}
    first = next(iter(parts))
    return {
        folder: Renamed(own, header.metadata if folder == first else {}, configs.get(folder, ""))
        for folder, own in parts.items()
    }


def _entries(way: _Way) -> dict[str, dict[str, Entry]]:
    """{part: {name: tensor}}: names of peft are told apart by their folders alone."""
    header = way.header
    parts: dict[str, dict[str, Entry]] = {}
    for layer, held in header.layers.items():
        named, found = kohya_layer(layer, way.layers_per_block), parts.setdefault(part_of(layer) or "", {})
        for suffix, info in held.items():
            if suffix == ALPHA and way.target in DOTTED:
                continue
            key = Key(named, suffix)
            shape = _magnitude_shape(way, layer, info) if suffix == MAGNITUDE else info.shape
            found[way.name(key)] = copied(info, shape)
        if ALPHA not in held and way.target not in DOTTED and (alpha := _alpha(way, layer, named)) is not None:
            found[way.name(Key(named, ALPHA))] = alpha
    return parts


def _alpha(way: _Way, layer: str, named: str) -> Entry | None:
    """The tensor of an alpha that stands in a configuration; None where the first naming had none and needed none."""
    alpha, form = way.header.alpha_of(layer), way.note.alpha_form(named)
    if alpha is None:
        return None
    if form and (content := packed_number(alpha, form[0])) is not None:
        return literal(*form, content)
    is_needed = way.note.naming in ("", *DOTTED) or alpha != way.header.rank_of(layer)
    return literal("F32", (), struct.pack("<f", alpha)) if is_needed else None


def _magnitude_shape(way: _Way, layer: str, info: TensorInfo) -> tuple[int, ...]:
    """kohya: a column [out, 1]; diffusers and peft: a row of numbers [out], [1, out, 1, 1] of a convolution."""
    up = way.header.layers[layer].get(UP)
    ones = (1,) * (len(up.shape) - 2) if up is not None else ()
    outputs = up.shape[0] if up is not None else info.shape[0]
    if way.target in DOTTED and way.header.naming not in DOTTED and (info.shape[0] != outputs or outputs == 1):
        raise ModelError(
            f"is a DoRA with one magnitude for each input ({layer}); diffusers and peft know only those for outputs.",
            str(way.header.path),
        )
    noted = way.note.magnitude_shape(kohya_layer(layer, way.layers_per_block), info)
    if noted and (way.is_back or (way.target not in DOTTED and way.note.naming not in DOTTED)):
        return noted
    if way.target not in DOTTED:
        return (outputs, 1, *ones)
    return (1, outputs, *ones) if ones else (outputs,)


def _made_configs(way: _Way) -> dict[str, dict[str, Any]]:
    header = way.header
    rows: dict[str, list[LayerScale]] = {}
    for layer in header.layers:
        part, path, rank = part_of(layer), path_of(layer, way.layers_per_block), header.rank_of(layer)
        if part is None or path is None or not rank:
            raise _unnameable(way, Key(layer, next(iter(header.layers[layer]))))
        alpha = header.alpha_of(layer)
        rows.setdefault(part, []).append(LayerScale(path, rank, float(rank) if alpha is None else alpha))
    has_magnitudes = any(MAGNITUDE in held for held in header.layers.values())
    return {part: make_config(rows[part], has_magnitudes) for part in FOLDERS if part in rows}


def _configs(way: _Way) -> Mapping[str, str]:
    """{part: text of a configuration}; {"*": text} where the file once had one for all parts."""
    header = way.header
    noted = way.note.configurations(header) if way.is_back else None
    if noted is not None and way.target == "peft":
        return {part: json.dumps(config, indent=2, sort_keys=True) for part, config in noted.items()}
    if noted is not None:
        return {"*": way.note.config or ""}
    if header.naming in DOTTED and not header.configs and way.target != "peft":
        return {}  # without alphas readers scale by 1, as they do without a configuration
    return {part: peft_config(config) for part, config in _made_configs(way).items()}


def _with_hashes(way: _Way, entries: Mapping[str, Entry], metadata: dict[str, str]) -> dict[str, str]:
    """With hashes of the new file where the old one, or the first one, had any: those of the first one on the way back,
    unless it has been changed meanwhile."""
    held = [key for key in HASHES if key in way.header.metadata or key in way.note.hashes]
    made = kohya_hashes(entries, metadata) if held else {}
    return metadata | {key: made[key] for key in held}


def _unnameable(way: _Way, key: Key) -> ModelError:
    if key.suffix not in (DOWN, UP, MAGNITUDE, ALPHA):
        what = f"holds more than LoRA and DoRA ({key.name}), and {WORDS[way.target]} has no names for that"
        return ModelError(f"{what}. Choose kohya or lycoris.", str(way.header.path))
    unknown = f"has the layer {key.layer}, which SDXL does not have. It was made for another model."
    return ModelError(unknown, str(way.header.path))
