"""Names of SDXL's weights in the single-file layout ("ldm", as Stability published it) and in diffusers/transformers.

UNet and VAE names work for modules as well as for parameters ("down_blocks.1.attentions.0.proj_in" or "….weight").
Sizes are never assumed: the number of blocks and layers comes from the model's own configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_1_PREFIX = "conditioner.embedders.0.transformer."
TEXT_2_PREFIX = "conditioner.embedders.1.model."
REFINER_TEXT_PREFIX = "conditioner.embedders.0.model."


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from: the tensor `key` of the file; of stacked q, k, v the `third` (0, 1, 2);
    `transposed` where the file holds the transpose of what the module wants."""

    key: str
    third: int | None = None
    transposed: bool = False


# ---------------------------------------------------------------- UNet

_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS_BACK = {ldm: ours for ours, ldm in _UNET_ENDS.items()}
_UNET_RESNET_BACK = {ldm: ours for ours, ldm in _UNET_RESNET.items()}
_MID = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_MID_BACK = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}


def _swap_start(name: str, table: Mapping[str, str]) -> str | None:
    """`name` with the first dotted part that the table knows replaced, or None."""
    for start, other in table.items():
        if name == start or name.startswith(start + "."):
            return other + name[len(start) :]
    return None


def _known(swapped: str | None, name: str) -> str:
    if swapped is None:
        raise KeyError(name)
    return swapped


def unet_to_ldm(name: str, config: Mapping[str, Any]) -> str:
    """Single-file name (without "model.diffusion_model.") of a diffusers UNet module or parameter.

    `config` is the UNet's configuration (`layers_per_block`, `up_block_types`). KeyError for a name that no SDXL has.
    """
    end = _swap_start(name, _UNET_ENDS)
    if end is not None:
        return end
    layers = config["layers_per_block"]
    if match := re.fullmatch(r"mid_block\.(resnets\.[01]|attentions\.0)(\.(.+))?", name):
        return _ldm_layer(f"middle_block.{_MID[match[1]]}", match[1], match[3], name)
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(\.(.+))?", name)
    if match is None:
        raise KeyError(name)
    level, kind, rest = int(match[2]), match[3], match[6]
    if kind == "downsamplers":
        inner = _known(_swap_start(rest or "", {"conv": "op"}), name)
        return f"input_blocks.{(layers + 1) * (level + 1)}.0.{inner}"
    if kind == "upsamplers":
        place = 2 if "CrossAttn" in config["up_block_types"][level] else 1
        return f"output_blocks.{(layers + 1) * level + layers}.{place}.{rest}"
    index = (layers + 1) * level + int(match[4])
    block = f"input_blocks.{index + 1}" if match[1] == "down" else f"output_blocks.{index}"
    return _ldm_layer(f"{block}.{0 if kind == 'resnets' else 1}", kind, rest, name)


def _ldm_layer(block: str, kind: str, rest: str | None, name: str) -> str:
    if not rest:
        return block
    return f"{block}.{_known(_swap_start(rest, _UNET_RESNET), name) if kind.startswith('resnets') else rest}"


def unet_from_ldm(name: str, config: Mapping[str, Any]) -> str:
    """Diffusers name of a single-file UNet name (without its prefix): the inverse of `unet_to_ldm`."""
    end = _swap_start(name, _UNET_ENDS_BACK)
    if end is not None:
        return end
    layers = config["layers_per_block"]
    if match := re.fullmatch(r"middle_block\.([012])(\.(.+))?", name):
        return _diffusers_layer(f"mid_block.{_MID_BACK[match[1]]}", match[1] != "1", match[3], name)
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.([012])(\.(.+))?", name)
    if match is None:
        raise KeyError(name)
    side, place, rest = match[1], int(match[3]), match[5] or ""
    index = int(match[2]) - (1 if side == "input" else 0)
    level, layer = divmod(index, layers + 1)
    if rest == "op" or rest.startswith("op."):
        return f"down_blocks.{level}.downsamplers.0.conv{rest[2:]}"
    if side == "output" and (rest == "conv" or rest.startswith("conv.")):
        return f"up_blocks.{level}.upsamplers.0.{rest}"
    block = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
    return _diffusers_layer(f"{block}.{'attentions' if place else 'resnets'}.{layer}", place == 0, rest, name)


def _diffusers_layer(block: str, resnet: bool, rest: str | None, name: str) -> str:
    if not rest:
        return block
    return f"{block}.{_known(_swap_start(rest, _UNET_RESNET_BACK), name) if resnet else rest}"


# ---------------------------------------------------------------- VAE

_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
# names that diffusers used before 0.18 and that many VAE files still carry
_VAE_ATTENTION_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_ATTENTION_BACK = {ldm: ours for ours, ldm in _VAE_ATTENTION.items()} | _VAE_ATTENTION_OLD


