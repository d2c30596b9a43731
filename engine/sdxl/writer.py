"""SDXL's parts written as one .safetensors file in the single-file layout, tensor by tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from engine.atomic import whole_file
from engine.sdxl import configs, keys
from engine.sdxl.weights import TORCH_DTYPES

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection

FILE_DTYPES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
DATA_ALIGNMENT_BYTES = 64
LOGIT_SCALE = 4.6052  # ln 100, the end value of CLIP's training; nothing in SDXL uses it, other programs expect the key


@dataclass
class _Entry:
    """One tensor of the file: a module's tensor, or q, k and v stacked."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: list[torch.Tensor] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_single_file(
    path: Path | str,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    dtype: torch.dtype,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write an SDXL single file in `dtype`, whole or not at all; memory: one tensor at a time.

    `metadata` goes into the header, with `atelier.model_config` added where the shapes alone would not tell head widths
    or norm groups. The modules stay as they are. Raises UserError where the disk refuses (see engine.atomic).
    """
    entries: dict[str, _Entry] = {keys.TEXT_2_PREFIX + "logit_scale": _Entry((), torch.float32)}
    entries[keys.TEXT_2_PREFIX + "logit_scale"].pieces.append(torch.tensor(LOGIT_SCALE))
    for part, module, config in (
        ("unet", unet, unet.config),
        ("vae", vae, vae.config),
        ("text_1", text[0], {}),
        ("text_2", text[1], {}),
    ):
        entries |= _entries(part, module, config, dtype)
    overrides = configs.overrides_of(unet.config, text[0].config, text[1].config, vae.config)
    said = dict(metadata or {})
    if overrides:
        said[configs.OVERRIDES_KEY] = json.dumps(overrides)
    _write_tensors(path, entries, said)


def _write_tensors(path: Path | str, entries: Mapping[str, _Entry], metadata: Mapping[str, str]) -> None:
    """Stream `entries` into a .safetensors file; wide numbers first, so that every tensor is aligned."""
    ordered = dict(sorted(entries.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    with whole_file(path) as part, part.open("wb") as file:
        file.write(_header(ordered, metadata))
        for entry in ordered.values():
            for piece in entry.pieces:
                stored = piece.detach().to("cpu", entry.dtype).contiguous()
                file.write(stored.view(-1).view(torch.uint8).numpy().data)


def _header(entries: Mapping[str, _Entry], metadata: Mapping[str, str]) -> bytes:
    described: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, entry in entries.items():
        start, end = end, end + entry.size_bytes
        described[name] = {"dtype": FILE_DTYPES[entry.dtype], "shape": entry.shape, "data_offsets": [start, end]}
    text = json.dumps(described, ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % DATA_ALIGNMENT_BYTES)
    return len(text).to_bytes(8, "little") + text


def _entries(part: str, module: nn.Module, config: Mapping[str, Any], dtype: torch.dtype) -> dict[str, _Entry]:
    tensors = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("position_ids")}
    grouped: dict[str, list[tuple[int, torch.Tensor]]] = {}
    for name, source in keys.part_sources(part, tensors, config).items():
        tensor = tensors[name].t() if source.transposed else tensors[name]
        grouped.setdefault(source.key, []).append((source.third or 0, tensor))
    entries: dict[str, _Entry] = {}
    for key, found in grouped.items():
        pieces = [tensor for _, tensor in sorted(found, key=lambda item: item[0])]
        shape = (sum(piece.shape[0] for piece in pieces), *pieces[0].shape[1:])
        if part == "vae" and ".attn_1." in key and len(shape) == 2:
            shape = (*shape, 1, 1)  # the VAE's attention projections are 1×1 convolutions there
        entries[key] = _Entry(shape, dtype, pieces)
    return entries
