"""Put an adapter onto a model, switch it off and on, take it off again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

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
    `late_rates` {part: factor}: how much faster the matrices learn that start at zero (LoRA+, Hayou et al. 2024,
    arXiv 2402.12354: B faster than A).
    """

    algorithm: str = "lora"
    rank: int = 16
    alpha: float = 16.0
    conv_rank: int = 0
    conv_alpha: float = 1.0
    seed: int = 0
    late_rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """One adapted layer: where it is, and what the adapter is there. `rate`: factor of its part's learning rate."""

    target: Target
    rank: int
    alpha: float
    rate: float = 1.0

    @property
    def scale(self) -> float:
        """alpha / rank: the factor of ΔW."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class Group:
    """Parameters of one part of the model that share a learning rate: `factor` × the part's rate.

    `name` is the part's where the factor is 1, else like "unet ×0.5"; `flat.vector` is what an optimizer works on.
    """

    name: str
    part: str
    factor: float
    flat: FlatParameters


def attach(models: Mapping[str, nn.Module], recipe: Recipe, device: torch.device | str | None = None) -> Adapter:
    """A new adapter on the given parts ("unet", "text_encoder_1", "text_encoder_2"), ready to train.

    The models must be frozen. Start values depend on the seed and the layer's name only, not on the device, the other
    layers or their order. The adapter's numbers are fp32 on `device` (else on that of each part); it computes in the
    dtype of the layers it is on. ModelError where a part has no layer to adapt.
    """
    sites = [site for part, model in models.items() for site in _sites(part, model, recipe)]
    adapter = Adapter(recipe.algorithm, sites, recipe.late_rates)
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
    """The adapter of a model: one flat fp32 parameter per group (part and rate), and the layers it changes.

    `multiplier` scales its effect (1 in training; may be set at any time). After an optimizer that writes behind
    torch's back (bitsandbytes), call `changed()`.
    """

    def __init__(self, algorithm: str, sites: list[Site], late_rates: Mapping[str, float] | None = None) -> None:
        """Parameters are zero; nothing is installed yet. `late_rates` as in a recipe."""
        self.algorithm_name = algorithm
        self.algorithm: Algorithm = ADAPTERS[algorithm]
        self.sites = sites
        self.multiplier = 1.0
        self.enabled = True
        self.part_of = {site.target.name: site.target.part for site in sites}
        self.groups = self._grouped(late_rates or {})
        self.flat_of = {name: group.flat for group in self.groups for name in group.flat.slots}
        self._installed: list[tuple[BaseLayer, _SiteForward]] = []

    def _grouped(self, late_rates: Mapping[str, float]) -> list[Group]:
        """The groups: by part in the order of the sites, then by factor."""
        shapes: dict[tuple[str, float], dict[str, tuple[int, ...]]] = {}
        first: dict[str, nn.Linear | nn.Conv2d] = {}
        for site in self.sites:
            part, module = site.target.part, site.target.module
            first.setdefault(part, module)
            for suffix, shape in self.algorithm.shapes(weight_shape(module), site.rank).items():
                late = late_rates.get(part, 1.0) if suffix == self.algorithm.STARTS_ZERO else 1.0
                shapes.setdefault((part, site.rate * late), {})[f"{site.target.name}.{suffix}"] = shape
        order = list(first)
        groups: list[Group] = []
        for part, factor in sorted(shapes, key=lambda key: (order.index(key[0]), key[1])):
            dtype = getattr(first[part], "compute_dtype", first[part].weight.dtype)
            name = part if factor == 1 else f"{part} ×{factor:.9g}"
            groups.append(Group(name, part, factor, FlatParameters(shapes[part, factor], dtype)))
        return groups

    @property
    def vectors(self) -> dict[str, nn.Parameter]:
        """{group: flat fp32 parameter}: what the optimizer, the clipping and a state work on."""
        return {group.name: group.flat.vector for group in self.groups}

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained (without the padding of the flat vectors)."""
        return sum(slot.size for group in self.groups for slot in group.flat.slots.values())

    def parameters_of(self, name: str) -> dict[str, Tensor]:
        """{suffix: fp32 view} of the layer that files call `name`; writing to them changes the adapter."""
        keys = {suffix: f"{name}.{suffix}" for suffix in self.algorithm.SUFFIXES}
        return {suffix: self.flat_of[key].view(key) for suffix, key in keys.items()}

    def tensors(self) -> dict[str, Tensor]:
        """{key as in a file: fp32 view}, alphas (0-dim) included, on the adapter's device."""
        found = {f"{site.target.name}.alpha": torch.tensor(float(site.alpha)) for site in self.sites}
        for group in self.groups:
            found.update(group.flat.views())
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the numbers of a dict as `tensors()` makes it. KeyError if one is missing."""
        for group in self.groups:
            for name, view in group.flat.views().items():
                view.copy_(tensors[name])
        self.changed()

    def to(self, device: torch.device | str | None) -> None:
        """Move the numbers to `device`, or with None to where the layers are."""
        for group in self.groups:
            first = next(site for site in self.sites if site.target.part == group.part)
            group.flat.to(torch.device(device) if device is not None else first.target.module.weight.device)

    def changed(self) -> None:
        """Say that the vectors were written to in a way that torch does not count."""
        for group in self.groups:
            group.flat.changed()

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
        self.adapter, self.layer, self.scale = adapter, layer, site.scale
        keys = [f"{site.target.name}.{suffix}" for suffix in adapter.algorithm.SUFFIXES]
        self.places = [(adapter.flat_of[key], adapter.flat_of[key].index[key]) for key in keys]

    def __call__(self, x: Tensor) -> Tensor:
        scale = self.scale * self.adapter.multiplier
        if not self.adapter.enabled or scale == 0:
            return self.layer.forward(x)
        matrices = [flat.matrices()[place] for flat, place in self.places]
        return self.adapter.algorithm.forward(x, self.layer, matrices, scale)


def weight_shape(module: nn.Linear | nn.Conv2d) -> tuple[int, ...]:
    """[out, in] or [out, in, k, k], also where the weight itself is stored packed (quantised)."""
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    return (module.out_channels, module.in_channels, *module.kernel_size)
