"""Merge finished adapters into the base model in memory, before another one is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from engine.adapter_header import Merge, parts_of_file
from engine.adapters.algorithm import Context
from engine.adapters.attach import Adapter
from engine.adapters.layer import FrozenLayer
from engine.adapters.loading import apply_file, read_onto
from engine.adapters.site import Site, weight_shape
from engine.adapters.targets import TEXT_1, TEXT_2, UNET
from engine.sdxl.storage import StoredConv2d, StoredLinear

Change = Callable[[Tensor], Tensor]
_PARTS = {"unet": UNET, "text_1": TEXT_1, "text_2": TEXT_2}


def merge_into(models: Mapping[str, nn.Module], merges: Sequence[Merge]) -> None:
    """Add each file's change, times its strength, to the weights of the given parts; the files stay as they are.

    Parts that a file has no layers for are passed over. Weights keep their precision, those that are widened when used
    are kept wide; those that are stored packed are passed over (see `changes_before_packing`). ModelError, in a
    sentence, where a file does not fit the model.
    """
    for merge in merges:
        here = {part: model for part, model in models.items() if part in parts_of_file(merge.path)}
        if here:
            adapter = apply_file(here, merge.path, merge.strength)
            changes = _changes(adapter)
            adapter.detach()
            for (module, name), change in changes.items():
                _add(module, name, change)


@torch.no_grad()
def _changes(adapter: Adapter) -> dict[tuple[nn.Module, str], Tensor]:
    """{(layer, "weight" or "bias"): what is to be added, fp32}."""
    found: dict[tuple[nn.Module, str], Tensor] = {}
    for site, context in zip(adapter.sites, adapter.contexts(), strict=True):
        module, parameters = site.target.module, adapter.parameters_of(site.target.name)
        if not isinstance(module, StoredLinear | StoredConv2d):
            found[module, "weight"] = site.how.delta_weight(parameters, _wide(module.weight), context)
        bias = site.how.delta_bias(parameters, context)
        if bias is not None and module.bias is not None:
            found[module, "bias"] = bias
    return found


def changes_before_packing(merges: Sequence[Merge]) -> Callable[[str, nn.Module], dict[str, Change]]:
    """For the loaders of a packed model: (part as checkpoints call it, module without content) → {name: change}.

    A change takes the dense weight of a layer, in any floating dtype, and gives it with every file's change added one
    after the other, in fp32 at least: what is packed then is what was merged. ModelError as `merge_into`.
    """
    return partial(_changes_of_part, tuple(merges))


def _changes_of_part(merges: Sequence[Merge], part: str, module: nn.Module) -> dict[str, Change]:
    found: dict[str, list[Step]] = {}
    for merge in merges:
        if _PARTS[part] in parts_of_file(merge.path):
            adapter = read_onto({_PARTS[part]: module}, merge.path)
            for site in adapter.sites:
                step = Step(site, adapter.parameters_of(site.target.name), merge.strength)
                found.setdefault(f"{site.target.path}.weight", []).append(step)
    return {name: partial(merged_weight, steps) for name, steps in found.items()}


@dataclass(frozen=True)
class Step:
    """What one file does to one layer."""

    site: Site
    parameters: Mapping[str, Tensor]
    strength: float


@torch.no_grad()
def merged_weight(steps: Sequence[Step], dense: Tensor) -> Tensor:
    """The weight after all steps, in the layer's shape; fp32 at least."""
    weight = _wide(dense).reshape(weight_shape(steps[0].site.target.module))
    for step in steps:
        parameters = {suffix: _wide(tensor.to(weight.device)) for suffix, tensor in step.parameters.items()}
        layer: Any = SimpleNamespace(weight=weight)
        constants = step.site.how.constants(FrozenLayer(layer, lambda x: x, is_plain=True), parameters)
        context = Context(step.site.scale, step.strength, step.site.options, None, constants)
        weight = weight + step.site.how.delta_weight(parameters, weight, context)
    return weight


@torch.no_grad()
def merged_bias(steps: Sequence[Step], bias: Tensor) -> Tensor:
    """The bias [out] after all steps, fp32 at least."""
    bias = _wide(bias)
    for step in steps:
        parameters = {suffix: _wide(tensor) for suffix, tensor in step.parameters.items()}
        change = step.site.how.delta_bias(parameters, Context(step.site.scale, step.strength, step.site.options))
        bias = bias if change is None else bias + change
    return bias


def _add(module: nn.Module, name: str, change: Tensor) -> None:
    old: nn.Parameter = getattr(module, name)
    dtype = getattr(module, "compute_dtype", old.dtype)
    setattr(module, name, nn.Parameter((_wide(old) + change).to(dtype), requires_grad=False))


def _wide(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
