"""Put an adapter onto a model, switch it off and on, take it off again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Algorithm
from engine.adapters.flat import FlatParameters
from engine.adapters.layer import BaseLayer, base_layer, install, uninstall
from engine.adapters.targets import Target, targets
from engine.errors import ModelError


@dataclass(frozen=True)
class Recipe:
    """What adapter to make. The scale of a layer is alpha / rank; `conv_rank` 0 leaves the convolutions alone.

    k×k convolutions take conv_rank and conv_alpha; linears and 1×1 convolutions rank and alpha wherever they are.
    """

    algorithm: str = "lora"
    rank: int = 16
    alpha: float = 16.0
    conv_rank: int = 0
    conv_alpha: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Site:
    """One adapted layer: where it is, and what the adapter is like there."""

    target: Target
    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """alpha / rank: the factor of ΔW."""
        return self.alpha / self.rank


def attach(models: Mapping[str, nn.Module], recipe: Recipe, device: torch.device | str | None = None) -> Adapter:
    """A new adapter on the given parts ("unet", "text_encoder_1", "text_encoder_2"), ready to train.

    The models must be frozen. Start values depend on the seed and the layer's name only, not on the device, the other
    layers or their order. The adapter's numbers are fp32 on `device` (else on that of each part); it computes in the
    dtype of the layers it is on. ModelError where a part has no layer to adapt.
    """
    sites = [site for part, model in models.items() for site in _sites(part, model, recipe)]
    adapter = Adapter(recipe.algorithm, sites)
    for site in sites:
        adapter.algorithm.init(_generator(recipe.seed, site.target.name), adapter.parameters_of(site.target.name))
    adapter.to(device)
    adapter.install()
    return adapter


def _sites(part: str, model: nn.Module, recipe: Recipe) -> list[Site]:
    found = targets(part, model, with_conv=recipe.conv_rank > 0)
    if not found:
        raise ModelError("has no attention or feed-forward layer that an adapter could go onto.", part)
    conv, other = (recipe.conv_rank, recipe.conv_alpha), (recipe.rank, recipe.alpha)
    return [Site(target, *(conv if target.is_conv else other)) for target in found]


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


class Adapter:
    """The adapter of a model: one flat fp32 parameter per part, and the layers it changes.

    `vectors`: {part: parameter to optimize}. `multiplier` scales its effect (1 in training; may be set at any time).
    After an optimizer that writes behind torch's back (bitsandbytes), call `changed()`.
    """

    def __init__(self, algorithm: str, sites: list[Site]) -> None:
        """Parameters are zero; nothing is installed yet."""
        self.algorithm_name = algorithm
        self.algorithm: Algorithm = ADAPTERS[algorithm]
        self.sites = sites
        self.multiplier = 1.0
        self.enabled = True
        self.parts = {part: self._flat(part) for part in dict.fromkeys(site.target.part for site in sites)}
        self.part_of = {site.target.name: site.target.part for site in sites}
        self._installed: list[tuple[BaseLayer, _SiteForward]] = []

    def _flat(self, part: str) -> FlatParameters:
        here = [site for site in self.sites if site.target.part == part]
        shapes = {
            f"{site.target.name}.{suffix}": shape
            for site in here
            for suffix, shape in self.algorithm.shapes(weight_shape(site.target.module), site.rank).items()
        }
        first = here[0].target.module
        return FlatParameters(shapes, getattr(first, "compute_dtype", first.weight.dtype))

    @property
    def vectors(self) -> dict[str, nn.Parameter]:
        """{part: flat fp32 parameter}: what the optimizer, the clipping and a state work on."""
        return {part: flat.vector for part, flat in self.parts.items()}

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained (without the padding of the flat vectors)."""
        return sum(slot.size for flat in self.parts.values() for slot in flat.slots.values())

    def parameters_of(self, name: str) -> dict[str, Tensor]:
        """{suffix: fp32 view} of the layer that files call `name`; writing to them changes the adapter."""
        flat = self.parts[self.part_of[name]]
        data = flat.vector.detach()
        return {suffix: flat.slots[f"{name}.{suffix}"].of(data) for suffix in self.algorithm.SUFFIXES}

    def tensors(self) -> dict[str, Tensor]:
        """{key as in a file: fp32 view}, alphas (0-dim) included, on the adapter's device."""
        found = {f"{site.target.name}.alpha": torch.tensor(float(site.alpha)) for site in self.sites}
        for flat in self.parts.values():
            found.update(flat.views())
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the numbers of a dict as `tensors()` makes it. KeyError if one is missing."""
        for flat in self.parts.values():
            for name, view in flat.views().items():
                view.copy_(tensors[name])
        self.changed()

    def to(self, device: torch.device | str | None) -> None:
        """Move the numbers to `device`, or with None to where the layers are."""
        for part, flat in self.parts.items():
            first = next(site for site in self.sites if site.target.part == part)
            flat.to(torch.device(device) if device is not None else first.target.module.weight.device)

    def changed(self) -> None:
        """Say that the vectors were written to in a way that torch does not count."""
        for flat in self.parts.values():
            flat.changed()

    def install(self) -> None:
        """Let the layers compute with the adapter. Over an adapter that is there already it adds to its effect."""
        layers = [base_layer(site.target.module) for site in self.sites]  # all are looked at before any is changed
        for layer, site in zip(layers, self.sites, strict=True):
            forward = _SiteForward(self, layer, site)
            install(layer, forward)
            self._installed.append((layer, forward))

    def detach(self) -> None:
        """Take the adapter off the model, which then computes what it did before. Twice is once."""
        while self._installed:
            uninstall(*self._installed[-1])
            self._installed.pop()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Inside this block the model computes as if there were no adapter."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before


class _SiteForward:
    """What an adapted layer computes."""

    def __init__(self, adapter: Adapter, layer: BaseLayer, site: Site) -> None:
        flat = adapter.parts[site.target.part]
        self.adapter, self.layer, self.flat, self.scale = adapter, layer, flat, site.scale
        self.places = [flat.index[f"{site.target.name}.{suffix}"] for suffix in adapter.algorithm.SUFFIXES]

    def __call__(self, x: Tensor) -> Tensor:
        scale = self.scale * self.adapter.multiplier
        if not self.adapter.enabled or scale == 0:
            return self.layer.forward(x)
        matrices = self.flat.matrices()
        return self.adapter.algorithm.forward(x, self.layer, [matrices[place] for place in self.places], scale)


def weight_shape(module: nn.Linear | nn.Conv2d) -> tuple[int, ...]:
    """[out, in] or [out, in, k, k], also where the weight itself is stored packed (quantised)."""
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    return (module.out_channels, module.in_channels, *module.kernel_size)
