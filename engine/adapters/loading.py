"""Read adapter files, in any naming, and put them onto a model: to draw with, or to train on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.adapter_header import SCALARS, known_adapter
from engine.adapter_names import DOTTED, MAGNITUDE, OFT_PREFIX
from engine.adapter_shapes import Place
from engine.adapters import ADAPTERS
from engine.adapters.algorithm import Algorithm
from engine.adapters.attach import Adapter
from engine.adapters.cores import without_core
from engine.adapters.site import Site, weight_shape
from engine.adapters.targets import PREFIX, UNET, Target, all_targets, diffusers_name, norm_targets
from engine.errors import ModelError

__all__ = ["SCALARS", "AdapterFile", "LoadedLayer", "apply_file", "load_adapter_file", "names_of", "read_onto"]


@dataclass(frozen=True)
class LoadedLayer:
    """One layer of a file: {suffix: tensor} (dtype of the file), and the single numbers beside them."""

    algorithm: str
    tensors: dict[str, Tensor]
    scalars: dict[str, float]

    @property
    def how(self) -> Algorithm:
        return ADAPTERS[self.algorithm]

    @property
    def rank(self) -> int:
        return self.how.rank_of(self.tensors)

    @property
    def alpha(self) -> float:
        """As in the file; without one it is the rank, as everywhere."""
        return self.scalars.get("alpha", float(self.rank))


@dataclass(frozen=True)
class AdapterFile:
    """A file as it was read: its layers by name, and its metadata."""

    path: Path
    layers: dict[str, LoadedLayer]
    metadata: dict[str, str]

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms of its layers; most files have one."""
        return tuple(dict.fromkeys(layer.algorithm for layer in self.layers.values()))


def load_adapter_file(path: Path) -> AdapterFile:
    """Read and check an adapter file. Each layer may be of another algorithm (norms beside LoRA, say).

    ModelError, in a sentence, for a file that is damaged, is no adapter, or is of a kind that is not known.
    """
    header = known_adapter(path)
    held = {name: tensor for file in header.files for name, tensor in load_file(file).items()}
    tensors: dict[str, dict[str, Tensor]] = {}
    scalars: dict[str, dict[str, float]] = {}
    for key, name in header.names.items():
        tensor = held[name]
        if key.suffix in SCALARS and tensor.numel() == 1:
            scalars.setdefault(key.layer, {})[key.suffix] = float(tensor)
        else:
            is_row = key.suffix == MAGNITUDE and header.naming in DOTTED
            tensors.setdefault(key.layer, {})[key.suffix] = as_column(tensor) if is_row else tensor
    for layer in header.layers if header.configs else ():
        alpha = header.alpha_of(layer)
        if alpha is not None:
            scalars.setdefault(layer, {})["alpha"] = alpha
    names = [*tensors, *(name for name in scalars if name not in tensors)]
    plain = {name: without_core(own, name, str(path)) for name, own in tensors.items()}
    layers = {name: layer_of(name, plain.get(name, {}), scalars.get(name, {}), str(path)) for name in names}
    return AdapterFile(Path(path), layers, header.metadata)


def as_column(tensor: Tensor) -> Tensor:
    """DoRA's magnitudes as [out, 1] or [out, 1, 1, 1]: diffusers and peft write them as [out] or [1, out, 1, 1]."""
    return tensor.reshape(-1, 1, *(1 for _ in tensor.shape[2:]))


def layer_of(name: str, tensors: dict[str, Tensor], scalars: dict[str, float], where: str) -> LoadedLayer:
    """The layer with the algorithm that its tensors belong to."""
    found = set(tensors)
    for algorithm, how in ADAPTERS.items():
        if found and found <= set(how.SUFFIXES) and how.recognises(tensors):
            return LoadedLayer(algorithm, tensors, scalars)
    kinds = {algorithm for algorithm, how in ADAPTERS.items() if found & set(how.SUFFIXES)}
    known = {suffix for how in ADAPTERS.values() for suffix in how.SUFFIXES}
    shown = ", ".join(sorted(found))
    if found - known:
        what = f"is an adapter of a kind that is not known here (a layer's tensors are called {shown})."
        raise ModelError(f"{what} Known: {', '.join(ADAPTERS)}.", where)
    if len(kinds) > 1 and not any(found <= set(ADAPTERS[kind].SUFFIXES) for kind in kinds):
        what = f"mixes kinds of adapters within one layer ({name}: {shown}), which no program can apply."
        raise ModelError(f"{what} Choose another file.", where)
    raise ModelError(f"lacks tensors of the layer {name} (it has only {shown or 'an alpha'}). Copy it again.", where)


