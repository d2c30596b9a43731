"""Whether a checkpoint is whole: the tensors that its kind has and no others, every number finite. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ModelError
from engine.lora_tools.folder_layout import PARTS
from engine.lora_tools.stream import CHUNK_BYTES
from engine.sdxl.configs import Config
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.layers import TEXT_1, TEXT_2, UNET, block_parameters
from engine.sdxl.parts import Part, local_tensors, locate, part_config
from engine.sdxl.safefile import TensorInfo
from engine.tools.tool import counted, names_of

_EXPONENTS = {
    "F64": ("<u8", 0x7FF0 << 48), "F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80),
    "F8_E5M2": ("u1", 0x7C), "F8_E4M3": ("u1", 0x7F),
}  # fmt: skip
"""Number formats: as whole numbers, and the bits that are all set in what is not finite."""
_BLOCKS = {"unet": UNET, "text_1": TEXT_1, "text_2": TEXT_2}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what came of it."""

    name: str
    is_good: bool
    note: str


def checks_of(path: Path) -> list[Check]:
    """All checks of a checkpoint: a file, or a diffusers folder. ModelError for what is no SDXL at all."""
    facts = identify(path)
    zero = ", zero terminal SNR" if facts.zero_terminal_snr else ""
    found = [Check("kind", True, f"SDXL {facts.kind}, {facts.prediction}{zero}: {facts.evidence}")]
    faults: list[Check] = []
    odd: list[str] = []
    count = 0
    for part in PARTS:
        if getattr(facts.config, part) is None:
            continue
        tensors = local_tensors(facts, part)
        faults += _faults(facts, part, tensors)
        count += len(tensors)
        odd += [f"{part}.{name}" for name, info in tensors.items() if is_odd(info)]
    found += faults or [Check("complete", True, f"{counted(count, 'tensor')}, none missing")]
    bad = f"NaN or infinite in {names_of(odd, 2)}. Choose another file."
    return [*found, Check("finite", not odd, bad if odd else "every number is finite")]


def _faults(facts: ModelFacts, part: Part, tensors: Mapping[str, TensorInfo]) -> list[Check]:
    """What a part lacks, has too much, or has in another shape: what training would refuse. Of the VAE, names alone."""
    config = part_config(facts, part)
    if part == "vae":
        wanted = {name: tensors[name].shape if name in tensors else () for name in vae_names(config)}
    else:
        wanted = parameters(part, config)
    try:
        locate(facts, part, wanted)
    except ModelError as error:
        return [Check("complete", False, error.problems[0].message)]
    return []


def parameters(part: Part, config: Config) -> dict[str, tuple[int, ...]]:
    """{parameter (names of diffusers): shape} of the UNet or of a text encoder."""
    found = block_parameters(_BLOCKS[part], config)
    if part == "unet":
        width = (config["block_out_channels"][0],)
        return found | {"conv_norm_out.weight": width, "conv_norm_out.bias": width}
    width = config["hidden_size"]
    root = "text_model."
    found[f"{root}embeddings.token_embedding.weight"] = (config["vocab_size"], width)
    found[f"{root}embeddings.position_embedding.weight"] = (config["max_position_embeddings"], width)
    found |= {f"{root}final_layer_norm.{end}": (width,) for end in ("weight", "bias")}
    return found | ({"text_projection.weight": (config["projection_dim"], width)} if part == "text_2" else {})


def vae_names(config: Config) -> Iterator[str]:
    """Every parameter of the VAE, as diffusers names them."""
    for layer in _vae_layers(config):
        yield f"{layer}.weight"
        yield f"{layer}.bias"


def _vae_layers(config: Config) -> Iterator[str]:
    widths: tuple[int, ...] = tuple(config["block_out_channels"])
    last = len(widths) - 1
    yield from ("quant_conv", "post_quant_conv")
    for side, sides, order in (("encoder", "down", widths), ("decoder", "up", widths[::-1])):
        yield from (f"{side}.{end}" for end in ("conv_in", "conv_norm_out", "conv_out"))
        attention = f"{side}.mid_block.attentions.0"
        yield from (f"{attention}.{name}" for name in ("group_norm", "to_q", "to_k", "to_v", "to_out.0"))
        for place in (0, 1):
            yield from _residual(f"{side}.mid_block.resnets.{place}", is_wider=False)
        width = order[0]
        for level, out in enumerate(order):
            for place in range(config["layers_per_block"] + (side == "decoder")):
                yield from _residual(f"{side}.{sides}_blocks.{level}.resnets.{place}", width != out)
                width = out
            if level < last:
                yield f"{side}.{sides}_blocks.{level}.{sides}samplers.0.conv"


def _residual(path: str, is_wider: bool) -> Iterator[str]:
    names = ("norm1", "conv1", "norm2", "conv2", *(("conv_shortcut",) if is_wider else ()))
    yield from (f"{path}.{name}" for name in names)


def is_odd(info: TensorInfo) -> bool:
    """Whether a tensor holds NaN or infinite numbers; a few MB at a time. ModelError where it cannot be read."""
    if info.dtype not in _EXPONENTS:
        return False
    kind, mask = _EXPONENTS[info.dtype]
    item = np.dtype(kind)
    try:
        with info.path.open("rb") as file:
            file.seek(info.start)
            for start in range(info.start, info.end, CHUNK_BYTES):
                bits: Any = np.frombuffer(file.read(min(CHUNK_BYTES, info.end - start)), item)
                if ((bits & item.type(mask)) == mask).any():
                    return True
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error}). Check the disk and the file.", str(info.path)) from error
    return False
