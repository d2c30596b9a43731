"""Optimizers by name, and their state as tensors and plain JSON, so that a resumed run goes on bit for bit."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.errors import MissingPackage, UserError

NOT_STATE = ("params", "fused", "foreach", "capturable", "differentiable")  # of this process and its device


@dataclass(frozen=True)
class OptimizerSettings:
    """Numbers that every optimizer here takes. Learning rates are those of the parameter groups."""

    weight_decay: float
    betas: tuple[float, float]
    epsilon: float


def make_optimizer(
    name: str, groups: Sequence[dict[str, Any]], *, weight_decay: float, betas: tuple[float, float], epsilon: float
) -> torch.optim.Optimizer:
    """The optimizer `name` (a key of OPTIMIZERS) over groups of {"params": [...], "lr": rate}.

    Raises MissingPackage if the package that holds it does not work here.
    """
    return OPTIMIZERS[name](list(groups), OptimizerSettings(weight_decay, betas, epsilon))


def _adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2), all parameters in one kernel.

    On CUDA it can be captured in a graph, and each learning rate is a tensor there, to be filled between replays.
    """
    device = torch.device(groups[0]["params"][0].device)
    capturable = device.type == "cuda"
    if capturable:
        groups = [{**group, "lr": torch.tensor(float(group["lr"]), device=device)} for group in groups]
    return torch.optim.AdamW(
        groups,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=device.type in ("cuda", "cpu", "mps", "xpu"),
        capturable=capturable,
    )


def _adamw_8bit(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW with moments in blocks of 8-bit numbers (Dettmers et al. 2022, arXiv 2110.02861)."""
    return _bitsandbytes().optim.AdamW8bit(
        groups, betas=settings.betas, eps=settings.epsilon, weight_decay=settings.weight_decay
    )


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]], OptimizerSettings], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_8bit": _adamw_8bit,
}


def _bitsandbytes() -> Any:
    """The package, imported when first asked for: what it prints about optional kernels is of no use to the user."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            import bitsandbytes
    except Exception as error:  # a broken build raises whatever its loader raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"8-bit optimizers need bitsandbytes, which does not load here ({reason}). Use adamw, or run ./setup.sh."
        )
        raise MissingPackage(message, "optimizer.name") from error
    finally:
        logger.setLevel(level)
    return bitsandbytes


def pack_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Everything the optimizer remembers: tensors by name (not copied), and the rest as plain JSON.

    Parameters are known by their number, counted through the groups. A tensor that several parameters share is
    given once.
    """
    tensors: dict[str, torch.Tensor] = {}
    names: dict[int, str] = {}
    states = [
        _packed(optimizer.state.get(parameter), str(number), tensors, names)
        for number, parameter in enumerate(_parameters(optimizer))
    ]
    groups = [
        {
            key: _packed(value, f"group.{number}.{key}", tensors, names)
            for key, value in group.items()
            if key not in NOT_STATE
        }
        for number, group in enumerate(optimizer.param_groups)
    ]
    return tensors, {"states": states, "groups": groups}


def unpack_state(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    """Give a fresh optimizer of the same kind and parameters what `pack_state` returned, bit for bit.

    Goes past `load_state_dict`, which casts moments to the precision of the parameters. Raises UserError if the number
    of parameters or groups differs.
    """
    parameters = _parameters(optimizer)
    if len(parameters) != len(meta["states"]) or len(optimizer.param_groups) != len(meta["groups"]):
        message = (
            f"the saved optimizer state is of {len(meta['states'])} parameters in {len(meta['groups'])} groups "
            f"(got {len(parameters)} in {len(optimizer.param_groups)}). Resume with the preset that the run began with."
        )
        raise UserError(message, "resume")
    shared: dict[str, torch.Tensor] = {}
    for parameter, packed in zip(parameters, meta["states"], strict=True):
        if packed is not None:
            optimizer.state[parameter] = _unpacked(packed, tensors, parameter.device, shared)
    for group, packed in zip(optimizer.param_groups, meta["groups"], strict=True):
        for key, value in packed.items():
            restored = _unpacked(value, tensors, group["params"][0].device, shared)
            fills = isinstance(group.get(key), torch.Tensor) and not isinstance(restored, torch.Tensor)
            group[key] = group[key].fill_(restored) if fills else restored


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _packed(value: Any, name: str, tensors: dict[str, torch.Tensor], names: dict[int, str]) -> Any:
    """Plain JSON for a value of optimizer state; its tensors go to `tensors`, each object once."""
    if isinstance(value, torch.Tensor):
        known = names.setdefault(id(value), name)
        tensors[known] = value.detach()
        return {"tensor": known}
    if isinstance(value, dict):
        return {"dict": {key: _packed(part, f"{name}.{key}", tensors, names) for key, part in value.items()}}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(part, f"{name}.{number}", tensors, names) for number, part in enumerate(value)]}
    return value


def _unpacked(
    value: Any, tensors: dict[str, torch.Tensor], device: torch.device, shared: dict[str, torch.Tensor]
) -> Any:
    """The value that `_packed` took, with copies of its tensors on `device`; shared ones stay shared."""
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "tensor":
        if content not in shared:
            shared[content] = tensors[content].clone().to(device)
        return shared[content]
    if kind == "dict":
        return {key: _unpacked(part, tensors, device, shared) for key, part in content.items()}
    parts = [_unpacked(part, tensors, device, shared) for part in content]
    return tuple(parts) if kind == "tuple" else parts
