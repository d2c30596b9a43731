"""What the header of an adapter file tells, in whatever naming it is written. Torch-free."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.adapter_config import Config, alpha_in, parse_config, read_configs
from engine.adapter_names import (
    ALPHA,
    DOWN,
    FOLDERS,
    Key,
    Naming,
    layers_per_block_of,
    naming_of,
    parse,
    part_of,
    path_of,
)  # fmt: skip
from engine.errors import ModelError
from engine.sdxl.layers import TEXT_1, TEXT_2
from engine.sdxl.safefile import Header, TensorInfo, read_header

SCALARS = ("alpha", "on_input", "scale")
"""What stands beside the parameters of a layer: single numbers."""
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
NUMBER_FORMATS = {
    "F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B",
}  # fmt: skip
WIDE_TEXT_ENCODER = 1280  # SDXL's second; its first is 768 wide

_OTHER_FAMILIES = {
    "lora_unet_down_blocks_0_attentions": "Stable Diffusion 1.x or 2.x",
    "lora_te_": "Stable Diffusion 1.x or 2.x",
    "lora_te3_": "Stable Diffusion 3",
    "lora_unet_double_blocks": "FLUX",
    "lora_unet_single_blocks": "FLUX",
    "lora_unet_joint_blocks": "Stable Diffusion 3",
    "lora_prior_": "Stable Cascade",
}


@dataclass(frozen=True)
class Merge:
    """An adapter file and how strongly it is merged."""

    path: Path
    strength: float = 1.0


@dataclass(frozen=True)
class AdapterHeader:
    """An adapter as its headers describe it: {layer: {suffix: place of the tensor}} under Atelier's names.

    `names`: what the files call each tensor. `configs`: what peft and diffusers say beside the tensors, by part.
    """

    path: Path
    naming: Naming
    layers: dict[str, dict[str, TensorInfo]]
    names: dict[Key, str]
    metadata: dict[str, str]
    configs: dict[str, Config]
    files: tuple[Path, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def parts(self) -> frozenset[str]:
        """The parts ("unet", "text_encoder_1", "text_encoder_2") that it has layers for."""
        return frozenset(part for layer in self.layers if (part := part_of(layer)))

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    @property
    def layers_per_block(self) -> int:
        return layers_per_block_of(self.layers)

    def rank_of(self, layer: str) -> int:
        """The rank of a LoRA layer; 0 where it is of another kind."""
        down = self.layers[layer].get(DOWN)
        return down.shape[0] if down is not None and down.shape else 0

    def alpha_of(self, layer: str) -> float | None:
        """The alpha of a layer, beside its tensors or in a configuration; None where nothing says one."""
        info = self.layers[layer].get(ALPHA)
        if info is not None:
            value = read_number(info)
            if not math.isfinite(value):
                raise ModelError(
                    f"holds an alpha that is no number (got {value}). The file is damaged.", str(info.path)
                )
            return value
        config = self.configs.get(part_of(layer) or "")
        path = path_of(layer, self.layers_per_block)
        if config is None or path is None or not self.rank_of(layer):
            return None
        return alpha_in(config, path, self.rank_of(layer), str(self.path))


def read_adapter(path: Path) -> AdapterHeader:
    """Read the headers of an adapter: a file in any naming, or a folder as peft or diffusers save it.

    Tensors whose names no adapter has are listed in `unknown`, not refused. ModelError, in a sentence, for what is
    damaged, or is no adapter at all.
    """
    path = Path(path)
    files = _files_of(path)
    headers = {file: read_header(file) for file in files}
    layers: dict[str, dict[str, TensorInfo]] = {}
    names: dict[Key, str] = {}
    configs: dict[str, Config] = {}
    namings: list[Naming] = []
    unknown: list[str] = []
    for file, header in headers.items():
        text_part, before = _text_part(file, header), len(names)
        for name, info in header.tensors.items():
            found = parse(name, text_part)
            if found is None:
                unknown.append(name)
                continue
            naming, key = found
            if key in names:
                raise ModelError(f"names a tensor twice ({names[key]} and {name}). Choose another file.", str(path))
            namings.append(naming)
            names[key] = name
            layers.setdefault(key.layer, {})[key.suffix] = info
        here = {part for key in list(names)[before:] if (part := part_of(key.layer))}
        configs |= _configs_of(file, header, frozenset(here))
    metadata = {key: text for header in headers.values() for key, text in header.metadata.items()}
    naming = naming_of(namings) if namings else "kohya"
    return AdapterHeader(path, naming, layers, names, metadata, configs, files, tuple(unknown))


def known_adapter(path: Path) -> AdapterHeader:
    """As `read_adapter`; ModelError where any tensor's name is one that no adapter of SDXL has."""
    found = read_adapter(path)
    if other := other_family([*found.layers, *found.unknown]):
        raise ModelError(f"was made for {other}, not for SDXL. Choose a LoRA for SDXL.", str(path))
    if found.unknown or not found.layers:
        first = found.unknown[0].partition(".")[0] if found.unknown else ""
        what = f"its first unknown layer is {first!r}, {len(found.unknown)} in all" if first else "it holds no tensors"
        raise ModelError(
            f"is not an SDXL adapter with names of kohya, LyCORIS, diffusers or peft ({what}). "
            "Choose a LoRA file as AUTOMATIC1111, Forge, ComfyUI or diffusers use it.",
            str(path),
        )
    return found


