"""Merge finished adapters into the base model in memory, before another one is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engine.adapter_header import Merge, parts_of_file
from engine.adapters.attach import Adapter
from engine.adapters.loading import apply_file


def merge_into(models: Mapping[str, nn.Module], merges: Sequence[Merge]) -> None:
    """Add each file's change, times its strength, to the weights of the given parts; the files stay as they are.

    Parts that a file has no layers for are passed over. Weights keep their precision, those that are widened when used
    are kept wide. ModelError, in a sentence, where a file does not fit the model.
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
        found[module, "weight"] = site.how.delta_weight(parameters, _wide(module.weight), context)
        bias = site.how.delta_bias(parameters, context)
        if bias is not None and module.bias is not None:
            found[module, "bias"] = bias
    return found


def _add(module: nn.Module, name: str, change: Tensor) -> None:
    old: nn.Parameter = getattr(module, name)
    dtype = getattr(module, "compute_dtype", old.dtype)
    setattr(module, name, nn.Parameter((_wide(old) + change).to(dtype), requires_grad=False))


def _wide(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
