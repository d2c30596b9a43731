"""Configurations of SDXL's parts, read off the shapes of a single file's tensors: full size, refiner, reduced, demo.

What shapes cannot tell has SDXL's value unless the metadata key `atelier.model_config` says otherwise, in JSON:
{"unet": {"head_width": 32, "norm_groups": 16}, "text_1": {"heads": 2}, "text_2": {"heads": 2},
"vae": {"norm_groups": 8}}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ModelError
from engine.sdxl.safefile import TensorInfo

OVERRIDES_KEY = "atelier.model_config"
HEAD_WIDTH = 64  # SDXL: every attention head of UNet and text encoders is 64 wide
NORM_GROUPS = 32
_ALLOWED = {"unet": ("head_width", "norm_groups"), "text_1": ("heads",), "text_2": ("heads",), "vae": ("norm_groups",)}
VAE_LEVEL_PATTERNS = ("encoder.down.{}.block.0.conv1.weight", "encoder.down_blocks.{}.resnets.0.conv1.weight")
BOS_ID, EOS_ID = 49406, 49407

Shapes = Mapping[str, tuple[int, ...]]
Config = dict[str, Any]


@dataclass(frozen=True)
class ModelConfig:
    """Keyword arguments of UNet2DConditionModel, CLIPTextConfig (twice) and AutoencoderKL.

    None where the model has no such part (the refiner has no first text encoder; a file may come without a VAE).
    """

    unet: Config
    text_1: Config | None
    text_2: Config | None
    vae: Config | None


def shapes_below(tensors: Mapping[str, TensorInfo], prefix: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors below `prefix`, named without it."""
    return {name[len(prefix) :]: info.shape for name, info in tensors.items() if name.startswith(prefix)}


def read_overrides(metadata: Mapping[str, str], where: str) -> dict[str, dict[str, int]]:
    """What the metadata say about heads and norm groups; ModelError where that is no such thing."""
    if OVERRIDES_KEY not in metadata:
        return {}
    try:
        found = json.loads(metadata[OVERRIDES_KEY])
        for part, values in found.items():
            for name, value in values.items():
                if name not in _ALLOWED[part] or type(value) is not int or value < 1:
                    raise ValueError(f"{part}.{name} = {value!r}")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        message = f"has metadata {OVERRIDES_KEY!r} that cannot be used (got {error!r}). Remove them."
        raise ModelError(message, where) from error
    return found


