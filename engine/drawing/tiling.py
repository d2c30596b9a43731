"""Pictures whose edges fit together: convolutions that see the other edge where else there would be zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def circular(models: Sequence[nn.Module], horizontal: bool, vertical: bool) -> Iterator[None]:
    """Inside this block every padded convolution of the models wraps round in the given directions.

    The padding is taken off the layer and put onto its input beforehand, so that adapters and packed weights, which
    compute the convolution themselves, do the same.
    """
    if not (horizontal or vertical):
        yield
        return
    layers = [layer for model in models for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    padded = [layer for layer in layers if any(map(int, _padding(layer)))]
    undone: list[Any] = []
    try:
        for layer in padded:
            high, wide = _padding(layer)
            hook = layer.register_forward_pre_hook(_wrap(high, wide, horizontal, vertical))
            undone.append((layer, layer.padding, hook))
            layer.padding = (0, 0)
        yield
    finally:
        for layer, padding, hook in undone:
            hook.remove()
            layer.padding = padding


def _padding(layer: nn.Conv2d) -> tuple[int, int]:
    padding = layer.padding
    return (0, 0) if isinstance(padding, str) else (int(padding[0]), int(padding[1]))


def _wrap(high: int, wide: int, horizontal: bool, vertical: bool) -> Any:
    def pad(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = functional.pad(inputs[0], (wide, wide, 0, 0), mode="circular" if horizontal else "constant")
        return (functional.pad(x, (0, 0, high, high), mode="circular" if vertical else "constant"), *inputs[1:])

    return pad
