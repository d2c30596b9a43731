"""One adapted layer, and the numbers of all that share a learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from engine.adapter_shapes import Options, Place
from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Algorithm
from engine.adapters.flat import FlatParameters
from engine.adapters.layer import Layer
from engine.adapters.targets import Target


@dataclass(frozen=True)
class Site:
    """One adapted layer: where it is, and what the adapter is there. `rate`: factor of its part's learning rate.

    `loaded_shapes`: those of a file's tensors, where they do not follow from rank and options.
    """

    target: Target
    rank: int
    alpha: float
    rate: float = 1.0
    algorithm: str = "lora"
    options: Options = field(default_factory=Options)
    loaded_shapes: Mapping[str, tuple[int, ...]] | None = None

    @property
    def scale(self) -> float:
        """alpha / rank: the factor of ΔW."""
        return self.alpha / self.rank

    @property
    def how(self) -> Algorithm:
        """The functions of its algorithm."""
        return ADAPTERS[self.algorithm]

    @property
    def place(self) -> Place:
        """The layer as algorithms know it."""
        module = self.target.module
        return Place(weight_shape(module), self.rank, module.bias is not None, self.options)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """{suffix: shape} of the parameters, trained or not."""
        return self.loaded_shapes if self.loaded_shapes is not None else self.how.shapes(self.place)

    def scalars(self) -> dict[str, Tensor]:
        """{key as in a file: 0-dim fp32} of what stands beside the parameters: alpha."""
        found = self.how.scalars(self.place, self.alpha)
        return {f"{self.target.name}.{suffix}": torch.tensor(float(value)) for suffix, value in found.items()}


@dataclass(frozen=True)
class Group:
    """Parameters of one part of the model that share a learning rate: `factor` × the part's rate.

    `name` is the part's where the factor is 1, else like "unet ×0.5"; `flat.vector` is what an optimizer works on.
    """

    name: str
    part: str
    factor: float
    flat: FlatParameters


def weight_shape(module: Layer) -> tuple[int, ...]:
    """[out, in], [out, in, k, k] or [n] of a norm, also where the weight itself is stored packed (quantised)."""
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    if isinstance(module, nn.Conv2d):
        return (module.out_channels, module.in_channels, *module.kernel_size)
    return tuple(module.weight.shape)
