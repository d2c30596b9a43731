"""The layers that an adapter can go onto, named as in files, from a model's configuration alone. Torch-free.

A forecast needs them before anything is loaded; `adapters/targets.py` finds the same layers in the loaded model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from engine.sdxl.configs import Config
from engine.sdxl.keys import unet_to_ldm

UNET, TEXT_1, TEXT_2 = "unet", "text_encoder_1", "text_encoder_2"
PREFIX = {UNET: "lora_unet_", TEXT_1: "lora_te1_", TEXT_2: "lora_te2_"}
BLOCKS = 23
"""Blocks of SDXL's UNet as kohya's trainer counts them: 0 the embeddings of time and size, 1 to 9 the way down, 10 to
12 the middle, 13 to 21 the way up, 22 the end."""

_FIRST_BLOCK = {"input": 1, "down": 1, "middle": 10, "output": 13, "up": 13}

Kind = Literal["attention", "residual", "outer", "text"]
_WITHOUT_BIAS = (".to_q", ".to_k", ".to_v")


@dataclass(frozen=True)
class LayerShape:
    """A linear (kernel 1), a convolution with kernel × kernel weights, or a norm (kernel 0); `name` as in a file.

    `kind`: "attention" (transformers of the UNet, feed-forward included), "residual" (residual blocks, down- and
    upsampling), "outer" (embeddings of time and size, first and last convolution) or "text".
    """

    name: str
    kind: Kind
    inputs: int
    outputs: int
    kernel: int = 1
    has_bias: bool = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[out, in], [out, in, k, k], or [n] of a norm (a 1×1 convolution counts as a linear)."""
        if not self.kernel:
            return (self.outputs,)
        return (self.outputs, self.inputs, *((self.kernel,) * 2 if self.kernel > 1 else ()))


def block_of(name: str) -> int | None:
    """The number (0 to 22) of the UNet block that the layer of this file name is in; None for text encoders.

    Names with diffusers' path are those of SDXL (two layers a block).
    """
    if not name.startswith(PREFIX[UNET]):
        return None
    match = re.match(r"lora_unet_(input|middle|output)_blocks?_(\d+)_", name)
    if match is not None:
        return _FIRST_BLOCK[match[1]] + int(match[2])
    match = re.match(r"lora_unet_(down|up)_blocks_(\d+)_(attentions|resnets|downsamplers|upsamplers)_(\d+)_", name)
    if match is not None:
        is_down, place = match[1] == "down", int(match[4])
        if match[3].endswith("samplers"):
            place = 2
        return _FIRST_BLOCK[match[1]] + 3 * int(match[2]) + place + is_down
    if match := re.match(r"lora_unet_mid_block_(resnets_0|attentions_0|resnets_1)_", name):
        return _FIRST_BLOCK["middle"] + ("resnets_0", "attentions_0", "resnets_1").index(match[1])
    ends = {"lora_unet_conv_in": 1, "lora_unet_conv_out": BLOCKS - 1, "lora_unet_out_": BLOCKS - 1}
    return next((block for start, block in ends.items() if name.startswith(start)), 0)


def kind_of(part: str, path: str) -> Kind:
    """The kind of the layer at a path in the part of a model (diffusers' names in the UNet)."""
    if part != UNET:
        return "text"
    pieces = path.split(".")
    if "attentions" in pieces:
        return "attention"
    return "residual" if any(piece in pieces for piece in ("resnets", "downsamplers", "upsamplers")) else "outer"


def part_layers(part: str, config: Config) -> tuple[LayerShape, ...]:
    """All layers of the "unet", "text_encoder_1" or "text_encoder_2" that an adapter could go onto, without norms."""
    return _layers_of(part, json.dumps(config, sort_keys=True))


def layer_paths(part: str, config: Config) -> dict[str, str]:
    """{name in a file: path in the module of the part} of the layers of `part_layers`."""
    rows = _unet(config) if part == UNET else _text(config)
    return {_layer(part, config, row).name: row[0] for row in rows}


def part_norms(part: str, config: Config) -> tuple[LayerShape, ...]:
    """The norms inside the blocks of a part."""
    return tuple(_layer(part, config, row) for row in (_unet_norms(config) if part == UNET else _text_norms(config)))


def block_parameters(part: str, config: Config) -> dict[str, tuple[int, ...]]:
    """{parameter (names of diffusers): shape} of all layers and norms inside a part; 1×1 convolutions as linears."""
    rows = (*_unet(config), *_unet_norms(config)) if part == UNET else (*_text(config), *_text_norms(config))
    found: dict[str, tuple[int, ...]] = {}
    for row in rows:
        layer = _layer(part, config, row)
        found[f"{row[0]}.weight"] = layer.weight_shape
        if layer.has_bias:
            found[f"{row[0]}.bias"] = (layer.outputs,)
    return found


@lru_cache(maxsize=16)
def _layers_of(part: str, config_text: str) -> tuple[LayerShape, ...]:
    """Remembered, since a plan asks several times and the page makes one at each change of the form."""
    config = json.loads(config_text)
    return tuple(_layer(part, config, row) for row in (_unet(config) if part == UNET else _text(config)))


def _layer(part: str, config: Config, row: Row) -> LayerShape:
    path, inputs, outputs, kernel = row
    dotted = unet_to_ldm(path, config) if part == UNET else path
    name, has_bias = PREFIX[part] + dotted.replace(".", "_"), not path.endswith(_WITHOUT_BIAS)
    return LayerShape(name, kind_of(part, path), inputs, outputs, kernel, has_bias)


