"""Put an adapter onto a model, switch it off and on, take it off again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from engine.adapter_shapes import FROZEN, Options, Shapes
from engine.adapters.algorithm import Context
from engine.adapters.dropout import Dropout, DropoutMasks
from engine.adapters.flat import FlatParameters
from engine.adapters.gates import Gates, key_of
from engine.adapters.layer import FrozenLayer, Layer, frozen_layer, install, uninstall
from engine.adapters.site import Group, Site
from engine.adapters.targets import Target, all_targets, norm_targets
from engine.errors import ModelError
from engine.layer_choice import Chosen, LayerChoice

if TYPE_CHECKING:
    from engine.adapters.starting import Start


@dataclass(frozen=True)
class Recipe:
    """What adapter to make. The scale of a layer is alpha / rank; `conv_rank` 0 leaves the convolutions alone.

    k×k convolutions take conv_rank and conv_alpha; linears and 1×1 convolutions rank and alpha wherever they are.
    `options` are those of the algorithm; `norms`: the norms' weights and biases are trained as well, as differences.
    `rank_stabilised`: the scale is alpha / √rank (Kalajdzievski 2023, arXiv 2312.03732, equation 5).
    `start`: a file to begin with. `late_rates` {part: factor}: how much faster the matrices learn that start at zero
    (LoRA+, Hayou et al. 2024, arXiv 2402.12354: B faster than A). `choice` says more about single layers; it then holds
    the ranks and alphas.
    """

    algorithm: str = "lora"
    rank: int = 16
    alpha: float = 16.0
    conv_rank: int = 0
    conv_alpha: float = 1.0
    seed: int = 0
    options: Options = field(default_factory=Options)
    rank_stabilised: bool = False
    norms: bool = False
    late_rates: Mapping[str, float] = field(default_factory=dict)
    choice: LayerChoice | None = None
    dropout: Dropout = field(default_factory=Dropout)
    start: Start | None = None


def attach(models: Mapping[str, nn.Module], recipe: Recipe, device: torch.device | str | None = None) -> Adapter:
    """A new adapter on the given parts ("unet", "text_encoder_1", "text_encoder_2"), ready to train.

    The models must be frozen. Start values depend on the seed and the layer's name only, not on the device, the other
    layers or their order. The adapter's numbers are fp32 on `device` (else on that of each part); it computes in the
    dtype of the layers it is on. ModelError where a part has no layer to adapt.
    """
    start = recipe.start
    if start is not None and start.gives_ranks:
        sites = start.sites(models, recipe)
    else:
        sites = [site for part, model in models.items() for site in _sites(part, model, recipe)]
    adapter = Adapter(sites, recipe.late_rates)
    adapter.dropout = DropoutMasks(recipe.dropout, sites, recipe.seed)
    for site in sites:
        parameters, layer = adapter.parameters_of(site.target.name), frozen_layer(site.target.module)
        site.how.init(_generator(recipe.seed, site.target.name), parameters, layer)
    adapter.started = start.fill(adapter) if start is not None else ""
    adapter.to(device)
    adapter.install()
    return adapter


def _sites(part: str, model: nn.Module, recipe: Recipe) -> list[Site]:
    found = all_targets(part, model)
    if not any(target.kind in ("attention", "text") for target in found):
        raise ModelError("has no attention or feed-forward layer that an adapter could go onto.", part)
    choice = recipe.choice or LayerChoice(recipe.rank, recipe.alpha, recipe.conv_rank, recipe.conv_alpha)
    pairs = [(target, choice.of(target.name, target.kind, _kernel(target.module))) for target in found]
    sites = [_site(target, chosen, recipe) for target, chosen in pairs if chosen is not None]
    if not sites:
        raise ModelError("no layer of it is chosen. Choose more blocks or patterns, or do not train it.", part)
    unfit = [site for site in sites if not site.shapes]
    if unfit:
        what = f"{recipe.algorithm} cannot split layers of {unfit[0].place.outputs} outputs at rank {unfit[0].rank}."
        raise ModelError(f"{what} Choose a larger rank.", part)
    norms = norm_targets(part, model) if recipe.norms else []
    rates = [(target, choice.rate_of(target.name)) for target in norms]
    return sites + [Site(target, 1, 1.0, rate, algorithm="full") for target, rate in rates if rate]


def _site(target: Target, chosen: Chosen, recipe: Recipe) -> Site:
    alpha = chosen.alpha * (math.sqrt(chosen.rank) if recipe.rank_stabilised else 1)  # a file's readers divide by rank
    return Site(target, chosen.rank, alpha, chosen.rate, recipe.algorithm, recipe.options)


def _kernel(module: Layer) -> int:
    return module.kernel_size[0] if isinstance(module, nn.Conv2d) else 1


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


class Adapter:
    """The adapter of a model: one flat fp32 parameter per group (part and rate), and the layers it changes.

    `multiplier` scales its effect (1 in training; may be set at any time), and that of single layers once more by their
    `factors` {name in a file: factor}. After an optimizer that writes behind
    torch's back (bitsandbytes), call `changed()`.
    """

    def __init__(self, sites: list[Site], late_rates: Mapping[str, float] | None = None) -> None:
        """Parameters are zero; nothing is installed yet. `late_rates` as in a recipe."""
        self.sites = sites
        self.gates = Gates()
        self.dropout = DropoutMasks(Dropout(), sites, 0)
        self.multiplier = 1.0
        self.factors: Mapping[str, float] = {}
        self.enabled = True
        self.started = ""
        self.part_of = {site.target.name: site.target.part for site in sites}
        self.shapes_of: dict[str, Mapping[str, tuple[int, ...]]] = {site.target.name: site.shapes for site in sites}
        self.groups = self._grouped(late_rates or {})
        self.still = self._still()
        flats = [*(group.flat for group in self.groups), *self.still.values()]
        self.flat_of = {name: flat for flat in flats for name in flat.slots}
        self._installed: list[tuple[FrozenLayer, _SiteForward]] = []

    def _grouped(self, late_rates: Mapping[str, float]) -> list[Group]:
        """The groups: by part in the order of the sites, then by factor."""
        shapes: dict[tuple[str, float], Shapes] = {}
        for site in self.sites:
            late_rate = late_rates.get(site.target.part, 1.0)
            for suffix, shape in self.shapes_of[site.target.name].items():
                if suffix not in FROZEN.get(site.algorithm, ()):
                    factor = site.rate * (late_rate if suffix in site.how.STARTS_ZERO else 1.0)
                    shapes.setdefault((site.target.part, factor), {})[f"{site.target.name}.{suffix}"] = shape
        order = list(dict.fromkeys(site.target.part for site in self.sites))
        groups: list[Group] = []
        for part, factor in sorted(shapes, key=lambda key: (order.index(key[0]), key[1])):
            name = part if factor == 1 else f"{part} ×{factor:.9g}"
            groups.append(Group(name, part, factor, self._flat(part, shapes[part, factor])))
        return groups

    def _still(self) -> dict[str, FlatParameters]:
        """{part: what is saved but not trained}."""
        shapes: dict[str, Shapes] = {}
        for site in self.sites:
            for suffix in FROZEN.get(site.algorithm, ()):
                name = f"{site.target.name}.{suffix}"
                shapes.setdefault(site.target.part, {})[name] = self.shapes_of[site.target.name][suffix]
        found = {part: self._flat(part, here) for part, here in shapes.items()}
        for flat in found.values():
            flat.vector.requires_grad_(False)
        return found

    def _flat(self, part: str, shapes: Shapes) -> FlatParameters:
        first = next(site.target.module for site in self.sites if site.target.part == part)
        return FlatParameters(shapes, getattr(first, "compute_dtype", first.weight.dtype))

    def _flats(self) -> Iterator[tuple[str, FlatParameters]]:
        """(part, numbers) of all groups, and of what is not trained."""
        yield from ((group.part, group.flat) for group in self.groups)
        yield from self.still.items()

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
        keys = {suffix: f"{name}.{suffix}" for suffix in self.shapes_of[name]}
        return {suffix: self.flat_of[key].view(key) for suffix, key in keys.items()}

    def tensors(self) -> dict[str, Tensor]:
        """{key as in a file: fp32 view}, alphas (0-dim) included, on the adapter's device."""
        found = {key: value for site in self.sites for key, value in site.scalars().items()}
        for _, flat in self._flats():
            found.update(flat.views())
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the numbers of a dict as `tensors()` makes it. KeyError if one is missing."""
        for _, flat in self._flats():
            for name, view in flat.views().items():
                view.copy_(tensors[name])
        self.changed()

    def to(self, device: torch.device | str | None, dtype: torch.dtype | None = None) -> None:
        """Move the numbers to `device`, or with None to where the layers are; keep them in `dtype` (else fp32)."""
        for part, flat in self._flats():
            first = next(site for site in self.sites if site.target.part == part)
            flat.to(torch.device(device) if device is not None else first.target.module.weight.device, dtype)

    def changed(self) -> None:
        """Say that the vectors were written to in a way that torch does not count."""
        for _, flat in self._flats():
            flat.changed()

    def begin_batch(self, draw: float, timesteps: Tensor) -> None:
        """Before a batch: set the rank masks of the algorithms that have some (`dropout.draw` sets those of dropout).

        `draw`: the step's random number in [0, 1); timesteps [B] on the device. Until `end_batch` the masks hold;
        samples and validation are made without.
        """
        self.gates.set(self.sites, draw, timesteps)

    def end_batch(self) -> None:
        """After the backward pass: all ranks take part again."""
        self.gates.clear()
        self.dropout.clear()

    def install(self) -> None:
        """Let the layers compute with the adapter. Over an adapter that is there already it adds to its effect."""
        layers = [frozen_layer(site.target.module) for site in self.sites]  # all are looked at before any is changed
        for layer, site in zip(layers, self.sites, strict=True):
            forward = _SiteForward(self, layer, site)
            install(layer, forward)
            self._installed.append((layer, forward))

    def detach(self) -> None:
        """Take the adapter off the model, which then computes what it did before. Twice is once."""
        while self._installed:
            uninstall(*self._installed[-1])
            self._installed.pop()

    def contexts(self) -> list[Context]:
        """What the algorithm knows at each site beside the parameters, while the adapter is installed."""
        return [replace(forward.context, multiplier=self.strength_of(forward.name)) for _, forward in self._installed]

    def strength_of(self, name: str) -> float:
        """How strongly it acts on the layer that files call `name`."""
        return self.multiplier * self.factors.get(name, 1.0) if self.factors else self.multiplier

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

    def __init__(self, adapter: Adapter, layer: FrozenLayer, site: Site) -> None:
        self.adapter, self.layer, self.how, self.key = adapter, layer, site.how, key_of(site)
        self.name = site.target.name
        keys = {suffix: f"{site.target.name}.{suffix}" for suffix in adapter.shapes_of[site.target.name]}
        self.places = [(suffix, adapter.flat_of[key], adapter.flat_of[key].index[key]) for suffix, key in keys.items()]
        constants = self.how.constants(layer, adapter.parameters_of(site.target.name))
        self.context = Context(site.scale, adapter.multiplier, site.options, None, constants)

    def __call__(self, x: Tensor) -> Tensor:
        adapter = self.adapter
        strength = adapter.strength_of(self.name)
        if not adapter.enabled or strength == 0:
            return self.layer.forward(x)
        gate = adapter.gates.of(self.key)
        if gate is not self.context.gate or strength != self.context.multiplier:
            self.context = replace(self.context, gate=gate, multiplier=strength)
        parameters = {suffix: flat.matrices()[place] for suffix, flat, place in self.places}
        return self.how.forward(x, self.layer, parameters, adapter.dropout.context(self.context, self.name, x))
