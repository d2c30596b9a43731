"""Which layers an adapter goes onto, and what they are called in a file.

Attention and feed-forward layers of the UNet and of the text encoders' blocks; with a conv rank also the UNet's
residual blocks and its down- and upsampling. The embeddings of time and size and the first and last convolution of the
UNet only when asked for: kohya's trainer leaves them alone. Never token embeddings and the projection of pooled text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from engine.adapters.layer import Layer
from engine.sdxl.keys import unet_to_ldm
from engine.sdxl.layers import PREFIX, TEXT_1, TEXT_2, UNET, Kind, kind_of

_CONV_PARTS = ("resnets", "downsamplers", "upsamplers")
__all__ = [
    "PREFIX", "TEXT_1", "TEXT_2", "UNET", "Target", "all_targets", "diffusers_name", "file_name", "norm_targets",
    "targets",
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A layer to adapt: the part of the model, its path there, its name in a file; `is_conv`: a k×k convolution."""

    part: str
    path: str
    name: str
    module: Layer
    is_conv: bool

    @property
    def kind(self) -> Kind:
        """ "attention", "residual", "outer" or "text" (see `LayerShape`)."""
        return kind_of(self.part, self.path)


def targets(part: str, model: nn.Module, with_conv: bool) -> list[Target]:
    """The layers of `model`, which is the "unet", "text_encoder_1" or "text_encoder_2", in the order of the model.

    Those that kohya's trainer adapts; `all_targets` has the outer ones, too.
    """
    kinds = {"attention", "residual", "text"} if with_conv else {"attention", "text"}
    return [target for target in all_targets(part, model) if target.kind in kinds]


def all_targets(part: str, model: nn.Module) -> list[Target]:
    """All layers of `model` that an adapter could go onto, in the order of the model."""
    found = _layers(model) if part == UNET else _text_layers(model)
    return [Target(part, path, file_name(part, model, path), module, _is_conv(module)) for path, module in found]


def norm_targets(part: str, model: nn.Module) -> list[Target]:
    """The norms inside the blocks that `targets` looks at (convolutions included), in the order of the model."""
    found: list[Target] = []
    for path, module in model.named_modules():
        inside = set(path.split(".")) & {"attentions", *_CONV_PARTS} if part == UNET else "encoder.layers." in path
        if inside and isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            found.append(Target(part, path, file_name(part, model, path), module, False))
    return found


def file_name(part: str, model: nn.Module, path: str) -> str:
    """Name in a file of the layer at `path`: single-file ("ldm") names for the UNet, transformers' for the encoders."""
    if part == UNET:
        dotted = unet_to_ldm(path, model.config)  # pyright: ignore[reportArgumentType]
    else:
        dotted = "text_model." + path.removeprefix("text_model.")
    return PREFIX[part] + dotted.replace(".", "_")


def diffusers_name(part: str, path: str) -> str:
    """The other name under which UNet layers are found in files: that of diffusers."""
    return PREFIX[part] + path.replace(".", "_")


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            yield path, module


def _text_layers(encoder: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for path, module in _layers(encoder):
        if path.removeprefix("text_model.").startswith("encoder.layers."):
            yield path, module