def apply_file(
    models: Mapping[str, nn.Module], path: Path, multiplier: float = 1.0, device: torch.device | str | None = None
) -> Adapter:
    """Put a finished adapter onto the given parts ("unet", "text_encoder_1", "text_encoder_2"), frozen.

    Rank and alpha come from the file, layer by layer. UNet layers may be named in the single-file way or in diffusers'.
    Layers of parts that are not given are passed over. ModelError where the file does not fit the model.
    """
    adapter = read_onto(models, path)
    adapter.multiplier = multiplier
    adapter.to(device)
    adapter.install()
    return adapter


def read_onto(models: Mapping[str, nn.Module], path: Path) -> Adapter:
    """As `apply_file`, but nothing is installed yet, and the models' weights are not looked at; numbers on the CPU."""
    file = load_adapter_file(path)
    known = _known_layers(models)
    prefixes = tuple(PREFIX[part] for part in models) + ((OFT_PREFIX,) if UNET in models else ())
    wanted = [name for name in file.layers if name.startswith(prefixes)]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ModelError(
            f"has {len(unknown)} layers that this model does not have (first: {unknown[0]}). "
            "It was made for another kind of model.",
            str(path),
        )
    if not wanted:
        raise ModelError(f"has no layer for {' or '.join(models)}.", str(path))
    if len({known[name].name for name in wanted}) < len(wanted):
        raise ModelError("names layers twice: the single-file way and diffusers'. Choose another file.", str(path))
    sites = [site_of(known[name], file.layers[name]) for name in wanted]
    adapter = Adapter(sites)
    for name, site in zip(wanted, sites, strict=True):
        _copy(file, name, site, adapter)
    for flat in adapter.flat_of.values():
        flat.vector.requires_grad_(False)
    return adapter


def site_of(target: Target, layer: LoadedLayer) -> Site:
    """The site that a layer of a file makes of a layer of the model, with the shapes that its tensors must have."""
    how, options = layer.how, layer.how.options_of(layer.tensors, layer.scalars)
    module = target.module
    place = Place(weight_shape(module), layer.rank, module.bias is not None, options)
    shapes = how.shapes_of(layer.tensors, place)
    return Site(target, layer.rank, layer.alpha, algorithm=layer.algorithm, options=options, loaded_shapes=shapes)


def names_of(part: str, path: str, name: str) -> tuple[str, ...]:
    """What files call a layer: the single-file way, diffusers' way, and in the UNet kohya's OFT's."""
    names = (name, diffusers_name(part, path))
    return (*names, OFT_PREFIX + name.removeprefix(PREFIX[UNET])) if part == UNET else names


def _known_layers(models: Mapping[str, nn.Module]) -> dict[str, Target]:
    found: dict[str, Target] = {}
    for part, model in models.items():
        for target in (*all_targets(part, model), *norm_targets(part, model)):
            found.update(dict.fromkeys(names_of(part, target.path, target.name), target))
    return found


def _copy(file: AdapterFile, name: str, site: Site, adapter: Adapter) -> None:
    own = adapter.parameters_of(site.target.name)
    for suffix, tensor in fitted(file.layers[name], name, site, str(file.path)).items():
        own[suffix].copy_(tensor)


def fitted(layer: LoadedLayer, name: str, site: Site, where: str) -> dict[str, Tensor]:
    """A layer's tensors in the shapes that its site has. ModelError where they are of another size."""
    own, tensors, found = site.shapes, layer.tensors, {}
    for suffix in (*own, *(suffix for suffix in tensors if suffix not in own)):
        shape = list(own.get(suffix, ()))
        given = list(tensors[suffix].shape) if suffix in tensors else []
        if math.prod(given) != math.prod(shape) or not given or not shape:  # [r, in] and [r, in, 1, 1] are both in use
            raise ModelError(
                f"does not fit the model: {name}.{suffix} has the shape {given}, "
                f"for a layer of {list(weight_shape(site.target.module))} it must have {shape}. "
                "It was made for another base model.",
                where,
            )
        found[suffix] = tensors[suffix].reshape(shape)
    return found