def vae_to_ldm(name: str, levels: int) -> str:
    """Single-file name (without "first_stage_model.") of a diffusers VAE name; `levels` = number of block widths."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\b", r"encoder.down.\1.downsample", name)
    match = re.match(r"decoder\.up_blocks\.(\d+)\.(resnets\.|upsamplers\.0\b)", name)
    if match:
        inner = "block." if match[2] == "resnets." else "upsample"
        return f"decoder.up.{levels - 1 - int(match[1])}.{inner}{name[match.end() :]}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(.+)", name):
        return f"{match[1]}.mid.attn_1.{_known(_swap_start(match[2], _VAE_ATTENTION), name)}"
    return re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)


def vae_from_ldm(name: str, levels: int) -> str:
    """Diffusers name of a single-file VAE name (without its prefix); today's diffusers names come back unchanged."""
    name = re.sub(r"\bnorm_out\b", "conv_norm_out", name).replace("nin_shortcut", "conv_shortcut")
    name = re.sub(r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets.", name)
    name = re.sub(r"^encoder\.down\.(\d+)\.downsample\b", r"encoder.down_blocks.\1.downsamplers.0", name)
    match = re.match(r"decoder\.up\.(\d+)\.(block\.|upsample\b)", name)
    if match:
        inner = "resnets." if match[2] == "block." else "upsamplers.0"
        return f"decoder.up_blocks.{levels - 1 - int(match[1])}.{inner}{name[match.end() :]}"
    if match := re.fullmatch(r"(encoder|decoder)\.(mid\.attn_1|mid_block\.attentions\.0)\.(.+)", name):
        return f"{match[1]}.mid_block.attentions.0.{_swap_start(match[3], _VAE_ATTENTION_BACK) or match[3]}"
    return re.sub(r"\bmid\.block_(\d)", lambda found: f"mid_block.resnets.{int(found[1]) - 1}", name)


# ---------------------------------------------------------------- text encoders

_OPEN_CLIP_ENDS = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYER = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_STACKED = ("q", "k", "v")


def text_1_source(name: str) -> Source:
    """Single-file source (without TEXT_1_PREFIX) of a parameter of the first text encoder (CLIP-L)."""
    return Source("text_model." + name.removeprefix("text_model."))


def text_2_source(name: str) -> Source:
    """Single-file source (without TEXT_2_PREFIX) of a parameter of the second text encoder (OpenCLIP bigG).

    OpenCLIP stacks q, k, v into `in_proj_*` and stores the projection P for pooled = x @ P, the transpose of a Linear's
    weight. KeyError for a name that this encoder does not have.
    """
    name = name.removeprefix("text_model.")
    if name == "text_projection.weight":
        return Source("text_projection", transposed=True)
    if name in _OPEN_CLIP_ENDS:
        return Source(_OPEN_CLIP_ENDS[name])
    match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if match is None:
        raise KeyError(name)
    block = f"transformer.resblocks.{match[1]}"
    if stacked := re.fullmatch(r"self_attn\.([qkv])_proj", match[2]):
        return Source(f"{block}.attn.in_proj_{match[3]}", third=_STACKED.index(stacked[1]))
    return Source(f"{block}.{_OPEN_CLIP_LAYER[match[2]]}.{match[3]}")


_OPEN_CLIP_ENDS_BACK = {theirs: ours for ours, theirs in _OPEN_CLIP_ENDS.items()}
_OPEN_CLIP_LAYER_BACK = {theirs: ours for ours, theirs in _OPEN_CLIP_LAYER.items()}


def text_2_parameters(name: str) -> dict[str, Source]:
    """{parameter: its source} of the second text encoder that a tensor of a single file (without TEXT_2_PREFIX) holds:
    the inverse of `text_2_source`. KeyError for a name that this encoder does not have.
    """
    if name == "text_projection":
        return {"text_projection.weight": Source(name, transposed=True)}
    if name in _OPEN_CLIP_ENDS_BACK:
        return {"text_model." + _OPEN_CLIP_ENDS_BACK[name]: Source(name)}
    match = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(?:(.+)\.|attn\.in_proj_)(weight|bias)", name)
    if match is None:
        raise KeyError(name)
    layer = f"text_model.encoder.layers.{match[1]}"
    if match[2] is None:
        return {f"{layer}.self_attn.{q}_proj.{match[3]}": Source(name, third) for third, q in enumerate(_STACKED)}
    return {f"{layer}.{_OPEN_CLIP_LAYER_BACK[match[2]]}.{match[3]}": Source(name)}


# ---------------------------------------------------------------- whole parts

PART_PREFIX = {"unet": UNET_PREFIX, "vae": VAE_PREFIX, "text_1": TEXT_1_PREFIX, "text_2": TEXT_2_PREFIX}


def part_sources(part: str, names: Iterable[str], config: Mapping[str, Any]) -> dict[str, Source]:
    """{parameter name: source in a single file, with its prefix} of a part: "unet", "vae", "text_1" or "text_2".

    `config` is the configuration of that part (keyword arguments of its class).
    """
    rules: dict[str, Callable[[str], Source]] = {
        "unet": lambda name: Source(unet_to_ldm(name, config)),
        "vae": lambda name: Source(vae_to_ldm(name, len(config["block_out_channels"]))),
        "text_1": text_1_source,
        "text_2": text_2_source,
    }
    found = {name: rules[part](name) for name in names}
    prefix = PART_PREFIX[part]
    return {name: Source(prefix + s.key, s.third, s.transposed) for name, s in found.items()}


def part_parameters(part: str, names: Iterable[str], config: Mapping[str, Any]) -> dict[str, Source]:
    """{parameter as diffusers folders name it: source} of a part of a single file, the inverse of `part_sources`.

    `names`, and the sources' keys, are without the part's prefix; those of the VAE are diffusers' already. KeyError
    for a name that the part does not have.
    """
    rules: dict[str, Callable[[str], dict[str, Source]]] = {
        "unet": lambda name: {unet_from_ldm(name, config): Source(name)},
        "vae": lambda name: {name: Source(name)},
        "text_1": lambda name: {"text_model." + name.removeprefix("text_model."): Source(name)},
        "text_2": text_2_parameters,
    }
    return {parameter: source for name in names for parameter, source in rules[part](name).items()}
