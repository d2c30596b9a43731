"""From gradients to an update of the adapter, without waiting for the device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from engine.adapters.flat import FlatParameters, total_norm
from engine.optimizer_arguments import arguments_of
from engine.optimizers import OPTIMIZERS, make_optimizer
from engine.rate_groups import RateGroup, rate_groups
from engine.rounding import RoundedStep, make_rounded
from engine.undo import Undo

if TYPE_CHECKING:
    from engine.adapters.attach import Adapter
    from engine.preset import Preset

INITIAL_LOSS_SCALE = 2.0**16
GROWTH_INTERVAL_STEPS = 2000


def make_updater(preset: Preset, adapter: Adapter, dtype: torch.dtype, device: torch.device) -> Updater:
    """What updates the adapter with the preset's optimizer and rates. `dtype`: what the model computes in.

    The adapter's numbers lie in bf16 from here on where the preset asks for it.
    """
    settings = preset.optimizer
    rates = {group.part: getattr(settings, f"{group.part}_rate") for group in adapter.groups}
    sums = preset.run.accumulation * preset.run.gpus > 1
    rounding = make_rounded(adapter, preset.memory.adapter_precision, preset.run.seed, sums)
    groups = rate_groups(adapter.groups, rates, OPTIMIZERS[settings.name].shaped, rounding)
    optimizer = make_optimizer(settings.name, groups, arguments_of(settings))
    return Updater(optimizer, groups, settings.clip_norm, dtype == torch.float16, device, rounding)


class Updater:
    """Turns gradients into an update: unscale, clip, leave out when not finite, step.

    In fp16 the loss is scaled (Micikevicius et al. 2018, arXiv 1710.03740): halved after an overflow, doubled after
    2,000 steps without. Scale and its counter are tensors on the device, so that nothing waits for them. Nor does
    the update, but for optimizers that wait themselves (`waits`), and in the first step, which makes their memory.

    Schedule-free optimizers train on other weights than those that are good to use (Defazio et al. 2024, arXiv
    2405.15682, equation 3). The adapter holds the former only between `begin_step` and the end of `update`: whatever
    saves, samples or looks at it between steps finds the averaged weights, without having to ask.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[RateGroup],
        clip_norm: float,
        scaled: bool,
        device: torch.device,
        rounding: RoundedStep | None = None,
    ) -> None:
        """`optimizer` as `make_optimizer` made it over `groups`. `scaled`: the loss is multiplied by `scale`.

        `rounding`: where the trained numbers lie in bf16, the steps over their segments.
        """
        self.optimizer = optimizer
        self.rounding = rounding
        self.groups = groups
        self.flats = [group.flat for group in groups]
        self._rates = {group.name: group.rate for group in groups}
        self.clip_norm = clip_norm
        self.scaled = scaled
        self.scale = torch.tensor(INITIAL_LOSS_SCALE if scaled else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        self.skips_on_device = bool(optimizer.defaults.get("fused"))
        # Those that find their rate read it back each step, and paged ones have no room for a copy of their memory
        self.waits = any("d" in group for group in optimizer.param_groups) or getattr(optimizer, "is_paged", False)
        self._has_memory = False
        self.averages = callable(getattr(optimizer, "eval", None))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The vectors that are trained now; frozen ones are left out."""
        return [flat.vector for flat in self.flats if flat.vector.requires_grad]

    def begin_step(self, factor: float, frozen: Collection[str] = ()) -> None:
        """Set the learning rates of this step, `factor` times those of the groups. Comes before its forward pass.

        `frozen`: groups that are not trained any more.
        """
        rates = {group.name: 0.0 if group.name in frozen else group.rate * factor for group in self.groups}
        self._rates = rates
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rates[group["name"]])
            else:
                group["lr"] = rates[group["name"]]
        if self.averages:
            with self._frozen_as_they_are():
                self.optimizer.train()  # pyright: ignore[reportAttributeAccessIssue]
            self._changed()

    def update(self, step: int) -> torch.Tensor:
        """Make update number `step` (from 0); returns the gradient's norm before clipping.

        Where that is not finite the update was left out.
        """
        held = self._holding_gradients()
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        if self.scaled:
            torch._foreach_mul_(gradients, 1.0 / self.scale)
        norm = total_norm(gradients)
        finite = torch.isfinite(norm)
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(held, self.clip_norm, norm, foreach=True)
        self._step(step, finite)
        if self.scaled:
            self._adapt_scale(finite)
        for vector in held:
            vector.grad = None
        self.optimizer.zero_grad(set_to_none=True)
        if self.averages:
            with self._frozen_as_they_are():
                self.optimizer.eval()  # pyright: ignore[reportAttributeAccessIssue]
        self._changed()
        return norm

    def rates(self) -> dict[str, float]:
        """The learning rate in force of each group; times its own estimate, for an optimizer that finds its rate."""
        found = dict(self._rates)  # not from the optimizer's groups: on a GPU that would wait for it
        for group in self.optimizer.param_groups:
            if "d" in group:
                found[group["name"]] = self._rates[group["name"]] * float(group["d"])
        return found

    def _holding_gradients(self) -> list[torch.nn.Parameter]:
        """The parameters that have gradients: the vectors, or their segments in bf16."""
        held = self.parameters
        if self.rounding is not None:
            self.rounding.take_gradients()
            held = [part for parts in self.rounding.parts for part in parts]
        return [parameter for parameter in held if parameter.grad is not None]

    def _step(self, step: int, finite: torch.Tensor) -> None:
        """The optimizer's step, if the gradients are finite."""
        for group in self.groups:
            for view in group.views:
                view.take_gradient()
        if self._waits():
            if bool(finite):
                self._make_step(step)
        elif self.skips_on_device:
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self._make_step(step)
        else:
            undo = Undo(self.parameters, self.optimizer)
            self._make_step(step)
            undo.unless(finite)

    def _make_step(self, step: int) -> None:
        if self.rounding is None:
            self.optimizer.step()
        else:
            self.rounding.step(self.optimizer, step)

    def _waits(self) -> bool:
        """Whether the device is waited for: always (see `waits`), and until the optimizer has made its memory."""
        if not self._has_memory:
            views = (view for group in self.groups if group.flat.vector.requires_grad for view in group.views)
            self._has_memory = all(self.optimizer.state.get(view.parameter) for view in views)
        return self.waits or not self._has_memory

    @contextmanager
    def _frozen_as_they_are(self) -> Iterator[None]:
        """Vectors that are not trained any more stay at the averaged weights, in a step as well."""
        kept = [(vector, vector.clone()) for vector in (flat.vector.detach() for flat in self._frozen())]
        yield
        for vector, before in kept:
            vector.copy_(before)

    def _frozen(self) -> list[FlatParameters]:
        return [flat for flat in self.flats if not flat.vector.requires_grad]

    def _changed(self) -> None:
        for flat in self.flats:
            flat.changed()

    def _adapt_scale(self, finite: torch.Tensor) -> None:
        good = torch.where(finite, self.good_steps + 1, torch.zeros_like(self.good_steps))
        grown = good >= GROWTH_INTERVAL_STEPS
        factor = torch.where(finite, torch.where(grown, 2.0, 1.0), 0.5)
        self.scale.mul_(factor)
        self.good_steps.copy_(torch.where(grown, torch.zeros_like(good), good))
