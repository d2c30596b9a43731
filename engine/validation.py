"""The loss on pictures that are not trained: the same noise and timesteps each time, so that values can be compared.

Everything random here is a function of (validation.seed, picture), and no generator of the training is touched: a run
with validation has the very weights of one without.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine import events
from engine.caption_source import CaptionSource
from engine.data import order
from engine.draws import draw_below, draw_fraction
from engine.latent_source import Cut, LatentSource
from engine.objective import Objective
from engine.plan import Plan
from engine.plan_images import ImagePlan
from engine.preset import Preset
from engine.processes import Processes
from engine.report import Reporter
from engine.sdxl.latents import draw_latents
from engine.sdxl.noise import add_noise, target
from engine.sdxl.unet import predict, size_ids
from engine.stopping import Stopping
from engine.text_source import TextSource

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Course:
    """What the validations so far came to: the last step measured, the best, and how many since were no better."""

    step: int = -1
    best_step: int = 0
    best_loss: float = math.inf
    waited: int = 0

    def after(self, step: int, loss: float, least_improvement: float) -> Course:
        """The course with one more value. Step 0, where nothing was learned yet, is no candidate for the best."""
        if step == 0:
            return dataclasses.replace(self, step=0)
        better = math.isfinite(loss) and (
            not math.isfinite(self.best_loss) or loss < self.best_loss * (1 - least_improvement)
        )
        if better:
            return Course(step, step, loss, 0)
        return dataclasses.replace(self, step=step, waited=self.waited + 1)

    def content(self) -> dict[str, Any]:
        """Plain JSON for a state; JSON knows no infinity."""
        return {**dataclasses.asdict(self), "best_loss": self.best_loss if self.best_step else None}

    @classmethod
    def of(cls, content: Mapping[str, Any] | None) -> Course:
        """The course in a state; a new one where the state was saved without validation."""
        if not content:
            return cls()
        known = {each.name for each in dataclasses.fields(cls)}
        found = {key: value for key, value in content.items() if key in known and value is not None}
        return cls(**found)


def band_edges(low: int, high: int, bands: int) -> list[int]:
    """Timesteps low … high - 1 in `bands` parts of nearly one size: bands + 1 limits."""
    return [low + (high - low) * band // bands for band in range(bands + 1)]


class Gauge:
    """Measures the model as it is now on the plan's validation pictures."""

    def __init__(
        self, preset: Preset, plan: Plan, objective: Objective, latents: LatentSource, text: TextSource
    ) -> None:
        self.seed = preset.validation.seed
        noise = preset.noise
        self.edges = band_edges(
            noise.min_timestep, max(noise.max_timestep, noise.min_timestep + 1), preset.validation.bands
        )
        entries = [order.Entry(image.bucket_px, 1) for image in plan.validation]
        batches = order.epoch_batches(entries, preset.run.batch_size, self.seed, epoch=0)
        chosen = batches[: preset.validation.most_batches or len(batches)]
        self.batches = [tuple(plan.validation[index] for index in batch) for batch in chosen]
        self.captions = CaptionSource(preset, plan)
        self.objective = objective
        self.latents = latents
        self.text = text

    @property
    def images(self) -> int:
        return sum(len(batch) for batch in self.batches)

    @torch.no_grad()
    def band_losses(self, unet: UNet2DConditionModel) -> Iterator[torch.Tensor]:
        """After each batch the sums of the losses so far, fp32 [bands], on the device; nothing waits for it.

        A picture's loss is the plain mean squared error of the prediction, without the weights and tricks of the
        training loss, so that runs with other losses can be compared.
        """
        sums = torch.zeros(len(self.edges) - 1, device=unet.device)
        for images in self.batches:
            latents, noise = self._latents_and_noise(images, unet.device)
            features = self.text.features([self.captions.steady(image) for image in images])
            rows, pooled = features.rows.to(unet.device), features.pooled.to(unet.device)
            ids = [size_ids(image.size_px, image.crop_left_top_px, image.bucket_px) for image in images]
            sizes = torch.stack(ids).to(unet.device)
            for band in range(len(sums)):
                timesteps = torch.tensor([self._timestep(image, band) for image in images]).to(unet.device)
                noisy = add_noise(self.objective.schedule, latents, noise, timesteps)
                wanted = target(self.objective.schedule, self.objective.prediction, latents, noise, timesteps)
                predicted = predict(unet, noisy, timesteps, rows, pooled, sizes)
                sums[band] += (predicted.float() - wanted).square().mean((1, 2, 3)).sum()
            yield sums

    def _latents_and_noise(
        self, images: tuple[ImagePlan, ...], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, 4, h, w] each; the draw from the VAE's posterior and the noise depend on the picture only."""
        moments = self.latents.moments(images, [Cut(image.crop_left_top_px, False) for image in images])
        shape = (2, 4, *moments.shape[-2:])
        draws = [
            torch.randn(shape, generator=torch.Generator().manual_seed(draw_below(2**63, *self._key(image))))
            for image in images
        ]
        draw, noise = torch.stack(draws, dim=1)
        return draw_latents(moments.to(device), draw.to(device)), noise.to(device)

    def _timestep(self, image: ImagePlan, band: int) -> int:
        low, high = self.edges[band], self.edges[band + 1]
        return low + int(draw_fraction(*self._key(image), "timestep", band) * (high - low))

    def _key(self, image: ImagePlan) -> tuple[str | int, ...]:
        return ("validation", self.seed, image.key)