def unet_config(shapes: Shapes, pooled_width: int, size_numbers: int, overrides: Mapping[str, int]) -> Config:
    """UNet of SDXL's family, from single-file names without their prefix. KeyError names a missing tensor.

    `size_numbers`: how many scalars are embedded beside the pooled text (6; 5 in the refiner).
    """
    layers = _layers_per_block(shapes)
    widths, depths = _down_levels(shapes, layers)
    up_depths = _up_depths(shapes, layers, len(widths))
    mid_depth = _depth(shapes, "middle_block.1")
    time_width = shapes["time_embed.0.weight"][0]
    added_width = shapes["label_emb.0.0.weight"][1]
    first_attention = next((name for name in shapes if name.endswith("attn2.to_k.weight")), None)
    proj_in = next((shape for name, shape in shapes.items() if name.endswith(".1.proj_in.weight")), (0, 0))
    head_width = overrides.get("head_width", HEAD_WIDTH)
    config: Config = {
        "sample_size": 128,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "down_block_types": tuple("CrossAttnDownBlock2D" if any(d) else "DownBlock2D" for d in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if any(d) else "UpBlock2D" for d in up_depths),
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "cross_attention_dim": shapes[first_attention][1] if first_attention else 0,
        "transformer_layers_per_block": _depths_down(depths, mid_depth),
        "attention_head_dim": tuple(max(1, width // head_width) for width in widths),  # diffusers' name for heads
        "use_linear_projection": len(proj_in) == 2,
        "norm_num_groups": overrides.get("norm_groups", NORM_GROUPS),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": (added_width - pooled_width) // size_numbers,
        "projection_class_embeddings_input_dim": added_width,
    }
    for width, heads in zip(widths, config["attention_head_dim"], strict=True):
        _check_divides(heads, width, "UNet width", "heads")
        _check_divides(config["norm_num_groups"], width, "UNet width", "norm groups")
    if time_width != 4 * widths[0]:
        config["time_embedding_dim"] = time_width
    if not mid_depth:
        config["mid_block_type"] = "UNetMidBlock2D"
    up = _depths_up(config["transformer_layers_per_block"], up_depths)
    if up is not None:
        config["reverse_transformer_layers_per_block"] = up
    return config


def _check_divides(count: int, width: int, what: str, of_what: str) -> None:
    if count < 1 or width < 1 or width % count:
        raise ValueError(f"{what} {width} does not divide into {count} {of_what}")


def _layers_per_block(shapes: Shapes) -> int:
    downs = [int(m[1]) for name in shapes if (m := re.fullmatch(r"input_blocks\.(\d+)\.0\.op\.weight", name))]
    if not downs or min(downs) < 2:
        raise KeyError("input_blocks.3.0.op.weight")
    return min(downs) - 1


def _down_levels(shapes: Shapes, layers: int) -> tuple[list[int], list[list[int]]]:
    """Width of each level and, layer by layer, the transformer depth (0 = no attention)."""
    widths: list[int] = []
    depths: list[list[int]] = []
    while (first := f"input_blocks.{len(widths) * (layers + 1) + 1}.0.in_layers.2.weight") in shapes:
        start = len(widths) * (layers + 1) + 1
        widths.append(shapes[first][0])
        depths.append([_depth(shapes, f"input_blocks.{start + layer}.1") for layer in range(layers)])
    if not widths:
        raise KeyError("input_blocks.1.0.in_layers.2.weight")
    return widths, depths


def _up_depths(shapes: Shapes, layers: int, levels: int) -> list[list[int]]:
    return [
        [_depth(shapes, f"output_blocks.{level * (layers + 1) + layer}.1") for layer in range(layers + 1)]
        for level in range(levels)
    ]


def _depth(shapes: Shapes, block: str) -> int:
    return _count(shapes, block + ".transformer_blocks.{}.attn1.to_q.weight")


def _count(shapes: Shapes, pattern: str) -> int:
    count = 0
    while pattern.format(count) in shapes:
        count += 1
    return count


Depth = int | list[int]


def _uniform(depths: list[int]) -> Depth:
    return depths[0] if len(set(depths)) == 1 else depths


def _depths_down(depths: list[list[int]], mid_depth: int) -> tuple[Depth, ...]:
    """Transformer depth of each level; the last one counts for the middle too (in the refiner for nothing else)."""
    down: list[Depth] = [_uniform(level) or 1 for level in depths]
    if mid_depth and not any(depths[-1]):
        down[-1] = mid_depth
    last = down[-1]
    if mid_depth and mid_depth != (last if isinstance(last, int) else last[0]):
        raise ValueError(f"{mid_depth} transformer layers in the middle, {last} beside it")
    return tuple(down)


def _depths_up(down: tuple[Depth, ...], up_depths: list[list[int]]) -> tuple[Depth, ...] | None:
    """Transformer depths on the way up where they are not those of the way down (distilled relatives of SDXL)."""
    mirrored = down[::-1]
    up = tuple(_uniform(level) if any(level) else other for level, other in zip(up_depths, mirrored, strict=True))
    return up if up != mirrored or any(isinstance(depth, list) for depth in down) else None


def text_1_config(shapes: Shapes, overrides: Mapping[str, int]) -> Config:
    """CLIP-L (quick GELU), from names without TEXT_1_PREFIX. KeyError names a missing tensor."""
    root = "text_model." if any(name.startswith("text_model.") for name in shapes) else ""
    vocabulary, width = shapes[f"{root}embeddings.token_embedding.weight"]
    return {
        **_text_config(vocabulary, width, overrides),
        "num_hidden_layers": _count(shapes, root + "encoder.layers.{}.mlp.fc1.weight"),
        "intermediate_size": shapes[f"{root}encoder.layers.0.mlp.fc1.weight"][0],
        "max_position_embeddings": shapes[f"{root}embeddings.position_embedding.weight"][0],
        "projection_dim": width,
        "hidden_act": "quick_gelu",
        "pad_token_id": EOS_ID,
    }


def text_2_config(shapes: Shapes, overrides: Mapping[str, int]) -> Config:
    """OpenCLIP bigG (GELU) with its projection, from names without TEXT_2_PREFIX. KeyError names a missing tensor."""
    vocabulary, width = shapes["token_embedding.weight"]
    return {
        **_text_config(vocabulary, width, overrides),
        "num_hidden_layers": _count(shapes, "transformer.resblocks.{}.mlp.c_fc.weight"),
        "intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "max_position_embeddings": shapes["positional_embedding"][0],
        "projection_dim": shapes["text_projection"][1],
        "hidden_act": "gelu",
        "pad_token_id": 0,
    }


def _text_config(vocabulary: int, width: int, overrides: Mapping[str, int]) -> Config:
    heads = overrides.get("heads", max(1, width // HEAD_WIDTH))
    _check_divides(heads, width, "text encoder width", "heads")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_attention_heads": heads,
        "layer_norm_eps": 1e-5,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
    }


def vae_config(shapes: Shapes, overrides: Mapping[str, int]) -> Config:
    """SDXL's autoencoder, from single-file names without their prefix. KeyError names a missing tensor."""
    levels = _count(shapes, "encoder.down.{}.block.0.conv1.weight")
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    if not widths:
        raise KeyError("encoder.down.0.block.0.conv1.weight")
    for width in widths:
        _check_divides(overrides.get("norm_groups", NORM_GROUPS), width, "VAE width", "norm groups")
    return {
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": tuple(widths),
        "layers_per_block": _count(shapes, "encoder.down.0.block.{}.conv1.weight"),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "norm_num_groups": overrides.get("norm_groups", NORM_GROUPS),
        "sample_size": 1024,
        "scaling_factor": 0.13025,
        "force_upcast": True,
    }


def vae_levels(shapes: Shapes) -> int:
    """Number of block widths of a VAE, from names in either layout."""
    return max(_count(shapes, pattern) for pattern in VAE_LEVEL_PATTERNS)


def overrides_of(unet: Mapping[str, Any], text_1: Any, text_2: Any, vae: Mapping[str, Any]) -> dict[str, Config]:
    """What a file must say in `atelier.model_config` because the shapes of these parts will not tell it.

    text_1: None in the refiner. ValueError where not even that tells the heads.
    """
    found: dict[str, Config] = {"unet": {}, "text_1": {}, "text_2": {}, "vae": {}}
    heads = unet["attention_head_dim"]
    widths = unet["block_out_channels"]
    counts = [heads] * len(widths) if isinstance(heads, int) else list(heads)
    if counts != [max(1, width // HEAD_WIDTH) for width in widths]:
        head_width = widths[-1] // counts[-1]
        if counts != [max(1, width // head_width) for width in widths]:
            raise ValueError(f"a single file cannot tell the heads {counts} of the widths {list(widths)}")
        found["unet"]["head_width"] = head_width
    for name, config in (("unet", unet), ("vae", vae)):
        if config["norm_num_groups"] != NORM_GROUPS:
            found[name]["norm_groups"] = config["norm_num_groups"]
    for name, config in (("text_1", text_1), ("text_2", text_2)):
        if config is not None and config.num_attention_heads != max(1, config.hidden_size // HEAD_WIDTH):
            found[name]["heads"] = config.num_attention_heads
    return {part: values for part, values in found.items() if values}
