"""What files call the layers and tensors of an adapter, in every naming, both directions. Torch-free.

Inside Atelier a layer is called as kohya's trainer does: `lora_unet_…`, `lora_te1_…`, `lora_te2_…`, the path with
underscores; in the UNet the path is the single-file one or diffusers' (LyCORIS and OneTrainer write the latter). The
tensors of a LoRA are `lora_down.weight`, `lora_up.weight`, `alpha`, `dora_scale`. Other spellings, as diffusers
(loaders/lora_conversion_utils.py, utils/state_dict_utils.py) and peft (utils/save_and_load.py) read and write them:

kohya          lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight
lycoris        lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight
diffusers      unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
diffusers_old  unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight
peft           base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from engine.sdxl.keys import unet_from_ldm, unet_to_ldm
from engine.sdxl.layers import PREFIX, TEXT_1, TEXT_2, UNET

Naming = Literal["kohya", "lycoris", "diffusers", "diffusers_old", "peft"]
DOTTED: tuple[Naming, ...] = ("diffusers", "diffusers_old", "peft")
"""Namings that hold LoRA and DoRA only, and no alpha beside a layer's tensors."""
OFT_PREFIX = "oft_unet_"
"""What kohya's OFT calls the UNet's layers."""
FOLDERS = {UNET: "unet", TEXT_1: "text_encoder", TEXT_2: "text_encoder_2"}
"""What diffusers calls the parts of a model."""
SDXL_LAYERS_PER_BLOCK = 2
DOWN, UP, ALPHA, MAGNITUDE = "lora_down.weight", "lora_up.weight", "alpha", "dora_scale"
MID = "lora_mid.weight"
"""The core that LyCORIS puts between the matrices of a convolution where it decomposes it by Tucker ("use_tucker")."""

_LYCORIS_PREFIX = "lycoris_"
_PEFT_PREFIX = "base_model.model."
_DIFFUSERS_STARTS = ("down_blocks_", "up_blocks_", "mid_block_", "conv_in", "conv_out", "conv_norm_out",
                     "time_embedding_", "add_embedding_")  # fmt: skip
_TOKENS = (
    "input_blocks", "middle_block", "output_blocks", "down_blocks", "mid_block", "up_blocks", "transformer_blocks",
    "attentions", "resnets", "downsamplers", "upsamplers", "attn1", "attn2", "to_q", "to_k", "to_v", "to_out", "ff",
    "net", "proj_in", "proj_out", "proj", "time_emb_proj", "conv_shortcut", "conv_norm_out", "conv_in", "conv_out",
    "conv1", "conv2", "conv", "norm1", "norm2", "norm3", "norm", "time_embedding", "add_embedding", "linear_1",
    "linear_2", "in_layers", "out_layers", "emb_layers", "skip_connection", "op", "time_embed", "label_emb", "out",
    "text_model", "text_projection", "encoder", "layers", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "mlp",
    "fc1", "fc2", "layer_norm1", "layer_norm2", "final_layer_norm",
)  # fmt: skip
_PIECE = re.compile("|".join([*sorted(_TOKENS, key=len, reverse=True), r"\d+"]))
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_OLD_TEXT_BACK = {new: old for old, new in _OLD_TEXT.items()}
_ENDS: tuple[tuple[re.Pattern[str], Naming], ...] = (
    (re.compile(r"(?P<path>.+)\.(?P<old>to_q|to_k|to_v|to_out)_lora\.(?P<side>down|up)\.weight"), "diffusers_old"),
    (re.compile(r"(?P<path>.+)\.lora(_linear_layer)?\.(?P<side>down|up)\.weight"), "diffusers_old"),
    (re.compile(r"(?P<path>.+)\.lora_(?P<side>[AB])(\.default)?\.weight"), "diffusers"),
    (re.compile(r"(?P<path>.+)\.(?P<side>lora_magnitude_vector)(\.default)?(\.weight)?"), "diffusers"),
    (re.compile(r"(?P<path>.+)\.(?P<side>alpha|hada_w[12]_[ab]|lokr_w[12](_[ab])?)"), "diffusers"),
)
_SIDES = {"down": DOWN, "A": DOWN, "up": UP, "B": UP, "lora_magnitude_vector": MAGNITUDE}


@dataclass(frozen=True)
class Key:
    """A tensor as Atelier calls it: layer with the prefix of its part, and what it is there."""

    layer: str
    suffix: str

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.suffix}"


def part_of(layer: str) -> str | None:
    """The part of the model ("unet", "text_encoder_1", "text_encoder_2") that a layer belongs to."""
    if layer.startswith(OFT_PREFIX):
        return UNET
    return next((part for part, prefix in PREFIX.items() if layer.startswith(prefix)), None)


def parse(name: str, text_part: str = TEXT_1) -> tuple[Naming, Key] | None:
    """The naming of a tensor's name, and what it means; None for a name that no adapter of SDXL has.

    text_part: the encoder that names of peft mean, which name none.
    """
    if name.startswith((*PREFIX.values(), OFT_PREFIX, _LYCORIS_PREFIX)):
        layer, _, suffix = name.partition(".")
        if not suffix:
            return None
        if layer.startswith(_LYCORIS_PREFIX):
            return "lycoris", Key(PREFIX[UNET] + layer.removeprefix(_LYCORIS_PREFIX), suffix)
        return ("lycoris" if _is_diffusers(layer) else "kohya"), Key(layer, suffix)
    return _parse_dotted(name, text_part)


def naming_of(names: Iterable[Naming]) -> Naming:
    """The naming of a file, from that of its names; the text encoders' are alike in kohya's and LyCORIS'."""
    found = Counter(names)
    return "lycoris" if found["lycoris"] else found.most_common(1)[0][0]