Row = tuple[str, int, int, int]
"""Path, inputs, outputs, kernel."""


def _text(config: Config) -> Iterator[Row]:
    """Query, key, value, output and the two feed-forward linears of each block of a text encoder."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    for layer in range(config["num_hidden_layers"]):
        root = f"text_model.encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield f"{root}.self_attn.{name}", width, width, 1
        yield f"{root}.mlp.fc1", width, inner, 1
        yield f"{root}.mlp.fc2", inner, width, 1


def _unet(config: Config) -> Iterator[Row]:
    yield from _outer(config)
    for path, width, depth in _transformers(config):
        yield from _transformer(path, width, depth, config["cross_attention_dim"])
    yield from _residuals(config)


def _text_norms(config: Config) -> Iterator[Row]:
    for layer in range(config["num_hidden_layers"]):
        for number in (1, 2):
            yield f"text_model.encoder.layers.{layer}.layer_norm{number}", 0, config["hidden_size"], 0


def _unet_norms(config: Config) -> Iterator[Row]:
    for path, width, depth in _transformers(config):
        yield f"{path}.norm", 0, width, 0
        for layer in range(depth):
            for number in (1, 2, 3):
                yield f"{path}.transformer_blocks.{layer}.norm{number}", 0, width, 0
    for path, inputs, outputs, _ in _residuals(config):
        if path.endswith(".conv1"):
            yield path.replace(".conv1", ".norm1"), 0, inputs, 0
            yield path.replace(".conv1", ".norm2"), 0, outputs, 0


def _time_width(config: Config) -> int:
    return config.get("time_embedding_dim") or 4 * config["block_out_channels"][0]


def _outer(config: Config) -> Iterator[Row]:
    width, time_width = config["block_out_channels"][0], _time_width(config)
    yield "conv_in", config.get("in_channels", 4), width, 3
    yield "time_embedding.linear_1", width, time_width, 1
    yield "time_embedding.linear_2", time_width, time_width, 1
    yield "add_embedding.linear_1", config["projection_class_embeddings_input_dim"], time_width, 1
    yield "add_embedding.linear_2", time_width, time_width, 1
    yield "conv_out", width, config.get("out_channels", 4), 3


def _residuals(config: Config) -> Iterator[Row]:
    """Convolutions, time projections and skips of the residual blocks, and the down- and upsampling."""
    widths: tuple[int, ...] = config["block_out_channels"]
    time_width = _time_width(config)
    skips, width = [widths[0]], widths[0]
    for level, out in enumerate(widths):
        for place in range(config["layers_per_block"]):
            yield from _residual(f"down_blocks.{level}.resnets.{place}", width, out, time_width)
            width = out
            skips.append(out)
        if level < len(widths) - 1:
            yield f"down_blocks.{level}.downsamplers.0.conv", out, out, 3
            skips.append(out)
    for place in (0, 1):
        yield from _residual(f"mid_block.resnets.{place}", width, width, time_width)
    for level, out in enumerate(reversed(widths)):
        for place in range(config["layers_per_block"] + 1):
            yield from _residual(f"up_blocks.{level}.resnets.{place}", width + skips.pop(), out, time_width)
            width = out
        if level < len(widths) - 1:
            yield f"up_blocks.{level}.upsamplers.0.conv", out, out, 3


def _residual(path: str, inputs: int, outputs: int, time_width: int) -> Iterator[Row]:
    yield f"{path}.conv1", inputs, outputs, 3
    yield f"{path}.time_emb_proj", time_width, outputs, 1
    yield f"{path}.conv2", outputs, outputs, 3
    if inputs != outputs:
        yield f"{path}.conv_shortcut", inputs, outputs, 1


def _transformers(config: Config) -> Iterator[tuple[str, int, int]]:
    """Path, width and depth of each transformer: the way down, the middle, the way up."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    down = config["transformer_layers_per_block"]
    up = config.get("reverse_transformer_layers_per_block") or tuple(reversed(down))
    for level, (width, depth, kind) in enumerate(zip(widths, down, config["down_block_types"], strict=True)):
        if kind.startswith("CrossAttn"):
            for place, each in enumerate(_depths(depth, layers)):
                yield f"down_blocks.{level}.attentions.{place}", width, each
    if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn":
        yield "mid_block.attentions.0", widths[-1], _depths(down[-1], 1)[0]
    for level, (width, depth, kind) in enumerate(zip(reversed(widths), up, config["up_block_types"], strict=True)):
        if kind.startswith("CrossAttn"):
            for place, each in enumerate(_depths(depth, layers + 1)):
                yield f"up_blocks.{level}.attentions.{place}", width, each


def _depths(depth: int | list[int] | tuple[int, ...], layers: int) -> list[int]:
    return [depth] * layers if isinstance(depth, int) else list(depth)


def _transformer(path: str, width: int, depth: int, context: int) -> Iterator[Row]:
    yield f"{path}.proj_in", width, width, 1
    for layer in range(depth):
        block = f"{path}.transformer_blocks.{layer}"
        for attention, source in (("attn1", width), ("attn2", context)):
            yield f"{block}.{attention}.to_q", width, width, 1
            yield f"{block}.{attention}.to_k", source, width, 1
            yield f"{block}.{attention}.to_v", source, width, 1
            yield f"{block}.{attention}.to_out.0", width, width, 1
        yield f"{block}.ff.net.0.proj", width, 8 * width, 1
        yield f"{block}.ff.net.2", 4 * width, width, 1
    yield f"{path}.proj_out", width, width, 1
