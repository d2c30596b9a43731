"""A layer of the model that an adapter changes: its forward is replaced on the object and can be put back.

The layer itself, its weights and their names stay as they are, so state dicts, hooks, checkpointing and code that
looks at `layer.weight` do not notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from engine.sdxl.frozen import DenseOnUse

Layer = nn.Linear | nn.Conv2d | nn.LayerNorm | nn.GroupNorm
_PLAIN = (nn.Linear.forward, nn.Conv2d.forward, nn.LayerNorm.forward, nn.GroupNorm.forward)


@dataclass(frozen=True)
class FrozenLayer:
    """The frozen layer as an algorithm sees it; `forward` is what it computes without this adapter.

    `is_plain`: a linear, convolution or norm that computes f(x; weight, bias) and nothing else, in a floating dtype:
    its weight may be used directly. Not so for quantised layers and for those that carry another adapter already.
    """

    module: Layer
    forward: Callable[[Tensor], Tensor]
    is_plain: bool

    @property
    def weight_source(self) -> Tensor | DenseOnUse | None:
        """Where its weight may be had from: itself, or the layer that makes it when used. None: by `forward` only."""
        if self.is_plain:
            return self.module.weight
        makes_it = hasattr(self.module, "dense_weight")
        untouched = getattr(self.forward, "__func__", None) is type(self.module).forward
        return cast("DenseOnUse", self.module) if makes_it and untouched else None


def frozen_layer(module: Layer) -> FrozenLayer:
    """Describe `module` as it is now. ValueError where its weight is being trained itself."""
    if any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError("an adapter goes onto frozen layers: call requires_grad_(False) on the model first")
    native = type(module).forward in _PLAIN
    untouched = "forward" not in module.__dict__
    return FrozenLayer(module, module.forward, native and untouched and module.weight.is_floating_point())


def install(layer: FrozenLayer, forward: Callable[[Tensor], Tensor]) -> None:
    """Let `layer.module` compute `forward` from now on."""
    layer.module.__dict__["forward"] = forward


def uninstall(layer: FrozenLayer, forward: Callable[[Tensor], Tensor]) -> None:
    """Put back what the layer computed before `install(layer, forward)`.

    ValueError where another adapter was put on top since: the last one on comes off first.
    """
    if layer.module.__dict__.get("forward") != forward:
        raise ValueError("another adapter was attached on top of this one: detach that one first")
    if getattr(layer.forward, "__func__", None) is type(layer.module).forward:
        del layer.module.__dict__["forward"]
    else:
        layer.module.__dict__["forward"] = layer.forward
