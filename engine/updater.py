"""From gradients to an update of the adapter, without waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.adapters.flat import total_norm
from engine.rounding import RoundedStep

INITIAL_LOSS_SCALE = 2.0**16
GROWTH_INTERVAL_STEPS = 2000


class Updater:
    """Turns gradients into an update: unscale, clip, leave out when not finite, step.

    In fp16 the loss is scaled (Micikevicius et al. 2018, arXiv 1710.03740): halved after an overflow, doubled after
    2,000 steps without. Scale and its counter are tensors on the device, so that nothing waits for them.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        scaled: bool,
        device: torch.device,
        rounding: RoundedStep | None = None,
    ) -> None:
        """`rounding`: where the trained numbers lie in bf16, the steps over their segments."""
        self.optimizer = optimizer
        self.rounding = rounding
        self.clip_norm = clip_norm
        self.scaled = scaled
        self.scale = torch.tensor(INITIAL_LOSS_SCALE if scaled else 1.0, device=device)
        self.good_steps = torch.zeros((), device=device)
        self.skips_on_device = bool(optimizer.defaults.get("fused"))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """Those that are trained now; frozen ones are left out."""
        found = (parameter for group in self.optimizer.param_groups for parameter in group["params"])
        return [parameter for parameter in found if parameter.requires_grad]

    def set_rates(self, rates: Sequence[float]) -> None:
        """The learning rate of each group for this step."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def update(self, step: int) -> torch.Tensor:
        """Make update number `step` (from 0); returns the gradient's norm before clipping.

        Where that is not finite the update was left out.
        """
        if self.rounding is not None:
            self.rounding.take_gradients()
        held = [parameter for parameter in self.parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in held if parameter.grad is not None]
        if self.scaled:
            torch._foreach_mul_(gradients, 1.0 / self.scale)
        norm = total_norm(gradients)
        finite = torch.isfinite(norm)
        if self.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(held, self.clip_norm, norm, foreach=True)
        if self.skips_on_device:
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.grad_scale = None  # type: ignore[attr-defined]
            self._step(step)
        elif bool(finite):
            self._step(step)
        if self.scaled:
            self._adapt_scale(finite)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _step(self, step: int) -> None:
        if self.rounding is None:
            self.optimizer.step()
        else:
            self.rounding.step(self.optimizer, step)

    def _adapt_scale(self, finite: torch.Tensor) -> None:
        good = torch.where(finite, self.good_steps + 1, torch.zeros_like(self.good_steps))
        grown = good >= GROWTH_INTERVAL_STEPS
        factor = torch.where(finite, torch.where(grown, 2.0, 1.0), 0.5)
        self.scale.mul_(factor)
        self.good_steps.copy_(torch.where(grown, torch.zeros_like(good), good))
