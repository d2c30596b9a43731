"""Shapes of the layers that an adapter goes onto, counted from a model's configuration alone. Torch-free.

A forecast needs them before anything is loaded; `adapters/targets.py` finds the same layers in the loaded model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.sdxl.configs import Config


@dataclass(frozen=True)
class LayerShape:
    """A linear (kernel 1) or a convolution with kernel × kernel weights."""

    inputs: int
    outputs: int
    kernel: int = 1


def text_layers(config: Config) -> list[LayerShape]:
    """Query, key, value, output and the two feed-forward linears of each block of a text encoder."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    block = [LayerShape(width, width)] * 4 + [LayerShape(width, inner), LayerShape(inner, width)]
    return block * config["num_hidden_layers"]


def unet_attention_layers(config: Config) -> list[LayerShape]:
    """Attention and feed-forward linears, projections in and out of the transformers included."""
    return [shape for width, depth in _transformers(config) for shape in _transformer(config, width, depth)]


def unet_conv_layers(config: Config) -> list[LayerShape]:
    """Convolutions, time projections and skips of the residual blocks, and the down- and upsampling."""
    widths: tuple[int, ...] = config["block_out_channels"]
    time_width = config.get("time_embedding_dim") or 4 * widths[0]
    found: list[LayerShape] = []
    skips, width = [widths[0]], widths[0]
    for level, out in enumerate(widths):
        for _ in range(config["layers_per_block"]):
            found += _residual(width, out, time_width)
            width = out
            skips.append(out)
        if level < len(widths) - 1:
            found.append(LayerShape(out, out, 3))
            skips.append(out)
    found += _residual(width, width, time_width) * 2
    for level, out in reversed(list(enumerate(widths))):
        for _ in range(config["layers_per_block"] + 1):
            found += _residual(width + skips.pop(), out, time_width)
            width = out
        if level:
            found.append(LayerShape(out, out, 3))
    return found


def _residual(inputs: int, outputs: int, time_width: int) -> list[LayerShape]:
    layers = [LayerShape(inputs, outputs, 3), LayerShape(time_width, outputs), LayerShape(outputs, outputs, 3)]
    return layers + ([LayerShape(inputs, outputs)] if inputs != outputs else [])


def _transformers(config: Config) -> Iterator[tuple[int, int]]:
    """Width and depth of each transformer: the way down, the middle, the way up."""
    widths, layers = config["block_out_channels"], config["layers_per_block"]
    down = config["transformer_layers_per_block"]
    up = config.get("reverse_transformer_layers_per_block") or tuple(reversed(down))
    for width, depth, kind in zip(widths, down, config["down_block_types"], strict=True):
        if kind.startswith("CrossAttn"):
            yield from ((width, each) for each in _depths(depth, layers))
    if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") == "UNetMidBlock2DCrossAttn":
        yield widths[-1], _depths(down[-1], 1)[0]
    for width, depth, kind in zip(reversed(widths), up, config["up_block_types"], strict=True):
        if kind.startswith("CrossAttn"):
            yield from ((width, each) for each in _depths(depth, layers + 1))


def _depths(depth: int | list[int] | tuple[int, ...], layers: int) -> list[int]:
    return [depth] * layers if isinstance(depth, int) else list(depth)


def _transformer(config: Config, width: int, depth: int) -> list[LayerShape]:
    context = config["cross_attention_dim"]
    block = [LayerShape(width, width)] * 6 + [LayerShape(context, width)] * 2
    block += [LayerShape(width, 8 * width), LayerShape(4 * width, width)]
    return [LayerShape(width, width)] * 2 + block * depth
