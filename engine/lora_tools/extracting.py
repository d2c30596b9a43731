"""The differences of two models' weights, layer by layer, as matrices of low rank or Kronecker products."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.adapter_shapes import Options, kronecker
from engine.adapter_shapes import Place as AdapterPlace
from engine.adapters.files import PRECISIONS
from engine.adapters.metadata import ARCHITECTURE, IMPLEMENTATION, MODEL_SPEC_VERSION
from engine.errors import ModelError, UserError
from engine.finite import is_finite
from engine.lora_tools.changes import chosen_rank, lora_tensors
from engine.lora_tools.extract import Extraction, Target
from engine.lora_tools.low_rank import Svd, exact_svd, frobenius, nearest_kronecker, truncated_svd
from engine.lora_tools.resizing import Errors
from engine.lora_tools.writing import seed_of, with_history, write_lora
from engine.sdxl.parts import Place
from engine.sdxl.weights import read_places
from engine.tools.tool import Report

FAR = 0.5
"""Models whose weights differ by this share of their size are hardly one trained from the other."""


def extract(plan: Extraction, report: Report) -> str | None:
    """Make the file; what came out, or None where a stop was asked for. Memory: one layer of both models, and the file.

    UserError where nothing differs, ModelError where a model holds numbers that are not finite.
    """
    made: dict[str, Tensor] = {}
    errors, changed, own = Errors(), 0.0, 0.0
    dtype = PRECISIONS[plan.precision]  # pyright: ignore[reportArgumentType]
    for place, target in enumerate(plan.targets):
        if report.is_stop_asked():
            return None
        base, change = _change(target)
        size, norm = frobenius(base), frobenius(change.flatten(1))
        changed, own = changed + norm**2, own + size**2
        if norm > plan.settings.least_change * size:
            found = _decomposed(plan, target, change, errors)
            made |= {f"{target.layer.name}.{suffix}": _stored(tensor, dtype) for suffix, tensor in found.items()}
        report.progress(place, len(plan.targets))
    if not made:
        raise UserError("both models are alike in all of these layers, so there is nothing to extract.", "tuned_model")
    if changed > FAR**2 * own:
        what = (
            f"differ by {math.sqrt(changed / own):.0%} of their size, as models do that are not trained from each other"
        )
        report.warn(f"the models {what}: is this the right base?", str(plan.base.path))
    write_lora(plan.target, made, _metadata(plan, errors))
    left_out = len(plan.targets) - len(errors.ranks)
    return f"{len(errors.ranks):,} layers, {left_out:,} alike; {errors.text}"


def _change(target: Target) -> tuple[Tensor, Tensor]:
    """(the base's weight as a matrix, the difference in its stored shape), fp32."""
    base, tuned = _weight(target.base), _weight(target.tuned)
    change = tuned.reshape(base.shape) - base
    if not is_finite(change):
        bad = target.tuned if is_finite(base) else target.base
        what = f"holds numbers that are not finite (NaN or infinite) in the layer {target.layer.name}"
        raise ModelError(f"{what}: the model is broken. Choose another one.", str(bad.path))
    return base.flatten(1), change


def _weight(place: Place) -> Tensor:
    return read_places({"": place}, torch.float32, torch.device("cpu"))[""]


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.dim() else tensor


def _decomposed(plan: Extraction, target: Target, change: Tensor, errors: Errors) -> dict[str, Tensor]:
    """{suffix: tensor} of the layer, fp32."""
    kernel, name = tuple(change.shape[2:]), target.layer.name
    limit = min(plan.ranks.limit(name, kernel), *change.flatten(1).shape)
    if plan.settings.family == "lokr":
        return _kronecker(plan, target, change, limit, errors)
    found = _svd(plan, change.flatten(1), limit, name)
    found = found.first(chosen_rank(found, plan.ranks, limit))
    errors.add(name, found)
    return lora_tensors(found, kernel, 1.0, torch.float32) | {"alpha": torch.tensor(float(found.rank))}


def _svd(plan: Extraction, matrix: Tensor, limit: int, name: str) -> Svd:
    if plan.ranks.rule == "sum":  # it asks for the sum of all singular values
        return exact_svd(matrix)
    return truncated_svd(matrix, limit, seed_of(plan.settings.seed, name), plan.settings.exact)


def _kronecker(plan: Extraction, target: Target, change: Tensor, limit: int, errors: Errors) -> dict[str, Tensor]:
    """One Kronecker product; its large matrix is whole where low rank would save nothing, as LyCORIS has it."""
    name, kernel = target.layer.name, tuple(change.shape[2:])
    options = Options(factor=plan.settings.factor)
    shapes = kronecker(AdapterPlace(tuple(change.shape), limit, options=options))
    small = shapes["lokr_w1"]
    seed = seed_of(plan.settings.seed, name)
    one, two = nearest_kronecker(change.flatten(1), math.prod(kernel), (small[0], small[1]), seed)
    if "lokr_w2" in shapes:
        found, rank = {"lokr_w2": two.reshape(shapes["lokr_w2"])}, limit
    else:
        low = _svd(plan, two, limit, name)
        low = low.first(chosen_rank(low, plan.ranks, limit))
        up, down = low.factors()
        found, two, rank = {"lokr_w2_a": up, "lokr_w2_b": down}, low.matrix(), low.rank
    norm = frobenius(change.flatten(1))
    errors.note(name, frobenius(change.flatten(1) - torch.kron(one, two.contiguous())), norm, rank)
    found = {"lokr_w1": one, **found}
    return {suffix: tensor.contiguous() for suffix, tensor in found.items()} | {"alpha": torch.tensor(float(rank))}


def _metadata(plan: Extraction, errors: Errors) -> dict[str, str]:
    """What programs go by, as a trained LoRA has it."""
    is_lokr = plan.settings.family == "lokr"
    arguments: Mapping[str, str] = {}
    if is_lokr:
        arguments = {"algo": "lokr", "factor": str(plan.settings.factor)}
    elif plan.settings.convolutions:
        rank = str(plan.ranks.conv_rank or plan.ranks.rank)
        arguments = {"conv_dim": rank, "conv_alpha": rank}
    dim = plan.ranks.dim
    found = {
        "ss_v2": "False",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "lycoris.kohya" if is_lokr else "networks.lora",
        "ss_network_dim": dim,
        "ss_network_alpha": dim,
        "ss_network_args": json.dumps(arguments),
        "ss_output_name": plan.target.stem,
        "ss_sd_model_name": plan.base.path.name,
        "modelspec.sai_model_spec": MODEL_SPEC_VERSION,
        "modelspec.architecture": ARCHITECTURE,
        "modelspec.implementation": IMPLEMENTATION,
        "modelspec.title": plan.target.stem,
        "modelspec.prediction_type": "v" if plan.tuned.prediction == "v_prediction" else "epsilon",
    }
    facts = {"kind": plan.settings.family, "ranks": plan.ranks.text, "error": round(errors.relative, 6)}
    return with_history(found, "extract", {plan.tuned.path: {}, plan.base.path: {}}, **facts)
