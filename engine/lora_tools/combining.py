"""The changes of several LoRAs added up, layer by layer: exactly, at a rank, or as the mean of their matrices."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from engine.lora_tools.changes import alpha_tensor, dense_change, lora_tensors, thin_factors
from engine.lora_tools.combine import Combination
from engine.lora_tools.lora_file import DOWN, UP, LoraFile
from engine.lora_tools.low_rank import frobenius, product_svd, truncated_svd
from engine.lora_tools.resizing import SEED, Errors
from engine.lora_tools.spelling import spelling_of
from engine.lora_tools.sums import DIFFERENCES, Part, summed_rank
from engine.lora_tools.writing import LayerReader, in_precision, seed_of, with_history, write_lora
from engine.tools.tool import Report

Tensors = Mapping[str, Tensor]
_CARRIES_THE_WEIGHT = ("lora_up.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a", "diff", "diff_b", "w_norm", "b_norm")


def combine(plan: Combination, report: Report) -> str | None:
    """Make the file; what came out, or None where a stop was asked for. UserError kinds as in reading and writing."""
    made: dict[str, Tensor] = {}
    errors, ranks, scales = Errors(), set[int](), set[float]()
    with ExitStack() as stack:
        readers = [stack.enter_context(LayerReader(file)) for file in plan.files]
        for place, (name, parts) in enumerate(plan.parts.items()):
            if report.is_stop_asked():
                return None
            given = [readers[part.file].tensors(part.layer) for part in parts]
            found = _layer(plan, parts, given, errors)
            if DOWN in found:
                ranks.add(len(found[DOWN]))
                scales.add(round(float(found.get("alpha", len(found[DOWN]))) / len(found[DOWN]), 6))
            made |= in_precision({f"{name}.{suffix}": tensor for suffix, tensor in found.items()}, plan.precision)
            report.progress(place, len(plan.parts))
    write_lora(plan.target, made, _metadata(plan, ranks, scales, errors), spelling_of(plan.files, plan.target))
    return _told(plan, ranks, errors)


def _layer(plan: Combination, parts: Sequence[Part], given: Sequence[Tensors], errors: Errors) -> dict[str, Tensor]:
    families = {part.layer.family for part in parts}
    limit = plan.ranks.limit(parts[0].layer.name, parts[0].layer.kernel)
    is_small = summed_rank(parts) <= limit
    if families <= {"norm"} or (families <= set(DIFFERENCES) and plan.method != "svd"):
        return differences(parts, given)
    if plan.method == "svd" and not is_small:
        return _best(parts, given, limit, errors)
    if len(parts) == 1:
        return weighted(parts[0], given[0])
    if plan.method == "add":
        return _mean(parts, given, errors)
    return concatenated(parts, given)


def differences(parts: Sequence[Part], given: Sequence[Tensors]) -> dict[str, Tensor]:
    """Σ weight · difference, of weights and biases."""
    found: dict[str, Tensor] = {}
    for part, tensors in zip(parts, given, strict=True):
        for suffix, tensor in tensors.items():
            if suffix in _CARRIES_THE_WEIGHT:
                sum_so_far = found.get(suffix, torch.zeros(()))
                found[suffix] = sum_so_far + part.weight * tensor.float()
    return {suffix: tensor.to(given[0].get(suffix, tensor).dtype) for suffix, tensor in found.items()}


def weighted(part: Part, tensors: Tensors) -> dict[str, Tensor]:
    """A layer that one file has: as it is, one of its matrices times the weight."""
    if part.weight == 1:
        return dict(tensors)
    return {
        suffix: (part.weight * tensor.float()).to(tensor.dtype) if suffix in _CARRIES_THE_WEIGHT else tensor
        for suffix, tensor in tensors.items()
    }


def concatenated(parts: Sequence[Part], given: Sequence[Tensors]) -> dict[str, Tensor]:
    """The matrices side by side: Σ weight · ΔW exactly. alpha / rank stays that of the first LoRA among them.

    Matrices of that alpha / rank and weight 1 stay as they are, bit by bit.
    """
    like = _like(parts)
    total = sum(_thin_rank(part, tensors) for part, tensors in zip(parts, given, strict=True))
    alpha = alpha_tensor(given[like], _scale(parts[like]), total)
    scale = float(alpha) / total
    ups, downs = zip(*(_thin(part, tensors, scale) for part, tensors in zip(parts, given, strict=True)), strict=True)
    kernel, dtype = parts[0].layer.kernel, _dtype(given[like])
    up, down = torch.cat(ups, 1), torch.cat(downs, 0)
    return {
        DOWN: down.to(dtype).view(total, -1, *kernel) if kernel else down.to(dtype),
        UP: up.to(dtype).view(*up.shape, *(1 for _ in kernel)),
        "alpha": alpha,
    }


def _thin(part: Part, tensors: Tensors, scale: float) -> tuple[Tensor, Tensor]:
    """(up, down), fp64, with scale · up · down = weight · ΔW; the factor is shared between both."""
    layer = part.layer
    up, down = thin_factors(layer, tensors)
    up = up / layer.scale if layer.scale else up
    factor = part.weight * layer.scale / scale
    root = math.sqrt(abs(factor))
    return up * math.copysign(root, factor), down * root


def _thin_rank(part: Part, tensors: Tensors) -> int:
    return thin_factors(part.layer, tensors)[0].shape[1] if part.layer.family != "lora" else part.layer.rank


def _best(parts: Sequence[Part], given: Sequence[Tensors], limit: int, errors: Errors) -> dict[str, Tensor]:
    """The nearest change of rank `limit`."""
    layer = parts[0].layer
    pairs = list(zip(parts, given, strict=True))
    if summed_rank(parts) <= min(layer.matrix_shape):
        thin = [(part.weight, *thin_factors(part.layer, tensors)) for part, tensors in pairs]
        found = product_svd(torch.cat([w * up for w, up, _ in thin], 1), torch.cat([down for _, _, down in thin], 0))
        found = found.first(limit)
    else:
        dense = sum((part.weight * dense_change(part.layer, tensors) for part, tensors in pairs), torch.zeros(()))
        found = truncated_svd(dense, limit, seed_of(SEED, layer.name))
    errors.add(layer.name, found)
    like = _like(parts)
    alpha = alpha_tensor(given[like], _scale(parts[like]), found.rank)
    made = lora_tensors(found, layer.kernel, float(alpha) / found.rank, _dtype(given[like]))
    return made | {"alpha": alpha}


def _mean(parts: Sequence[Part], given: Sequence[Tensors], errors: Errors) -> dict[str, Tensor]:
    """Each matrix is the weighted mean of its like, and one of them carries the sum of the weights.

    Exact for LoRAs that are alike; else products of unlike matrices come in (they are in the error that is told).
    Differing alphas are brought to the first one's, half of the factor in each matrix.
    """
    first = parts[0].layer
    total = sum(part.weight for part in parts)
    found: dict[str, Tensor] = {suffix: tensor for suffix, tensor in given[0].items() if tensor.dim() < 2}
    for suffix in (suffix for suffix, tensor in given[0].items() if tensor.dim() > 1):
        mean = torch.zeros(())
        for part, tensors in zip(parts, given, strict=True):
            mean = mean + part.weight / total * math.sqrt(part.layer.scale / first.scale) * tensors[suffix].float()
        found[suffix] = mean * (total if suffix in _CARRIES_THE_WEIGHT else 1)
    exact = torch.zeros(())
    for part, tensors in zip(parts, given, strict=True):
        exact = exact + part.weight * dense_change(part.layer, tensors)
    errors.note(first.name, frobenius(exact - dense_change(first, found)), frobenius(exact), first.rank)
    return {suffix: tensor.to(given[0][suffix].dtype) for suffix, tensor in found.items()}


def _like(parts: Sequence[Part]) -> int:
    """The part whose number format and alpha the new layer takes: the first LoRA, else the first."""
    return next((place for place, part in enumerate(parts) if part.layer.family == "lora"), 0)


def _scale(part: Part) -> float:
    return part.layer.scale if part.layer.family == "lora" and part.layer.scale > 0 else 1.0


def _dtype(tensors: Tensors) -> torch.dtype:
    return next(tensor.dtype for tensor in tensors.values() if tensor.dim() > 1)


def _metadata(plan: Combination, ranks: set[int], scales: set[float], errors: Errors) -> dict[str, str]:
    """What all files agree on, and what follows from the combination."""
    every = [file.metadata for file in plan.files]
    found = {key: text for key, text in every[0].items() if all(other.get(key) == text for other in every)}
    one = ranks.pop() if len(ranks) == 1 and len(scales) == 1 else None
    phrases = [text for metadata in every if (text := metadata.get("modelspec.trigger_phrase", ""))]
    found |= {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "Dynamic" if one is None else str(one),
        "ss_network_alpha": "Dynamic" if one is None else str(one * scales.pop()),
        "ss_network_args": "{}",
        "ss_output_name": plan.target.stem,
        "modelspec.title": plan.target.stem,
        "modelspec.merged_from": ", ".join(file.path.stem for file in plan.files),
    }
    found |= {"modelspec.trigger_phrase": ", ".join(dict.fromkeys(phrases))} if phrases else {}
    found |= _tags(plan.files)
    sources = {file.path: file.metadata for file in plan.files}
    return with_history(found, "combine", sources, method=plan.method, error=round(errors.relative, 6))


def _tags(files: Sequence[LoraFile]) -> dict[str, str]:
    """The tag counts of all files by folder."""
    found: dict[str, object] = {}
    for file in files:
        try:
            own = json.loads(file.metadata.get("ss_tag_frequency", "{}"))
        except ValueError:
            continue
        if isinstance(own, dict):
            found |= {name if name not in found else f"{name} ({file.path.stem})": tags for name, tags in own.items()}
    return {"ss_tag_frequency": json.dumps(found)} if found else {}


def _told(plan: Combination, ranks: set[int], errors: Errors) -> str:
    layers = f"{len(plan.parts):,} layers; "
    return layers + (errors.text if errors.ranks else "exact")
