"""Optimizers by name, and their state as tensors and plain JSON, so that a resumed run goes on bit for bit."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from engine.atomic import write_text_whole
from engine.errors import MissingPackage, UserError
from engine.optimizer_arguments import TABLE
from engine.optimizer_kinds import OPTIMIZERS, Kind
from engine.rate_groups import RateGroup

__all__ = ["OPTIMIZERS", "check_device", "make_optimizer", "pack_state", "unpack_state"]

NOT_STATE = ("params", "fused", "foreach", "capturable", "differentiable")  # of this process and its device
# Arguments that are no choice of a run: how it computes, and what has a setting of its own
_NOT_FOR_USERS = {
    *NOT_STATE, "self", "lr", "weight_decay", "maximize", "optim_bits", "args", "is_paged", "kwargs", "warmup_steps",
    "dampening", "adamw_lr", "adamw_wd", "data_format",
}  # fmt: skip
_FLOATS = ("momentum", "t_alpha", "t_beta3")  # numbers whose default is written as a whole one or None


def make_optimizer(name: str, groups: Sequence[RateGroup], arguments: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer `name` (a key of OPTIMIZERS) over the groups, with `arguments` as `arguments_of` makes them.

    Each of its param_groups carries the "name" of its group. Raises MissingPackage if the package that holds it does
    not work here, UserError where it refuses its arguments or the groups' rates.
    """
    kind = OPTIMIZERS[name]
    rates = {group.rate for group in groups}
    if kind.one_rate and len(rates) > 1:
        found = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise UserError(f"{name} trains everything at one learning rate (got {found}). Give equal rates.", "optimizer")
    made = [
        {"params": [view.parameter for view in group.views], "lr": group.rate, "name": group.name} for group in groups
    ]
    device = groups[0].views[0].parameter.device
    if name == "muon":
        made = _by_shape(groups, arguments["weight_decay"])
    keywords = dict(arguments)
    if kind.source.startswith("torch.optim:"):
        made, keywords = _capturable(made, keywords, device)
    optimizer_class = _class_of(name, kind)
    try:
        with _quiet():
            return optimizer_class(made, lr=max(rates), **keywords)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"{name} refuses these numbers: {error}", "optimizer.extra") from error


def check_device(name: str, device: torch.device) -> None:
    """Raise UserError where this optimizer cannot work on the device."""
    if OPTIMIZERS[name].gpu_only and device.type != "cuda":
        remedy = name.removeprefix("paged_")
        what = f"{name} moves its memory between a GPU and main memory, and this run is on {device.type}. Use {remedy}."
        raise UserError(what, "optimizer.name")


def _capturable(
    groups: list[dict[str, Any]], keywords: dict[str, Any], device: torch.device
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """torch's own: one kernel for all parameters where the device has it.

    On CUDA AdamW can be captured in a graph, and each learning rate is a tensor there, filled between replays.
    """
    keywords["fused"] = device.type in ("cuda", "cpu", "mps", "xpu")
    if device.type == "cuda" and "nesterov" not in keywords:
        keywords["capturable"] = True
        groups = [{**group, "lr": torch.tensor(float(group["lr"]), device=device)} for group in groups]
    return groups, keywords


def _by_shape(groups: Sequence[RateGroup], weight_decay: float) -> list[dict[str, Any]]:
    """Muon is for matrices (and convolutions, flattened); everything else goes to the AdamW that it brings."""
    found: list[dict[str, Any]] = []
    for group in groups:
        for matrices in (True, False):
            here = [view.parameter for view in group.views if view.is_matrix is matrices]
            if here:
                about = {"lr": group.rate, "name": group.name, "weight_decay": weight_decay}
                found.append({"params": here, **about, "use_muon": matrices})
    return found


def _class_of(name: str, kind: Kind) -> Any:
    """The class, its package imported when first asked for."""
    module, _, attribute = kind.source.partition(":")
    try:
        with _quiet():
            found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a broken build raises whatever its loader raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        package = module.split(".")[0]
        message = f"{name} needs {package}, which does not load here ({reason}). Use adamw, or run ./setup.sh."
        raise MissingPackage(message, "optimizer.name") from error
    return _unwaiting(found) if module.startswith("bitsandbytes") and not kind.gpu_only else found


def _unwaiting(kind: Any) -> Any:
    """bitsandbytes' optimizer without its wait for the GPU after every tensor, which only paged memory needs."""

    class Unwaiting(kind):
        @torch.no_grad()
        def step(self, closure: None = None) -> None:
            if not self.initialized:
                self.check_overrides()
                self.to_gpu()
                self.initialized = True
            for group_number, group in enumerate(self.param_groups):
                for number, parameter in enumerate(group["params"]):
                    if parameter.grad is None:
                        continue
                    if not self.state[parameter]:
                        self.init_state(group, parameter, group_number, number)
                    self.update_step(group, parameter, group_number, number)

    return Unwaiting


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What these packages print about optional kernels and about themselves is of no use to the user."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    finally:
        logger.setLevel(level)


def arguments_in_packages() -> dict[str, dict[str, list[Any]]]:
    """{optimizer: {argument: [type, default]}} as the installed packages have it: what the frozen table must equal."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name, kind in OPTIMIZERS.items():
        parameters = inspect.signature(_class_of(name, kind).__init__).parameters.values()
        described = {
            each.name: _described(each) for each in parameters if each.name not in _NOT_FOR_USERS | {*kind.fixed}
        }
        found[name] = {argument: about for argument, about in described.items() if about}
    return found


def _described(parameter: inspect.Parameter) -> list[Any] | None:
    """[type, default] of an argument; None where it cannot be given as text."""
    default, hint = parameter.default, str(parameter.annotation)
    if parameter.name in _FLOATS or isinstance(default, float):
        return ["float or none" if default is None or "None" in hint else "float", default]
    if default is None:
        return ["float or none", None]
    for kind, word in ((bool, "bool"), (int, "int"), (str, "text")):
        if isinstance(default, kind):
            return [word, default]
    if isinstance(default, tuple) and all(isinstance(part, (int, float)) for part in default):
        return [f"floats {len(default)}", list(default)]
    return None


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
        return {"tensor": known} if value.is_contiguous() else {"tensor": known, "stride": list(value.stride())}
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
            shared[content] = _laid_out(tensors[content].clone().to(device), value.get("stride"))
        return shared[content]
    if kind == "dict":
        return {key: _unpacked(part, tensors, device, shared) for key, part in content.items()}
    parts = [_unpacked(part, tensors, device, shared) for part in content]
    return tuple(parts) if kind == "tuple" else parts


def _laid_out(tensor: torch.Tensor, stride: list[int] | None) -> torch.Tensor:
    """The tensor with its numbers in memory as they were: matrix products round by it (SOAP's bases are turned)."""
    if stride is None:
        return tensor
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


if __name__ == "__main__":
    rows = arguments_in_packages().items()
    lines = [f"{json.dumps(name)}: {json.dumps(arguments)}" for name, arguments in rows]
    write_text_whole(TABLE, "{\n" + ",\n".join(lines) + "\n}\n")