def spell(key: Key, naming: Naming, layers_per_block: int = SDXL_LAYERS_PER_BLOCK) -> str | None:
    """The name of a tensor in a naming; None where the layer, or the tensor, has none there."""
    part, path = part_of(key.layer), path_of(key.layer, layers_per_block)
    if part is None or (path is None and part == UNET):
        return None
    if naming in ("kohya", "lycoris"):
        if part != UNET or path is None:
            return key.name
        dotted = path if naming == "lycoris" else ldm_path(path, layers_per_block)
        prefix = OFT_PREFIX if key.layer.startswith(OFT_PREFIX) else PREFIX[UNET]
        return None if dotted is None else f"{prefix}{dotted.replace('.', '_')}.{key.suffix}"
    if path is None or key.suffix not in (DOWN, UP, MAGNITUDE):
        return None
    if naming == "diffusers_old" and key.suffix != MAGNITUDE:
        return f"{FOLDERS[part]}.{_old_path(path, part)}.{'down' if key.suffix == DOWN else 'up'}.weight"
    end = {DOWN: "lora_A.weight", UP: "lora_B.weight", MAGNITUDE: "lora_magnitude_vector"}[key.suffix]
    if naming == "peft":
        # CLIPTextModel has lost "text_model." in transformers 5; peft, unlike diffusers, does not look for both
        return f"{_PEFT_PREFIX}{path.removeprefix('text_model.') if part == TEXT_1 else path}.{end}"
    return f"{FOLDERS[part]}.{path}.{end}"


def path_of(layer: str, layers_per_block: int = SDXL_LAYERS_PER_BLOCK) -> str | None:
    """The path of a layer in the diffusers module of its part; None for a layer that no SDXL has."""
    part = part_of(layer)
    if part is None:
        return None
    dotted = _dotted(layer.removeprefix(OFT_PREFIX).removeprefix(PREFIX[part]))
    if dotted is None or part != UNET or _is_diffusers(layer):
        return dotted
    try:
        return unet_from_ldm(dotted, _config(layers_per_block))
    except KeyError:
        return None


def ldm_path(path: str, layers_per_block: int = SDXL_LAYERS_PER_BLOCK) -> str | None:
    """The single-file path of a layer of diffusers' UNet."""
    try:
        return unet_to_ldm(path, _config(layers_per_block))
    except KeyError:
        return None


def kohya_layer(layer: str, layers_per_block: int = SDXL_LAYERS_PER_BLOCK) -> str:
    """A layer's name with the single-file path, whatever naming it came from; as it is where SDXL has no such layer."""
    found = spell(Key(layer, ALPHA), "kohya", layers_per_block)
    return layer if found is None else found.partition(".")[0]


def layers_per_block_of(layers: Iterable[str]) -> int:
    """2, SDXL's; 1 for single-file names that only a model of half its depth has."""
    odd = re.compile(r"lora_unet_input_blocks_3_1_|lora_unet_input_blocks_2_0_op")
    return 1 if any(odd.match(layer) for layer in layers) else SDXL_LAYERS_PER_BLOCK


def _parse_dotted(name: str, text_part: str) -> tuple[Naming, Key] | None:
    is_peft = name.startswith(_PEFT_PREFIX)
    rest = name.removeprefix(_PEFT_PREFIX).replace(".processor.", ".")
    part = next((part for part in (TEXT_2, TEXT_1, UNET) if rest.startswith(FOLDERS[part] + ".")), None)
    rest = rest.removeprefix(FOLDERS[part] + ".") if part else rest
    for pattern, naming in _ENDS:
        if match := pattern.fullmatch(rest):
            path = match["path"]
            if part is None:
                part = text_part if re.match(r"(text_model\.)?encoder\.layers\.", path) else UNET
            if "old" in match.groupdict():
                path = f"{path}.{_new_end(match['old'], part)}"
            if part != UNET and path.startswith("encoder."):
                path = "text_model." + path
            layer = PREFIX[part] + path.replace(".", "_")
            if path_of(layer) is None:
                return None
            return ("peft" if is_peft else naming), Key(layer, _SIDES.get(match["side"], match["side"]))
    return None


def _new_end(old: str, part: str) -> str:
    return _OLD_TEXT[old] if part != UNET else "to_out.0" if old == "to_out" else old


def _old_path(path: str, part: str) -> str:
    """The path with the ending of the old naming, without "down" or "up"."""
    head, _, last = path.rpartition(".")
    if part != UNET:
        if last in _OLD_TEXT_BACK:
            return f"{head}.{_OLD_TEXT_BACK[last]}_lora"
        return f"{path}.lora_linear_layer"
    if re.search(r"\.attn[12]\.", path):
        attention, _, end = path.partition(".to_")
        return f"{attention}.processor.to_{end.removesuffix('.0')}_lora"
    return f"{path}.lora"


@lru_cache(maxsize=8192)
def _dotted(path: str) -> str | None:
    """A path written with underscores, with dots."""
    pieces, place = [], 0
    while place < len(path):
        match = _PIECE.match(path, place)
        if match is None or path[match.end() : match.end() + 1] not in ("", "_"):
            return None
        pieces.append(match[0])
        place = match.end() + 1
    return ".".join(pieces)


def _is_diffusers(layer: str) -> bool:
    part = part_of(layer)
    bare = layer.removeprefix(OFT_PREFIX).removeprefix(PREFIX[UNET])
    return part == UNET and bare.startswith(_DIFFUSERS_STARTS)


def _config(layers_per_block: int) -> Mapping[str, Any]:
    """What the names of SDXL's UNet depend on."""
    types = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    return {"layers_per_block": layers_per_block, "up_block_types": types}
