"""Several processes that train one run together, one GPU each: who they are, and the little they say to each other.

Started by `launchers/several.py`, torchrun, accelerate or Slurm, which all tell each process its place by the same
variables. Every process makes the same plan, order and random numbers, computes its shares of each step, and makes the
same update from the same summed gradient; so nothing but that sum travels. Files, events and samples are the first
process's alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from engine.errors import UserError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
PATIENCE = timedelta(hours=12)  # the others wait while the first one draws samples
_BROKEN = ("Connection closed", "Connection reset", "Broken pipe", "imed out", "NCCL")
_LOST = "another process of this run ended, so this one ended too. What was saved is whole; resume the run folder."


class ProcessLost(UserError):  # noqa: N818 - what happened
    """Another process of the run is gone."""

    def __init__(self) -> None:
        super().__init__(_LOST)


@dataclass(frozen=True)
class Processes:
    """`rank` of `count`; `local_rank` counts on this machine and chooses the GPU."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def shares(self, total: int) -> range:
        """Which of a step's `total` shares this process computes."""
        return range(self.rank, total, self.count)

    def tell(self, value: Any) -> Any:
        """The first process's value (plain Python), in every process."""
        if self.count == 1:
            return value
        from torch import distributed

        held = [value]
        with _lost_is_told():
            distributed.broadcast_object_list(held, src=0, group=_control())
        return held[0]

    def gather(self, values: list[Item]) -> list[Item]:
        """The values (plain Python) of all processes, those of the first one first; the same in every process."""
        if self.count == 1:
            return values
        from torch import distributed

        held: list[Any] = [None] * self.count
        with _lost_is_told():
            distributed.all_gather_object(held, values, group=_control())
        return [value for part in held for value in part]

    def any_of(self, *asked: bool) -> tuple[bool, ...]:
        """For each flag whether it is set in any process; every process gets the same answer."""
        if self.count == 1:
            return asked
        import torch
        from torch import distributed

        flags = torch.tensor(asked, dtype=torch.int32)
        with _lost_is_told():
            distributed.all_reduce(flags, distributed.ReduceOp.MAX, group=_control())
        return tuple(bool(flag) for flag in flags.tolist())

    def check_device(self, device: torch.device) -> None:
        """UserError where this machine has fewer GPUs than processes."""
        if self.count == 1 or device.type != "cuda":
            return
        import torch

        here = _number("LOCAL_WORLD_SIZE", self.count)
        if here > torch.cuda.device_count():
            what = f"this machine has fewer GPUs ({torch.cuda.device_count()}) than were asked for (got {here})."
            raise UserError(f"{what} Lower the number, or start the run on several machines.", "run.gpus")

    def wait(self) -> None:
        """Until every process is here."""
        self.any_of(False)

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Sum gradients and the loss (0-dim) over all processes, in one flat all-reduce; returns the summed loss.

        A parameter without a gradient counts as zero, since another process may have one.
        """
        if self.count == 1:
            return loss
        import torch
        from torch import distributed

        gradients = [torch.zeros_like(p, dtype=p.grad_dtype) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.reshape(-1).float() for gradient in gradients), loss.reshape(1).float()])
        with _lost_is_told():
            distributed.all_reduce(flat)
        at = 0
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = flat[at : at + gradient.numel()].view_as(gradient).to(gradient.dtype)
            at += gradient.numel()
        return flat[-1]


ALONE = Processes()


def in_turn(items: Sequence[Item], processes: Processes, prepare: Callable[[Sequence[Item]], Result]) -> Result:
    """Let each process prepare its share of the items into the common cache, then all of them: by then they are there.

    Where the processes have no disk in common, each makes the rest itself.
    """
    if processes.count > 1:
        prepare(share_of(items, processes))
        processes.wait()
    return prepare(items)


def share_of(items: Sequence[Item], processes: Processes) -> Sequence[Item]:
    """The items that this process looks at; every item is in exactly one share."""
    return items[processes.rank :: processes.count]


def count_started() -> int:
    """How many processes were started together, by what the launcher says (1 without a launcher)."""
    return _number("WORLD_SIZE", 1)


def join() -> Processes:
    """This process's place, and the connection to the others; `ALONE` where none was started beside it.

    Raises UserError where the launcher's variables make no sense or the others cannot be reached.
    """
    count = count_started()
    if count <= 1:
        return ALONE
    rank = _number("RANK", -1)
    local_rank = _number("LOCAL_RANK", rank)
    if not 0 <= rank < count:
        raise UserError(f"must be from 0 to {count - 1} (got {rank}). Start through launchers/ or torchrun.", "RANK")
    import torch
    from torch import distributed

    on_gpu = torch.cuda.is_available()
    if on_gpu and local_rank < torch.cuda.device_count():  # else `check_device` says what is wrong
        torch.cuda.set_device(local_rank)
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes cannot reach each other ({error}).", "MASTER_ADDR") from None
    if on_gpu:  # flags and names travel between processors, so that no GPU is waited for
        _CONTROL.append(distributed.new_group(backend="gloo", timeout=PATIENCE))
    return Processes(rank, count, local_rank)


def leave() -> None:
    """Close the connection, if there is one; the others see that this process is gone."""
    if count_started() <= 1:
        return
    from torch import distributed

    _CONTROL.clear()
    if distributed.is_initialized():
        with suppress(RuntimeError):  # another process may be gone already
            distributed.destroy_process_group()


_CONTROL: list[Any] = []


def _control() -> Any:
    return _CONTROL[0] if _CONTROL else None


@contextmanager
def _lost_is_told() -> Iterator[None]:
    """Turns a broken connection into ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in _BROKEN):
            raise ProcessLost from error
        raise


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    try:
        return int(text)
    except ValueError:
        raise UserError(f"must be a whole number (got {text!r}).", name) from None