def other_family(names: Iterable[str]) -> str:
    """The family of models, other than SDXL, that layers or tensors of these names belong to; "" for none."""
    return next((kind for name in names for start, kind in _OTHER_FAMILIES.items() if name.startswith(start)), "")


def parts_of_file(path: Path) -> frozenset[str]:
    """The parts ("unet", "text_encoder_1", "text_encoder_2") that an adapter file has layers for. ModelError."""
    return read_adapter(path).parts


def read_number(info: TensorInfo) -> float:
    """The value of a tensor that is one number."""
    with info.path.open("rb") as file:
        file.seek(info.start)
        content = file.read(info.end - info.start)
    if info.dtype == "BF16":
        return struct.unpack("<f", b"\0\0" + content[:2])[0]
    if info.dtype not in NUMBER_FORMATS or len(content) < struct.calcsize(NUMBER_FORMATS[info.dtype]):
        what = f"holds a number in the format {info.dtype}, which cannot be read. Save it again."
        raise ModelError(what, str(info.path))
    return float(struct.unpack_from(NUMBER_FORMATS[info.dtype], content)[0])


def packed_number(value: float, dtype: str) -> bytes | None:
    """The bytes of a tensor that is one number; None for a number that the format cannot hold."""
    if dtype == "BF16":
        return struct.pack("<f", value)[2:]
    try:
        return struct.pack(NUMBER_FORMATS[dtype], value if dtype.startswith("F") else round(value))
    except (OverflowError, struct.error):
        return None


def is_number(info: TensorInfo) -> bool:
    """Whether a tensor is one number."""
    return all(side == 1 for side in info.shape)


def _files_of(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    for name in (DIFFUSERS_FILE, PEFT_FILE):
        if (path / name).is_file():
            return (path / name,)
    found = [path / folder / PEFT_FILE for folder in FOLDERS.values() if (path / folder / PEFT_FILE).is_file()]
    if not found:
        what = f"is a folder without a LoRA in it ({PEFT_FILE}, or {DIFFUSERS_FILE})."
        raise ModelError(f"{what} Choose a LoRA file.", str(path))
    return tuple(found)


def _text_part(file: Path, header: Header) -> str:
    """Which text encoder a file of peft is for, whose names do not say it: by its folder, else by its width."""
    if file.parent.name == FOLDERS[TEXT_2]:
        return TEXT_2
    widths = [info.shape[-1] for name, info in header.tensors.items() if name.endswith("q_proj.lora_A.weight")]
    return TEXT_2 if widths and widths[0] >= WIDE_TEXT_ENCODER and file.parent.name != FOLDERS[TEXT_1] else TEXT_1


def _configs_of(file: Path, header: Header, parts: frozenset[str]) -> Mapping[str, Config]:
    beside = file.with_name(PEFT_CONFIG)
    if file.name != PEFT_FILE or not beside.is_file():
        return read_configs(header.metadata, str(file))
    try:
        own = parse_config(beside.read_text(encoding="utf-8"), str(beside))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read ({error}). Copy it again.", str(beside)) from error
    return dict.fromkeys(parts, own)
