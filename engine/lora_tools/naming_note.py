"""What a LoRA file's first naming could hold and its new one cannot: noted in the metadata, for the way back.

A note may come from other hands, and the file may have been changed since by programs that carry metadata along: what
does not fit the file that it stands in is not followed. Torch-free.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_type_hints

from engine.adapter_config import METADATA_KEY, Config, alpha_in, rank_in, read_configs
from engine.adapter_header import NUMBER_FORMATS, AdapterHeader
from engine.adapter_names import (
    ALPHA,
    MAGNITUDE,
    SDXL_LAYERS_PER_BLOCK,
    TEXT_1,
    Key,
    kohya_layer,
    parse,
    part_of,
    path_of,
    spell,
)  # fmt: skip
from engine.errors import ModelError
from engine.json_types import all_fit
from engine.lora_tools.stream import HASHES
from engine.sdxl.safefile import TensorInfo

NOTE = "atelier.naming"
_FROM = "from"  # what JSON calls the field `naming`


@dataclass(frozen=True)
class Note:
    """`naming`: the first one, "" without a note. Layers are called as kohya's trainer does.

    `spelled`: {a name as Atelier spells it: as it stood there}; `alphas`: {layer: [number format, shape]};
    `magnitudes`: {layer: shape}; `hashes`: the metadata's entries; `config`: the text of diffusers' entry; `configs`:
    {part: configuration} of peft's folders.
    """

    naming: str = ""
    layers_per_block: int = SDXL_LAYERS_PER_BLOCK
    spelled: dict[str, str] = field(default_factory=dict)
    alphas: dict[str, list[str | list[int]]] = field(default_factory=dict)
    magnitudes: dict[str, list[int]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    config: str | None = None
    configs: dict[str, Config] = field(default_factory=dict)

    def text(self) -> str:
        """The metadata entry."""
        content = dataclasses.asdict(self)
        return json.dumps({_FROM: content.pop("naming"), **content}, ensure_ascii=False)

    def name(self, key: Key, spelt: str) -> str:
        """A tensor's name as it stood there; `spelt` where nothing is noted, or the name of another tensor."""
        noted = self.spelled.get(spelt, spelt)
        found = parse(noted, part_of(key.layer) or TEXT_1)
        if found is None:
            return spelt
        layer, suffix = found[1].layer, found[1].suffix
        is_same = (kohya_layer(layer, self.layers_per_block), suffix) == (
            kohya_layer(key.layer, self.layers_per_block),
            key.suffix,
        )
        return noted if is_same else spelt

    def alpha_form(self, layer: str) -> tuple[str, tuple[int, ...]] | None:
        """The number format and the shape of a layer's alpha."""
        match self.alphas.get(layer):
            case [str(dtype), list(shape)] if dtype in (*NUMBER_FORMATS, "BF16") and math.prod(shape) == 1:
                return dtype, tuple(shape)
            case _:
                return None

    def magnitude_shape(self, layer: str, info: TensorInfo) -> tuple[int, ...] | None:
        """The shape that a layer's magnitude had; None where it cannot have been that of this tensor."""
        noted = self.magnitudes.get(layer, [])
        fits = bool(noted) and min(noted) > 0 and math.prod(noted) == math.prod(info.shape)
        return tuple(noted) if fits else None

    def configurations(self, header: AdapterHeader) -> Mapping[str, Config] | None:
        """{part: configuration} as it stood there; None where it says other ranks or alphas than the file has now."""
        try:
            text = {} if self.config is None else {METADATA_KEY: self.config}
            found = self.configs if self.naming == "peft" else read_configs(text, str(header.path))
            is_right = all(_agrees(found.get(part_of(layer) or "", {}), layer, header, self) for layer in header.layers)
        except ModelError:  # a configuration that cannot be read
            return None
        return found if is_right else None


def read_note(header: AdapterHeader) -> Note:
    """The note in a file's metadata; an empty one where there is none, or another program's entry of this name."""
    try:
        content = json.loads(header.metadata.get(NOTE, ""))
    except (ValueError, RecursionError):
        return Note()
    if not isinstance(content, dict):
        return Note()
    content["naming"] = content.pop(_FROM, "")
    hints = get_type_hints(Note)
    known = {name: value for name, value in content.items() if name in hints}
    is_right = all(all_fit([value], hints[name]) for name, value in known.items())
    found = Note(**known) if is_right else Note()
    return found if found.layers_per_block in (1, SDXL_LAYERS_PER_BLOCK) else Note()


def make_note(header: AdapterHeader) -> Note:
    """What the way back to a file's naming needs."""
    depth = header.layers_per_block
    spelled = {
        canonical: name
        for key, name in header.names.items()
        if (canonical := spell(key, header.naming, depth)) not in (name, None)
    }
    alphas = {kohya_layer(layer, depth): held[ALPHA] for layer, held in header.layers.items() if ALPHA in held}
    return Note(
        header.naming,
        depth,
        spelled,
        {layer: [info.dtype, list(info.shape)] for layer, info in alphas.items()},
        {
            kohya_layer(layer, depth): list(held[MAGNITUDE].shape)
            for layer, held in header.layers.items()
            if MAGNITUDE in held
        },
        {key: header.metadata[key] for key in HASHES if key in header.metadata},
        header.metadata.get(METADATA_KEY),
        header.configs if header.naming == "peft" else {},
    )


def _agrees(config: Config, layer: str, header: AdapterHeader, note: Note) -> bool:
    path, rank = path_of(layer, note.layers_per_block), header.rank_of(layer)
    if path is None or not rank:
        return True
    said, alpha = alpha_in(config, path, rank, str(header.path)), header.alpha_of(layer)
    return said == (rank if alpha is None else alpha) and rank_in(config, path) in (None, rank)
