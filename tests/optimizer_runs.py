"""Two parts of flat parameters and an optimizer over them, with gradients from a seed: for tests of updates."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.adapters.flat import FlatParameters
from engine.adapters.site import Group
from engine.optimizer_arguments import arguments_of
from engine.optimizers import OPTIMIZERS, make_optimizer
from engine.rate_groups import RateGroup
from engine.rate_groups import rate_groups as groups_of_adapter
from engine.sections.optimizer import Optimizer
from engine.updater import Updater

NAMES = sorted(OPTIMIZERS)
# More than 4096 numbers, from which on bitsandbytes uses 8 bits, and gaps behind the matrices
SHAPES = {
    "unet": {"a.down": (4, 96), "a.up": (70, 4), "b.down": (4, 640), "b.up": (640, 4)},
    "text_encoder_1": {"c.down": (4, 8, 3, 3), "c.up": (30, 4, 1, 1), "d.vector": (50,)},
}


def rate_groups(parts: dict[str, FlatParameters], rates: dict[str, float], shaped: bool) -> list[RateGroup]:
    return groups_of_adapter([Group(part, part, 1.0, flat) for part, flat in parts.items()], rates, shaped)


def settings(name: str, **more: object) -> Optimizer:
    return Optimizer.model_validate({"name": name, **more})


def rate_of(name: str) -> float:
    return 1.0 if OPTIMIZERS[name].rate_free else 1e-2


def make_parts() -> dict[str, FlatParameters]:
    """Two parts with numbers from a seed."""
    parts = {part: FlatParameters(shapes, torch.float32) for part, shapes in SHAPES.items()}
    for part, flat in parts.items():
        for view in flat.views().values():
            view.normal_(generator=torch.Generator().manual_seed(len(part)))
    return parts


def make(name: str, **more: object) -> tuple[dict[str, FlatParameters], Updater]:
    """Two parts, and an updater over them."""
    parts, rate = make_parts(), rate_of(name)
    second = rate if OPTIMIZERS[name].one_rate else rate / 3
    groups = rate_groups(parts, {"unet": rate, "text_encoder_1": second}, OPTIMIZERS[name].shaped)
    optimizer = make_optimizer(name, groups, arguments_of(settings(name, **more)))
    return parts, Updater(optimizer, groups, 0.0, False, torch.device("cpu"))


def gradient_of(step: int, part: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A function of step and name alone."""
    number = 1000 * step + sum(map(ord, part + name))
    return torch.randn(shape, generator=torch.Generator().manual_seed(number))


def train(parts: dict[str, FlatParameters], updater: Updater, steps: range) -> None:
    for step in steps:
        updater.begin_step(1.0)
        for part, flat in parts.items():
            flat.vector.grad = torch.zeros_like(flat.vector)
            for name, slot in flat.slots.items():
                slot.of(flat.vector.grad).copy_(gradient_of(step, part, name, slot.shape))
        updater.update(0)


def vectors(parts: dict[str, FlatParameters]) -> list[torch.Tensor]:
    return [flat.vector.detach().clone() for flat in parts.values()]


class NothingIsRead(TorchDispatchMode):
    """Every operation for which the host would have to know a tensor's numbers raises.

    As FakeTensorMode has it, at a tenth of its time; memory that the host reads without an operation (tolist, numpy)
    is asked for by functions, and an index by a mask has a shape that depends on the mask's numbers.
    """

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.")

    def __enter__(self):
        self.functions = _NothingIsHanded()
        self.functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.functions.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        if any(read in name for read in self.READS) or (name.startswith("aten.index") and _has_mask(args)):
            raise AssertionError(f"{func} reads a tensor on the host")
        return func(*args, **(kwargs or {}))


class _NothingIsHanded(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__):
            raise AssertionError(f"{func.__name__} reads a tensor on the host")
        return func(*args, **(kwargs or {}))


def _has_mask(args) -> bool:
    return any(
        isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)
        for indices in args[1:2]
        if isinstance(indices, (list, tuple))
        for index in indices
    )
