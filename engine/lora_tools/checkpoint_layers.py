"""Where the weights that adapters change lie in a checkpoint: one file, or a folder seen as one. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engine.adapter_names import part_of, path_of
from engine.errors import ModelError
from engine.lora_tools.folder_layout import LOGIT_SCALE_KEY, Stack, rest_file, rest_of, single_key, single_stacks
from engine.sdxl import keys
from engine.sdxl.detect import ModelFacts, identify
from engine.sdxl.layers import TEXT_1, TEXT_2, UNET, block_of
from engine.sdxl.safefile import DTYPE_BYTES, Header, TensorInfo, read_header

PART_NAMES = {UNET: "unet", TEXT_1: "text_1", TEXT_2: "text_2"}


@dataclass(frozen=True)
class Weight:
    """The weight of a layer: the tensor `key` of the file, or one `third` of it (q, k, v stacked); `bias` likewise."""

    key: str
    third: int | None
    bias_key: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as its headers describe it, under the names of a single file.

    `stacks`: what the weights of a diffusers folder are made of; the header's places mean nothing for those.
    """

    facts: ModelFacts
    header: Header
    stacks: Mapping[str, Stack] = field(default_factory=dict)

    @property
    def layers_per_block(self) -> int:
        return self.facts.config.unet["layers_per_block"]

    def weight_of(self, layer: str) -> Weight | None:
        """Where the weight of an adapter's layer lies; None where this model has no such layer."""
        part, path = part_of(layer), path_of(layer, self.layers_per_block)
        if part is None or path is None or (part == TEXT_1 and self.facts.config.text_1 is None):
            return None
        name, config = PART_NAMES[part], self.facts.config.unet
        try:
            found = keys.part_sources(name, [f"{path}.weight", f"{path}.bias"], config)
        except KeyError:
            return None
        weight, bias = found[f"{path}.weight"], found[f"{path}.bias"]
        return Weight(weight.key, weight.third, bias.key) if weight.key in self.header.tensors else None

    def shape_of(self, weight: Weight) -> tuple[int, ...]:
        shape = self.header.tensors[weight.key].shape
        return shape if weight.third is None else (shape[0] // 3, *shape[1:])


def open_checkpoint(path: object) -> Checkpoint:
    """Read a checkpoint's headers: of a file, or of a diffusers folder. ModelError for what is none of SDXL's."""
    facts = identify(str(path))
    if facts.layout == "single_file":
        return Checkpoint(facts, read_header(facts.path))
    stacks = single_stacks(facts)
    tensors = {
        key: TensorInfo(facts.path, stack.dtype, stack.shape, 0, math.prod(stack.shape) * DTYPE_BYTES[stack.dtype])
        for key, stack in stacks.items()
    }
    scale = {single_key(facts, LOGIT_SCALE_KEY): TensorInfo(facts.path, "F32", (), 0, 4)}
    rest = rest_of(facts, {}) if rest_file(facts).is_file() else scale
    return Checkpoint(facts, Header(facts.path, tensors | rest, {}, facts.size_bytes), stacks)


def block_of_key(key: str) -> int | None:
    """The block (0 to 22) of a tensor of the UNet in a single file; None for those of other parts."""
    if not key.startswith(keys.UNET_PREFIX):
        return None
    return block_of("lora_unet_" + key.removeprefix(keys.UNET_PREFIX).replace(".", "_"))


def part_of_key(key: str) -> str:
    """ "unet", "text", "vae" or "other"."""
    if key.startswith(keys.UNET_PREFIX):
        return "unet"
    if key.startswith(keys.VAE_PREFIX):
        return "vae"
    return "text" if key.startswith("conditioner.embedders.") else "other"


def refuse_unknown_layers(layers: Iterable[str], checkpoint: Checkpoint, where: str) -> None:
    """ModelError where an adapter has layers that the model does not have."""
    unknown = [layer for layer in layers if checkpoint.weight_of(layer) is None]
    if unknown:
        what = f"has {len(unknown)} layers that this model does not have (first: {unknown[0]})."
        raise ModelError(f"{what} It was made for another kind of model.", where)
