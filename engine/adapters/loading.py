"""Read adapter files with kohya's names and put them onto a model: to draw with, or to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.adapters import ADAPTERS
from engine.adapters.attach import Adapter, Site, weight_shape
from engine.adapters.targets import PREFIX, Target, diffusers_name, targets
from engine.errors import ModelError
from engine.sdxl.safefile import read_header


@dataclass(frozen=True)
class AdapterFile:
    """A file as it was read: {layer name: {suffix: tensor}} (dtype of the file), alphas, metadata."""

    path: Path
    algorithm: str
    layers: dict[str, dict[str, Tensor]]
    alphas: dict[str, float]
    metadata: dict[str, str]


def load_adapter_file(path: Path) -> AdapterFile:
    """Read and check an adapter file. A layer without alpha has alpha = rank, as everywhere.

    ModelError, in a sentence, for a file that is damaged, is no adapter, or is of a kind that is not known.
    """
    header = read_header(path)
    tensors = load_file(path)
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, suffix = key.partition(".")
        layers.setdefault(name, {})[suffix] = tensor
    alphas = {name: float(layer.pop("alpha")) for name, layer in layers.items() if "alpha" in layer}
    algorithm = _algorithm(layers, str(path))
    for name, layer in layers.items():
        alphas.setdefault(name, float(ADAPTERS[algorithm].rank_of(layer)))
    return AdapterFile(Path(path), algorithm, layers, alphas, header.metadata)


def _algorithm(layers: Mapping[str, Mapping[str, Tensor]], where: str) -> str:
    strange = [name for name in layers if not name.startswith(tuple(PREFIX.values()))]
    if strange or not layers:
        what = f"its first unknown layer is {strange[0]!r}, {len(strange)} in all" if strange else "it holds no tensors"
        raise ModelError(
            f"is not an SDXL adapter with kohya's names ({what}). "
            "Choose a LoRA file as AUTOMATIC1111, Forge or ComfyUI use it.",
            where,
        )
    suffixes = {suffix for layer in layers.values() for suffix in layer}
    for name, algorithm in ADAPTERS.items():
        if suffixes == set(algorithm.SUFFIXES):
            incomplete = [layer for layer, parts in layers.items() if set(parts) != suffixes]
            if incomplete:
                what = f"lacks tensors of {len(incomplete)} layers (first: {incomplete[0]})"
                raise ModelError(f"{what}. Download or copy it again.", where)
            return name
    raise ModelError(
        f"is an adapter of a kind that is not known here (its tensors are called {', '.join(sorted(suffixes))}). "
        f"Known: {', '.join(ADAPTERS)}.",
        where,
    )


def apply_file(
    models: Mapping[str, nn.Module], path: Path, multiplier: float = 1.0, device: torch.device | str | None = None
) -> Adapter:
    """Put a finished adapter onto the given parts ("unet", "text_encoder_1", "text_encoder_2"), frozen.

    Rank and alpha come from the file, layer by layer. UNet layers may be named in the single-file way or in diffusers'.
    Layers of parts that are not given are passed over. ModelError where the file does not fit the model.
    """
    file = load_adapter_file(path)
    algorithm = ADAPTERS[file.algorithm]
    known = _known_layers(models)
    wanted = [name for name in file.layers if name.startswith(tuple(PREFIX[part] for part in models))]
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
    sites = [Site(known[name], algorithm.rank_of(file.layers[name]), file.alphas[name]) for name in wanted]
    adapter = Adapter(file.algorithm, sites)
    for name, site in zip(wanted, sites, strict=True):
        _copy(file, name, site, adapter)
    for vector in adapter.vectors.values():
        vector.requires_grad_(False)
    adapter.multiplier = multiplier
    adapter.to(device)
    adapter.install()
    return adapter


def _known_layers(models: Mapping[str, nn.Module]) -> dict[str, Target]:
    found: dict[str, Target] = {}
    for part, model in models.items():
        for target in targets(part, model, with_conv=True):
            found[target.name] = found[diffusers_name(part, target.path)] = target
    return found


def _copy(file: AdapterFile, name: str, site: Site, adapter: Adapter) -> None:
    own = adapter.parameters_of(site.target.name)
    for suffix, tensor in file.layers[name].items():
        if tensor.numel() != own[suffix].numel():  # [r, in] and [r, in, 1, 1] are both in use
            raise ModelError(
                f"does not fit the model: {name}.{suffix} has the shape {list(tensor.shape)}, "
                f"for a layer of {list(weight_shape(site.target.module))} it must have {list(own[suffix].shape)}. "
                "It was made for another base model.",
                str(file.path),
            )
        own[suffix].copy_(tensor.reshape(own[suffix].shape))