class Validator:
    """Measures when it is due, remembers the best, and says when the run may end early."""

    def __init__(self, preset: Preset, plan: Plan, gauge: Gauge, report: Reporter) -> None:
        self.settings = preset.validation
        self.steps = frozenset(plan.validation_steps)
        self.gauge = gauge
        self.report = report
        self.course = Course()

    def is_due(self, step: int) -> bool:
        """Whether to measure after step number `step`, and that was not done yet."""
        return step in self.steps and step != self.course.step

    @property
    def is_exhausted(self) -> bool:
        """Whether patience has run out."""
        return 0 < self.settings.patience <= self.course.waited

    @property
    def reason(self) -> str:
        """Why the run ended early; empty where it did not."""
        if not self.is_exhausted:
            return ""
        return (
            f"{self.course.waited} validations in a row brought nothing better than that of step "
            f"{self.course.best_step} ({self.course.best_loss:.5f})"
        )

    def measure(
        self,
        step: int,
        unet: UNet2DConditionModel,
        those: tuple[Stopping, Processes],
        keep_best: Callable[[int], None],
    ) -> None:
        """Measure and tell; `keep_best` is called where it is the best so far. A stop leaves it undone.

        Of several processes the first one measures and the others hear what came of it.
        """
        stopping, processes = those
        if processes.is_first:
            self._measure(step, unet, stopping, keep_best)
        self.course = processes.tell(self.course)

    def _measure(
        self, step: int, unet: UNet2DConditionModel, stopping: Stopping, keep_best: Callable[[int], None]
    ) -> None:
        begun_seconds = time.monotonic()
        stage, self.report.stage_name = self.report.stage_name, "Validating"
        sums = torch.zeros(self.settings.bands)
        for done, sums in enumerate(self.gauge.band_losses(unet), start=1):  # noqa: B007 - the last is used
            if stopping.asked:
                self.report.stage_name = stage
                return
            self.report.progress(done, len(self.gauge.batches))
        self.report.stage_name = stage
        bands = [total / self.gauge.images for total in sums.tolist()]
        loss = sum(bands) / len(bands)
        self.course = self.course.after(step, loss, self.settings.least_improvement)
        self._tell(step, loss, bands, time.monotonic() - begun_seconds)
        if self.course.best_step == step and step and self.settings.keep_best:
            keep_best(step)

    def _tell(self, step: int, loss: float, bands: list[float], seconds: float) -> None:
        course = self.course
        self.report.emit(
            events.Validated(
                step=step,
                loss=loss,
                bands=list(bands),
                edges=self.gauge.edges,
                best_step=course.best_step,
                best_loss=course.best_loss if course.best_step else None,
                images=self.gauge.images,
                seconds=seconds,
            )
        )
        best = " (best so far)" if step and course.best_step == step else ""
        self.report.say(f"step {step}: validation loss {loss:.5f}{best}")
