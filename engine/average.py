"""A running average of the adapter (EMA): steadier than the last step, for checkpoints, samples and validation.

average ← decay · average + (1 − decay) · weights after each step (Polyak and Juditsky 1992; Karras et al. 2024,
arXiv 2312.02696, section 3). With the warm-up decay is at most (1 + n) / (10 + n) after n steps, so that the start is
soon forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from engine.adapters.attach import Adapter
    from engine.sections.run import Run


@dataclass(frozen=True)
class AverageSettings:
    """`decay` 0: no average. Until `start_step` the average is the weights themselves. `on_cpu`: where it lies."""

    decay: float = 0.0
    warmup: bool = True
    start_step: int = 0
    on_cpu: bool = False

    def decay_at(self, step: int) -> float:
        """The decay of the update after step number `step` (from 1)."""
        steps = step - self.start_step
        if steps <= 0:
            return 0.0
        return min(self.decay, (1 + steps) / (10 + steps)) if self.warmup else self.decay


def average_settings(run: Run) -> AverageSettings:
    """The settings in the form that `Average` takes."""
    return AverageSettings(run.ema_decay, run.ema_warmup, run.ema_start_step, run.ema_device == "cpu")


class Average:
    """The average of an adapter's vectors, in fp32. With decay 0 it holds nothing and does nothing."""

    def __init__(self, adapter: Adapter, settings: AverageSettings) -> None:
        """Starts as the weights are now."""
        self.adapter = adapter
        self.settings = settings
        vectors = adapter.vectors if settings.decay else {}
        self.vectors = {name: self._copied(vector) for name, vector in vectors.items()}

    def update(self, step: int) -> None:
        """Take in the weights as they are after step number `step` (from 1)."""
        share = 1.0 - self.settings.decay_at(step)
        weights = self.adapter.vectors
        for name, average in self.vectors.items():
            average.lerp_(weights[name].detach().to(average.device, average.dtype), share)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside this block the adapter's weights are the average; afterwards they are back, bit for bit."""
        weights = {name: self.adapter.vectors[name].data for name in self.vectors}
        kept = {name: vector.clone() for name, vector in weights.items()}
        try:
            self._fill(weights, self.vectors)
            yield
        finally:
            self._fill(weights, kept)

    def _fill(self, weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            weights[name].copy_(value)
        if values:
            self.adapter.changed()

    def _copied(self, vector: Tensor) -> Tensor:
        device = torch.device("cpu") if self.settings.on_cpu else vector.device
        return vector.detach().to(device, torch.float32, copy=True)

    def tensors(self) -> dict[str, Tensor]:
        """{group: average} for a state; empty where there is none."""
        return dict(self.vectors)

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave; a state without an average leaves it at the weights of that state.

        KeyError or RuntimeError where it is the average of another adapter.
        """
        for name, average in self.vectors.items():
            average.copy_(tensors[name] if tensors else self.adapter.vectors[name].detach())
